"""DeepSpeed ZeRO around a LanguageModel: one optimizer step from a batch of lanes, the same for any number of ranks.

The one file that sets DeepSpeed up; its inside is read in checkpoint/zero_shards.py. B batch, T time, S state."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssrnn_data import Batch
from ssrnn_dist.config.scale import ScaleSection
from ssrnn_dist.config.sections import TrainSection
from ssrnn_dist.feedback import Steering
from ssrnn_dist.model.language_model import LanguageModel, State
from ssrnn_dist.world import World

REDUCE_BUCKET_NUMBERS = 500_000_000  # DeepSpeed's default


class LossOf(nn.Module):
    """Loss as a module's forward: ZeRO 3 gathers parameters where a module is called."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor, state: State | None, reset_BT: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.model.loss(tokens_BT, targets_BT, state, reset_BT)


@dataclass(frozen=True)
class MicroBatches:
    """How a rank's lanes are cut: the same number of micro-batches on every rank, the last ones may be empty."""

    lanes_here: int
    lanes_each: int
    count: int

    def spans(self) -> Iterator[slice]:
        for index in range(self.count):
            start = min(index * self.lanes_each, self.lanes_here)
            yield slice(start, min(start + self.lanes_each, self.lanes_here))


def cut_lanes(lanes: int, lanes_here: int, world_size: int, micro_batch_lanes: int | None) -> MicroBatches:
    """The micro-batches of a rank with lanes_here of all lanes; pure."""
    most = -(-lanes // world_size)
    each = min(micro_batch_lanes or most, most)
    return MicroBatches(lanes_here, each, -(-most // each))


class Engine:
    """The model under DeepSpeed, with AdamW; the hidden state of this rank's lanes stays outside, with the caller."""

    def __init__(
        self, model: LanguageModel, train: TrainSection, scale: ScaleSection, world: World, micro: MicroBatches
    ) -> None:
        self.model, self.world, self.micro = model, world, micro
        self.steering = Steering([layer.feedback for layer in model.recurrent_layers], world.sum)
        self._tokens_per_batch = train.tokens_per_batch
        self.deepspeed, *_ = _deepspeed(world).initialize(
            model=LossOf(model),
            optimizer=_adamw(model, train),
            config=_deepspeed_config(train, scale, micro.count, _numbers_of(model)),
            dist_init_required=False,
        )

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.model.norm.weight.dtype

    def zero_state(self) -> State:
        """The hidden state of this rank's lanes before their first token."""
        return self.model.zero_state(self.micro.lanes_here)

    def prepare(self, batch: Batch, state: State, step: int) -> None:
        """Get the layers' rules ready for an optimizer step; `step` of them are done."""
        if step == 0:
            self._calibrate(batch, state)
        self.steering.before_step(step)

    def step(self, batch: Batch, state: State, learning_rate: float) -> tuple[Tensor, State]:
        """One optimizer step, once prepared.  Returns this rank's sum of nats (not yet reduced) and the state after
        the window.  Where the gradient is not finite nothing is learnt: `stepped` tells."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate
        scale = self.world.size * self.micro.count / self._tokens_per_batch
        nats, after = [], []
        for span in self.micro.spans():
            loss, new_state = self._forward(batch, span, tuple(layer[span] for layer in state))
            self.deepspeed.backward(loss * scale)
            self.deepspeed.step()
            nats.append(loss.detach())
            after.append(tuple(layer.detach() for layer in new_state))
        if self.stepped:
            self.steering.after_step()
        return torch.stack(nats).sum(), tuple(torch.cat(layers) for layers in zip(*after, strict=True))

    @torch.no_grad()
    def nats(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        """The sum of nats of a batch without learning from it, and the state after it; state None: zeros."""
        return self._forward(batch, slice(None), state)

    def _forward(self, batch: Batch, span: slice, state: State | None) -> tuple[Tensor, State]:
        tokens, targets, reset = (
            each[span].to(self.world.device, non_blocking=True)
            for each in (batch.tokens_BT, batch.targets_BT, batch.reset_BT)
        )
        return self.deepspeed(tokens, targets, state, reset)

    @torch.no_grad()
    def _calibrate(self, batch: Batch, state: State) -> None:
        """The first value of a calibrated decay: a forward over the first global batch; no other rule needs it."""
        if not any(layer.calibrates for layer in self.steering.layers):
            return
        with self.steering.observed():
            for span in self.micro.spans():
                self._forward(batch, span, tuple(layer[span] for layer in state))

    @contextmanager
    def whole_parameters(self) -> Iterator[list[nn.Parameter]]:
        """The model's parameters, whole on every rank while this lasts, as ZeRO 3 does not keep them."""
        parameters = list(self.model.parameters())
        with _deepspeed(self.world).zero.GatheredParameters(parameters):  # does nothing to what is whole
            yield parameters

    @property
    def stepped(self) -> bool:
        """Did the last optimizer step happen?  Not where the gradient was not finite."""
        return bool(self.deepspeed.was_step_applied())

    def gradient_norm(self) -> float:
        """The norm of the last step's global gradient, before clipping."""
        return float(self.deepspeed.get_global_grad_norm() or 0.0)


def _deepspeed(world: World) -> Any:
    """DeepSpeed, imported once the device is known: it chooses its accelerator then, and takes seconds.

    It would build a shared-memory op with a C++ compiler; gloo does the same sums without one (LOG.md)."""
    os.environ.setdefault("DS_ACCELERATOR", world.device.type)
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")  # DeepSpeed imports mlflow
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _adamw(model: LanguageModel, train: TrainSection) -> torch.optim.AdamW:
    """AdamW in two groups: matrices with weight decay, vectors without."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=(train.beta1, train.beta2))


def _numbers_of(model: LanguageModel) -> int:
    """Of all parameters, while they are whole: before DeepSpeed has them."""
    return sum(parameter.numel() for parameter in model.parameters())


def _deepspeed_config(train: TrainSection, scale: ScaleSection, micro_batches: int, numbers: int) -> dict[str, Any]:
    """The only place where DeepSpeed's keys are written."""
    return {
        "train_micro_batch_size_per_gpu": 1,  # nominal: the lanes of a micro-batch are ours to count
        "gradient_accumulation_steps": micro_batches,
        "gradient_clipping": train.gradient_clip,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its CPU Adam wants a compiler; torch's is as right
        "zero_optimization": _zero_config(scale, numbers),
        "bf16": {"enabled": train.precision == "bf16", "check_grad_overflow": True},
        "steps_per_print": 2**31,
    }


def _zero_config(scale: ScaleSection, numbers: int) -> dict[str, Any]:
    # DeepSpeed asks for the whole bucket at every stage; more than all gradients together are never in it.
    zero: dict[str, Any] = {"stage": scale.zero_stage, "reduce_bucket_size": min(REDUCE_BUCKET_NUMBERS, numbers)}
    if scale.partition_ranks is not None:
        zero["zero_hpz_partition_size"] = scale.partition_ranks
    if scale.offload != "none":
        zero["offload_optimizer"] = {"device": scale.offload, "pin_memory": scale.gpus_per_worker > 0}
    if scale.offload == "nvme":
        zero["offload_optimizer"]["nvme_path"] = scale.offload_folder
    return zero
