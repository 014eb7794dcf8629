"""Memory of a worker by part, at the moment of a step when it is most: pure.

Written down from the allocations of DeepSpeed 0.19.8 around our model; a test counts them again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ssrnn_dist.engine import REDUCE_BUCKET_NUMBERS
from ssrnn_dist.model.chunked_loss import LOGITS_PER_CHUNK
from ssrnn_launch.plan.workload import Workload

PREFETCH_NUMBERS = 50_000_000  # DeepSpeed's stage3_prefetch_bucket_size: a bound, nothing is asked for
LIVE_NUMBERS = 1_000_000_000  # … and its stage3_max_live_parameters
PARTS = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "saved_state",
    "logits",
    "gathered_weights",
    "checkpoint",
    "framework",
    "allocator",
)


@dataclass(frozen=True)
class Split:
    """How the model's state is dealt over the workers, and on what."""

    workers: int
    zero_stage: int
    partition_ranks: int | None = None
    offload: bool = False  # are master weights and moments elsewhere than with the model?
    on_gpu: bool = False


@dataclass(frozen=True)
class Base:
    """What a worker holds before there is a model, and what its allocator holds beyond live tensors.

    Measured; 0 where nothing is known."""

    framework_bytes: int = 0
    allocator_fraction: float = 0.0  # of what comes and goes within a step


@dataclass(frozen=True)
class Memory:
    """Bytes by part at the fullest moment. passing: of them what comes and goes within a step."""

    parts: Mapping[str, int]
    moment: str
    passing: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def tensors(self) -> int:
        """Without framework and allocator."""
        return self.total - self.parts["framework"] - self.parts["allocator"]


def memory_of(work: Workload, split: Split, base: Base | None = None) -> Memory:
    """What a worker holds, by part, at its fullest moment."""
    base = base or Base()
    lasting = _lasting(work, split)
    found = [_at(name, lasting, passing, base) for name, passing in moments_of(work, split).items()]
    found.append(_at("start", _start(work, split), {}, base))
    return max(found, key=lambda memory: memory.total)


def _at(moment: str, lasting: Mapping[str, int], passing: Mapping[str, int], base: Base) -> Memory:
    parts = {part: lasting.get(part, 0) + passing.get(part, 0) for part in PARTS}
    comes = sum(passing.values())
    parts |= {"framework": base.framework_bytes, "allocator": round(base.allocator_fraction * comes)}
    return Memory(parts, moment, comes)


def host_bytes(work: Workload, split: Split) -> int:
    """What a worker on a GPU holds elsewhere: a checkpoint's copy in RAM, and an optimizer that is offloaded."""
    checkpoint = _checkpoint(work, split) if split.on_gpu else 0
    return checkpoint + (16 * _share(work, split) if split.offload else 0)


def smaller_stages(work: Workload, split: Split, base: Base, room_bytes: float) -> list[int]:
    """Higher ZeRO stages with which a worker would fit into room_bytes."""
    higher = range(split.zero_stage + 1, 4)
    return [s for s in higher if memory_of(work, replace(split, zero_stage=s), base).total <= room_bytes]


