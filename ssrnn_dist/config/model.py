"""The model and its learning rule: what `model:` and `feedback:` hold, and the pair as the library's ModelConfig.

Imports pydantic only."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ssrnn_dist.config.base import NonNegativeInt, PositiveInt, Section

FeedbackKind = Literal["exact", "truncated", "stationary", "selective"]
NamedDecay = Literal["linspace", "calibrated", "gaussian", "orthogonal"]
Factor = Annotated[float, Field(ge=-1, le=1)]
Sweeps = Annotated[int, Field(ge=0, le=64)]
NEVER_REFINED: dict[object, str] = {
    "linspace": "its sweeps diverge (docs/method.md)",
    "gaussian": "the paper's ablation is for comparison only",
    "orthogonal": "the paper's ablation is for comparison only",
}


def cell_names() -> list[str]:
    """The cells that there are: a file each, found without importing torch."""
    spec = find_spec("ssrnn_kernels")
    assert spec is not None
    assert spec.submodule_search_locations
    files = Path(spec.submodule_search_locations[0], "cells").glob("*.py")
    return sorted(file.stem for file in files if file.stem != "__init__")


def _is_a_cell(name: str) -> str:
    if name not in cell_names():
        raise ValueError(f"{name!r} is no cell; allowed: {', '.join(cell_names())}")
    return name


CellName = Annotated[str, AfterValidator(_is_a_cell), Field(json_schema_extra={"enum": cell_names()})]


class FeedbackConfig(Section):
    """How the gradient flows back through time (Caillon et al., arXiv 2503.23104; docs/method.md)."""

    kind: FeedbackKind = Field(
        "selective",
        description="exact (BPTT), truncated (no flow), stationary (the paper: one fixed diagonal), "
        "selective (the diagonal of each step's Jacobian)",
    )
    refinements: Sweeps | Literal["auto"] = Field(
        1,
        description="sweeps towards exact BPTT; each costs one product and one scan. auto: as few as keep the "
        "estimated error under `tolerance`, layer by layer, and BPTT where sweeps grow or more than 16 are needed",
    )
    decay: NamedDecay | Factor | list[Factor] | None = Field(
        None,
        description="stationary only: linspace (the paper), calibrated (the running mean of diag J), a number or one "
        "for each state; gaussian and orthogonal are the paper's dense ablations",
    )
    tolerance: float = Field(
        0.02, gt=0, lt=1, description="refinements: auto keeps the estimated relative error of the feedback under this"
    )
    probe_every: PositiveInt | None = Field(
        100, description="steps between probes of the gradient against BPTT's on a few lanes; null: no probes"
    )

    @model_validator(mode="before")
    @classmethod
    def fill_what_the_kind_implies(cls, values: object) -> object:
        """Only `selective` refines unless told to; `stationary` is the paper's unless told otherwise."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        kind = filled.get("kind", "selective")
        if kind == "stationary" and filled.get("decay") is None:
            filled["decay"] = "linspace"
        if kind != "selective":
            filled.setdefault("refinements", 0)
        return filled

    @model_validator(mode="after")
    def combination_is_possible(self) -> "FeedbackConfig":
        if self.decay is not None and self.kind != "stationary":
            raise ValueError(f"decay: {self.decay} with kind: {self.kind}; decay is only for kind: stationary")
        if self.kind in ("exact", "truncated") and self.refinements:
            why = "needs none" if self.kind == "exact" else "has no flow to refine (selective has)"
            raise ValueError(
                f"refinements: {self.refinements} with kind: {self.kind}; {self.kind} {why}: leave refinements at 0"
            )
        if isinstance(self.decay, str) and self.decay in NEVER_REFINED and self.refinements:
            raise ValueError(
                f"refinements: {self.refinements} with decay: {self.decay}; {NEVER_REFINED[self.decay]}: "
                "use decay: calibrated or kind: selective, or refinements: 0"
            )
        return self


class ModelSection(Section):
    """The shape of the language model; the vocabulary's size comes from the corpus."""

    d_model: int = Field(256, ge=1, le=2**20, description="width of the residual stream and of each layer's state")
    n_layers: int = Field(2, ge=1, le=10_000, description="recurrent blocks: LN, RNN, linear; LN, MLP; both residual")
    cell: CellName = Field("gru", description="the recurrent cell")
    n_heads: int = Field(1, ge=1, description="blocks on the diagonal of the recurrent weights; divides d_model")
    output: Literal["h", "hc"] = Field(
        "h", description="what a layer hands on: its hidden state, or all of its state (the paper's LSTM)"
    )
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP over d_model")
    tie_embeddings: bool = Field(True, description="one matrix for the embedding and the output")
    scale_embeddings: bool = Field(
        False, description="the embedding times √d_model; a Transformer needs it (LOG.md), the recurrent cells do not"
    )
    init_seed: NonNegativeInt = Field(0, description="seed of the initial weights, the same for any number of workers")

    @model_validator(mode="after")
    def heads_divide_the_width(self) -> "ModelSection":
        if self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads: {self.n_heads} for d_model: {self.d_model}; n_heads must divide d_model without a rest"
            )
        return self


class ModelConfig(ModelSection):
    """Everything that LanguageModel needs: the shape, the vocabulary and the learning rule."""

    vocab_size: int = Field(ge=2)
    feedback: FeedbackConfig = FeedbackConfig()
