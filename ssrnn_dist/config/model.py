"""The model and its learning rule: what `model:` and `feedback:` hold, and the pair as the library's ModelConfig.

Imports pydantic only."""

from typing import Literal

from pydantic import Field, model_validator

from ssrnn_dist.config.base import NonNegativeInt, Section

CellName = Literal["gru"]
FeedbackKind = Literal["exact", "truncated", "stationary", "selective"]
Decay = Literal["linspace", "calibrated"]


class FeedbackConfig(Section):
    """How the gradient flows back through time (Caillon et al., arXiv 2503.23104; docs/method.md)."""

    kind: FeedbackKind = Field(
        "selective",
        description="exact (BPTT), truncated (no flow), stationary (the paper: one fixed diagonal), "
        "selective (the diagonal of each step's Jacobian)",
    )
    refinements: int = Field(
        1, ge=0, le=64, description="sweeps towards exact BPTT; each costs one product and one scan"
    )
    decay: Decay | None = Field(
        None, description="stationary only: linspace (the paper) or calibrated (the running mean of diag J)"
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
        if self.decay == "linspace" and self.refinements:
            raise ValueError(
                f"refinements: {self.refinements} with decay: linspace; its sweeps diverge (docs/method.md): "
                "use decay: calibrated or kind: selective, or refinements: 0"
            )
        return self


class ModelSection(Section):
    """The shape of the language model; the vocabulary's size comes from the corpus."""

    d_model: int = Field(256, ge=1, le=2**20, description="width of the residual stream and of each layer's state")
    n_layers: int = Field(2, ge=1, le=10_000, description="recurrent blocks: LN, RNN, linear; LN, MLP; both residual")
    cell: CellName = Field("gru", description="the recurrent cell")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP over d_model")
    tie_embeddings: bool = Field(True, description="one matrix for the embedding and the output")
    init_seed: NonNegativeInt = Field(0, description="seed of the initial weights, the same for any number of workers")


class ModelConfig(ModelSection):
    """Everything that LanguageModel needs: the shape, the vocabulary and the learning rule."""

    vocab_size: int = Field(ge=2)
    feedback: FeedbackConfig = FeedbackConfig()