def _share(work: Workload, split: Split) -> int:
    return -(-work.parameters // split.workers)


def bucket_bytes(work: Workload) -> int:
    """DeepSpeed's, in which gradients are reduced, as the engine asks for it."""
    return min(REDUCE_BUCKET_NUMBERS, work.parameters) * work.number_bytes


def _lasting(work: Workload, split: Split) -> dict[str, int]:
    """From step to step."""
    number, share = work.number_bytes, _share(work, split)
    dealt = {
        "optimizer": 0 if split.offload else 12 * share,  # float32: master weights, two moments
        "checkpoint": 0 if split.on_gpu else _checkpoint(work, split),
    }
    if split.zero_stage < 3:
        return {"weights": number * work.parameters, **dealt}
    whole = min(split.workers, split.partition_ranks or split.workers)
    second_copy = 0 if split.partition_ranks is None else number * -(-work.parameters // whole)
    weights = number * (share + work.small_parameters) + second_copy
    return {"weights": weights, "gradients": number * share + bucket_bytes(work), **dealt}


def _checkpoint(work: Workload, split: Split) -> int:
    """The copy of what a worker saves, which is written in the background; kept from the first checkpoint on."""
    return 12 * _share(work, split)


def moments_of(work: Workload, split: Split) -> dict[str, dict[str, int]]:
    """What comes and goes within a step, at the moments that can be its fullest."""
    number, share, stage = work.number_bytes, _share(work, split), split.zero_stage
    tokens, head = work.micro_tokens(split.workers), number * work.head_parameters
    gathered = _gathered(work) if stage == 3 else 0
    earlier, bucket = _accumulated(work, split), bucket_bytes(work) if stage < 3 else 0
    kept = {
        "activations": tokens * (number * (work.n_layers * work.layer.kept_activations + 2 * work.layer.d_model) + 8),
        "saved_state": number * tokens * work.n_layers * work.layer.kept_state,
        "gathered_weights": gathered,
    }
    waiting = bucket if split.on_gpu and stage == 1 and earlier else 0  # it is kept between micro-batches
    in_loss = {**kept, "gradients": earlier + waiting + 4 * work.head_parameters, "logits": _logits(work, tokens)}
    in_block = max(head, number * tokens * work.layer.backward)
    turning = {**kept, "gradients": earlier + head + in_block + (bucket if split.on_gpu else 0)}
    ahead = number * min(PREFETCH_NUMBERS, work.parameters - work.head_parameters) if stage == 3 else 0
    temporaries = 0 if split.offload else 12 * share  # the gradient in float32, and two of AdamW's
    return {
        "gathering": {"gathered_weights": gathered + ahead},
        "loss": in_loss,
        "backward begins": turning,
        "backward ends": _backward_ends(work, split, bucket),
        "optimizer step": {"gradients": number * share if stage < 3 else 0, "optimizer": temporaries},
    }


def _logits(work: Workload, tokens: int) -> int:
    """A chunk's logits and log-probabilities in float32; of bf16, too, what the gradients are cast to."""
    chunk = 4 * min(tokens * work.vocab_size, max(LOGITS_PER_CHUNK, work.vocab_size))
    return max(2 * chunk, chunk + chunk // 2 + 2 * work.head_parameters) if work.number_bytes == 2 else 2 * chunk


def _accumulated(work: Workload, split: Split) -> int:
    """Gradients of earlier micro-batches, as they lie between two."""
    if work.micro_batches(split.workers) == 1 or split.zero_stage == 3:
        return 0
    numbers = work.parameters if split.zero_stage == 1 else _share(work, split)
    return work.number_bytes * numbers


def _backward_ends(work: Workload, split: Split, bucket: int) -> dict[str, int]:
    """All gradients stand: by stage 1 a parameter's each, by 2 and 3 in one flat copy that is reduced."""
    number, stage = work.number_bytes, split.zero_stage
    whole, head = number * work.parameters, number * work.head_parameters
    if stage == 1:
        return {"gradients": whole + head + bucket}
    if stage == 2:
        return {"gradients": whole + _accumulated(work, split) + bucket}
    return {"gradients": whole + head, "gathered_weights": _gathered(work)}


def _gathered(work: Workload) -> int:
    """Weights that ZeRO 3 has whole for a while, beside those that it keeps so."""
    return work.number_bytes * min(work.parameters - work.small_parameters, LIVE_NUMBERS)


def _start(work: Workload, split: Split) -> dict[str, int]:
    """Every rank makes all weights in float32 before they are dealt."""
    copies = 2 if split.zero_stage < 3 else 1
    made = max(4, copies * work.number_bytes) * work.parameters
    return {"weights": made, "optimizer": 0 if split.offload else 4 * _share(work, split)}
