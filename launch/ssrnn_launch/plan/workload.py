"""What a run computes, as numbers: parameters, tensors that a backward keeps, operations. Pure but for one meta model.

Imports the model, whose shapes it reads without making it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ssrnn_dist.config import ModelConfig, RunConfig
from ssrnn_dist.config.sections import TrainSection

PERSISTENT_NUMBERS = 100_000  # DeepSpeed's default: ZeRO 3 keeps tensors of fewer numbers whole on every rank


@dataclass(frozen=True)
class Layer:
    """A block's widths, in numbers a token."""

    d_model: int
    mlp: int
    states: int  # all of the recurrent state
    saved: int  # gates that the feedback reads
    gates: int  # rows of the recurrent weights
    inputs_differ: bool  # is dL/dx another tensor than dL/du?
    copied_output: int  # of a state whose hidden part is copied out for the product after it
    units_a_head: int

    @property
    def kept_state(self) -> int:
        """Recurrent states and saved gates."""
        return self.states + self.saved

    @property
    def kept_activations(self) -> int:
        """What the block's other modules keep: two residual streams, two norms, the MLP on both sides of its GELU."""
        return 4 * self.d_model + 2 * self.mlp + self.copied_output

    @property
    def backward(self) -> int:
        """The most that a block's backward needs beside what was kept, and what it has let go of by then."""
        in_mlp = self.mlp + self.d_model
        in_recurrence = self.states + self.gates * (2 if self.inputs_differ else 1) + 3 * self.d_model
        return max(in_mlp, in_recurrence - 2 * self.mlp - 2 * self.d_model)


@dataclass(frozen=True)
class Workload:
    """A run's model and batch."""

    parameters: int
    product_parameters: int  # of matrices that every token meets: 2 operations each forward, 4 backward
    recurrent_parameters: int  # W_hh, of all layers: its products go step by step
    head_parameters: int
    small_tensors: int  # that ZeRO 3 keeps whole
    small_parameters: int
    n_layers: int
    vocab_size: int
    layer: Layer
    number_bytes: int  # 4, or 2 of bf16
    train: TrainSection

    @property
    def flops_per_token(self) -> float:
        """Of the model: forward, and twice that for BPTT, whatever the rule really does (so MFUs compare)."""
        return 6.0 * self.product_parameters

    def lanes_each(self, workers: int) -> int:
        """Lanes of the busiest worker."""
        return -(-self.train.lanes // workers)

    def micro_lanes(self, workers: int) -> int:
        return min(self.train.micro_batch_lanes or self.train.lanes, self.lanes_each(workers))

    def micro_batches(self, workers: int) -> int:
        return -(-self.lanes_each(workers) // self.micro_lanes(workers))

    def micro_tokens(self, workers: int) -> int:
        return self.micro_lanes(workers) * self.train.sequence_length


def workload_of(config: RunConfig, vocab_size: int) -> Workload:
    """The numbers of a run whose tokenizer has so many entries."""
    from ssrnn_kernels.cells import get_cell
    from ssrnn_kernels.unit_programs import trace_back

    shape, cell = config.model, get_cell(config.model.cell)
    d, states = shape.d_model, cell.N_STATES * shape.d_model
    layer = Layer(
        d_model=d,
        mlp=max(1, round(shape.mlp_ratio * d)),
        states=states,
        saved=cell.N_SAVED * d,
        gates=len(cell.GATES) * d,
        inputs_differ=trace_back(cell).inputs_differ,
        copied_output=d if shape.output == "h" and states > d else 0,
        units_a_head=d // shape.n_heads,
    )
    in_block, outside = _shapes(ModelConfig(**shape.model_dump(), vocab_size=vocab_size, feedback=config.feedback))
    every = [*in_block * shape.n_layers, *outside]
    small = [prod(each) for each in every if prod(each) < PERSISTENT_NUMBERS]
    matrices = [each for each in in_block * shape.n_layers if len(each) == 2]
    return Workload(
        parameters=sum(map(prod, every)),
        product_parameters=sum(map(prod, matrices)) + vocab_size * d,
        recurrent_parameters=shape.n_layers * layer.gates * layer.units_a_head,
        head_parameters=vocab_size * d,
        small_tensors=len(small),
        small_parameters=sum(small),
        n_layers=shape.n_layers,
        vocab_size=vocab_size,
        layer=layer,
        number_bytes=2 if config.train.precision == "bf16" else 4,
        train=config.train,
    )


def _shapes(config: ModelConfig) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """Of the parameters of one block, and of those outside blocks."""
    import torch

    from ssrnn_dist.model import LanguageModel

    with torch.device("meta"):
        model = LanguageModel(config.model_copy(update={"n_layers": 1}))
    in_block = [parameter.shape for parameter in model.blocks.parameters()]
    named = [(name, parameter.shape) for name, parameter in model.named_parameters()]
    return list(in_block), [shape for name, shape in named if not name.startswith("blocks.")]
