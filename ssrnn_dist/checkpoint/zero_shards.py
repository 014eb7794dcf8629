"""What this rank owns under DeepSpeed ZeRO 1, 2 or 3, as slices of named parameters: float32 views to read and write.

The one file that knows DeepSpeed's inside (0.19.8, pinned): every attribute used here is private to it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssrnn_dist.checkpoint.slices import Slice
from ssrnn_dist.engine import Engine

KINDS = ("weight", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Shard:
    """A slice that this rank owns; views (length,) of the float32 master weight and of AdamW's moments."""

    slice: Slice
    tensors: dict[str, Tensor]


class OwnedShards:
    """All shards of this rank's engine. Creating it makes AdamW's state, which DeepSpeed leaves to the first step."""

    def __init__(self, engine: Engine) -> None:
        self._optimizer = engine.deepspeed.optimizer
        self._stage = engine.deepspeed.zero_optimization_stage()
        names = {id(parameter): name for name, parameter in engine.model.named_parameters()}
        self._flats: list[Tensor] = (
            self._optimizer.fp32_partitioned_groups_flat
            if self._stage == 3
            else self._optimizer.single_partition_of_fp32_groups
        )
        for flat in self._flats:
            _make_adam_state(self._optimizer.optimizer.state[flat], flat)
        find = self._partitioned if self._stage == 3 else self._linked
        self.shards = list(find(lambda parameter: names[id(parameter)]))

    def _linked(self, name_of: Callable[[Tensor], str]) -> Iterator[Shard]:
        """ZeRO 1 and 2: each parameter links to its fragment of its group's flat master weight."""
        for flat, group in zip(self._flats, self._optimizer.bit16_groups, strict=True):
            for parameter in group:
                link = parameter._hp_mapping
                if link is not None:
                    here, there = link.lp_fragment_address, link.hp_fragment_address
                    piece = Slice(name_of(parameter), here.start, here.numel)
                    yield Shard(piece, self._views(flat, there.start, there.numel))

    def _partitioned(self, name_of: Callable[[Tensor], str]) -> Iterator[Shard]:
        """ZeRO 3: every parameter is cut evenly over the ranks, the last part padded."""
        for group in self._optimizer.fp16_groups:
            for parameter in group:
                index, offset, size = self._optimizer.grad_position[self._optimizer.get_param_id(parameter)]
                start = self._optimizer._get_param_partition_rank(parameter) * size
                length = min(size, parameter.ds_numel - start)
                if length > 0:
                    piece = Slice(name_of(parameter), start, length)
                    yield Shard(piece, self._views(self._flats[index], offset, length))

    def _views(self, flat: Tensor, start: int, length: int) -> dict[str, Tensor]:
        state = self._optimizer.optimizer.state[flat]
        rows = {"weight": flat.detach(), **{kind: state[kind] for kind in KINDS[1:]}}
        return {kind: row.narrow(0, start, length) for kind, row in rows.items()}

    def set_optimizer_steps(self, steps: int) -> None:
        """How many updates AdamW has made, for its bias correction."""
        for flat in self._flats:
            self._optimizer.optimizer.state[flat]["step"].fill_(float(steps))

    @torch.no_grad()
    def refresh_model(self) -> None:
        """After the master weights were written: bring the weights that the model computes with in line."""
        if self._stage != 3:
            self._optimizer.update_lp_params()
            for index in range(len(self._optimizer.bit16_groups)):
                self._optimizer._update_model_bit16_weights(index)
            return
        for index, flat in enumerate(self._flats):
            self._optimizer.fp16_partitioned_groups_flat[index].data.copy_(flat.data)
            self._optimizer._unflatten_partitioned_parameters(index)
        self._optimizer.invalidate_secondary_tensor()  # hpZ's second copy is of the old weights


def _make_adam_state(state: dict[str, Tensor], flat: Tensor) -> None:
    if state:
        return
    state["step"] = torch.zeros((), dtype=torch.float32)
    state["exp_avg"] = torch.zeros_like(flat, memory_format=torch.preserve_format).detach()
    state["exp_avg_sq"] = torch.zeros_like(flat, memory_format=torch.preserve_format).detach()
