"""The sections of a run that say what it costs and where its numbers go.

Each field is read somewhere; its unit is in its name; imports pydantic only."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ssrnn_dist.config.base import Section


class TrackingSection(Section):
    """Where MLflow keeps the run."""

    uri: str | None = Field(None, description="MLflow tracking server; null: SQLite in run_root")
    experiment: str = Field("ssrnn", min_length=1)
    project: str | None = Field(None, min_length=1, description="what `ssrnn cost` sums runs by; null: the experiment")
    tags: dict[str, str] = Field({}, description="more tags of the MLflow run")
    report: bool = Field(True, description="draw cost.html now and then, and report.html and its pictures at the end")
    system_metrics: bool = Field(True, description="processor, memory and GPU of each node, in the run")
    register_model: str | None = Field(
        None, min_length=1, description="name in MLflow's model registry for the finished model; null: none"
    )

    @model_validator(mode="after")
    def a_server_can_be_asked(self) -> "TrackingSection":
        if self.uri is not None and is_no_server(self.uri):
            raise ValueError(
                "uri: a server's address without a host or a port that can be; such as http://mlflow:5000 is allowed"
            )
        return self


def is_no_server(uri: str) -> bool:
    """Whether an address is written as a server's, but names no host, or a port that cannot be."""
    if not uri.lower().startswith(("http:", "https:")):
        return False
    try:
        parts = urlsplit(uri)
        return not parts.hostname or parts.port == 0
    except ValueError:  # http://[::1, http://mlflow:port
        return True


class CostSection(Section):
    """What a run costs. Nothing is ever invented: with no price the cost is null."""

    usd_per_worker_hour: float | None = Field(None, ge=0, description="price of one worker for one hour")
    usd_per_node_hour: float | None = Field(None, ge=0, description="or of one node, idle devices and all")
    usd_per_device_hour: float | None = Field(
        None, ge=0, description="or of one GPU, idle ones of our nodes too; without GPUs of one worker"
    )
    price_file: str | None = Field(
        None, description="or a YAML of prices by instance type, node label or accelerator (docs/cost.md)"
    )
    instance_type: str | None = Field(
        None, min_length=1, description="in price_file, of nodes that have no label that says it"
    )
    market: Literal["on_demand", "spot"] = Field(
        "on_demand", description="which of price_file's prices is paid on nodes without the label ray.io/market-type"
    )
    rented: Literal["workers", "cluster"] = Field(
        "workers",
        description="what is paid for: nodes that hold workers, or all of the cluster, head and idle ones too",
    )
    budget_usd: float | None = Field(
        None, gt=0, description="a warning at 80 %, and the end, with a checkpoint, before it is passed"
    )
    grid_gco2_per_kwh: float | None = Field(None, ge=0, description="of the electricity, for the CO2 of a run")

    @property
    def is_priced(self) -> bool:
        return any(price is not None for price in self._prices.values())

    @property
    def _prices(self) -> dict[str, float | str | None]:
        names = ("usd_per_worker_hour", "usd_per_node_hour", "usd_per_device_hour", "price_file")
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def one_price(self) -> "CostSection":
        given = [name for name, price in self._prices.items() if price is not None]
        if len(given) > 1:
            raise ValueError(f"{given[1]}: given beside {given[0]}; one of {', '.join(self._prices)} is allowed")
        if self.instance_type is not None and self.price_file is None:
            raise ValueError(
                "instance_type: given without price_file, whose entry it names; both or neither is allowed"
            )
        if self.budget_usd is not None and not given:
            raise ValueError(
                f"budget_usd: {self.budget_usd} without a price; one of {', '.join(self._prices)} is wanted"
            )
        return self
