"""The section of a run that says how many workers there are, and how DeepSpeed shards over them.

Each field is read somewhere; its unit is in its name; imports pydantic only."""

from typing import Literal

from pydantic import Field, model_validator

from ssrnn_dist.config.base import NonNegativeInt, PositiveInt, Section


class ScaleSection(Section):
    """Never changes the mathematics; a run may go on with another."""

    workers: PositiveInt | tuple[PositiveInt, PositiveInt] = Field(
        1, description="ranks: a number, or [min, max] for as many as there is room for, resized while the run lives"
    )
    gpus_per_worker: Literal[0, 1] = Field(0, description="a worker is a rank: it has one GPU or none")
    cpus_per_worker: PositiveInt | None = Field(None, description="CPU threads of a worker; null: an even share")
    accelerator_type: str | None = Field(
        None, min_length=1, description="the GPUs to use, by Ray's name for them, such as H100; null: any"
    )
    zero_stage: Literal[1, 2, 3] = Field(1, description="DeepSpeed ZeRO: what is sharded over the workers")
    partition_ranks: PositiveInt | None = Field(
        None, description="ZeRO 3: neighbouring ranks (a node's) that keep a whole copy of the weights among them (hpZ)"
    )
    offload: Literal["none", "cpu", "nvme"] = Field(
        "none", description="where the optimizer keeps float32 weights and moments: with the model, in RAM, on a disk"
    )
    offload_folder: str | None = Field(None, description="of offload: nvme; a fast local disk of each node")
    max_restarts: NonNegativeInt = Field(3, description="failures of workers that a run survives before it gives up")
    lost_seconds: float = Field(
        12.0, ge=2, le=3600, description="a worker that is not heard of for so long is lost, and the run restarts"
    )
    stall_seconds: float | None = Field(
        600.0, gt=0, description="workers that live but make no step for so long are restarted; null: never"
    )
    resize_seconds: float = Field(
        60.0, ge=0, description="workers that could be added wait until the group has trained for so long"
    )

    @property
    def fewest_workers(self) -> int:
        return self.workers[0] if isinstance(self.workers, tuple) else self.workers

    @property
    def most_workers(self) -> int:
        return self.workers[1] if isinstance(self.workers, tuple) else self.workers

    @model_validator(mode="after")
    def range_is_ascending(self) -> "ScaleSection":
        low, high = self.fewest_workers, self.most_workers
        if low > high:
            raise ValueError(f"workers: [{low}, {high}]; [min, max] with min <= max is allowed")
        return self

    @model_validator(mode="after")
    def partitions_are_of_zero_3(self) -> "ScaleSection":
        ranks = self.partition_ranks
        if ranks is None:
            return self
        if self.zero_stage != 3:
            raise ValueError(
                f"partition_ranks: {ranks} with zero_stage {self.zero_stage}; only ZeRO 3 has them, or null"
            )
        if self.fewest_workers % ranks or self.most_workers % ranks:
            raise ValueError(f"partition_ranks: {ranks}; a divisor of workers ({self.workers}) is allowed, or null")
        return self

    @model_validator(mode="after")
    def a_disk_has_a_folder(self) -> "ScaleSection":
        if self.offload == "nvme" and self.offload_folder is None:
            raise ValueError("offload_folder: missing; offload: nvme wants a folder on a fast local disk of each node")
        if self.offload != "nvme" and self.offload_folder is not None:
            raise ValueError(f"offload_folder: given with offload: {self.offload}; it is for offload: nvme only")
        return self
