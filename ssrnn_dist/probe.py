"""A probe: the rule's gradient beside BPTT's, of the whole model, on a few lanes of the batch.

Imports the model and the engine. Every rank takes part; the sums of squares are pooled over ranks."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from ssrnn_data import Batch
from ssrnn_dist.config import FeedbackConfig
from ssrnn_dist.engine import Engine, LossOf
from ssrnn_dist.feedback import LayerFeedback
from ssrnn_dist.model import LanguageModel
from ssrnn_dist.model.language_model import State

LANES = 4  # of each rank: enough to tell, cheap beside a step


@dataclass(frozen=True)
class Probe:
    """Of the gradient g by the rule and b by BPTT: g·b / ‖g‖‖b‖ and ‖g − b‖ / ‖b‖; the latter for each layer, too."""

    cosine: float
    relative_error: float
    layer_relative_errors: tuple[float, ...]  # of the recurrent layers' own parameters


def probe(engine: Engine, batch: Batch, state: State) -> Probe:
    """Compare the two gradients at the engine's weights; state: this rank's, before the batch. Changes nothing."""
    lanes = slice(0, min(LANES, engine.micro.lanes_here))
    tokens_BT, targets_BT, reset_BT = (
        each[lanes].to(engine.world.device) for each in (batch.tokens_BT, batch.targets_BT, batch.reset_BT)
    )
    arguments = tokens_BT, targets_BT, tuple(layer[lanes] for layer in state), reset_BT
    with torch.device("meta"):
        twin = LanguageModel(engine.model.config)
    names = [f"model.{name}" for name, _ in engine.model.named_parameters()]
    rules = [layer.feedback.copy() for layer in engine.model.recurrent_layers]
    bptt = [LayerFeedback(FeedbackConfig(kind="exact"), rule.d_units, rule.n_states) for rule in rules]
    with engine.whole_parameters() as parameters:
        leaves = {name: p.detach().requires_grad_() for name, p in zip(names, parameters, strict=True)}

        def gradient(feedbacks: list[LayerFeedback]) -> tuple[Tensor, ...]:
            for layer, feedback in zip(twin.recurrent_layers, feedbacks, strict=True):
                layer.feedback = feedback
            with torch.enable_grad():
                nats, _ = functional_call(LossOf(twin), leaves, arguments)
                return torch.autograd.grad(nats, list(leaves.values()))

        sums = torch.stack([_sums(g, b) for g, b in zip(gradient(rules), gradient(bptt), strict=True)])
    prefixes = ["", *(f"model.blocks.{index}.recurrent." for index in range(len(rules)))]
    groups = [sums[[name.startswith(prefix) for name in names]].sum(dim=0) for prefix in prefixes]
    whole, *layers = engine.world.sum(torch.stack(groups))
    return Probe(_cosine(whole), _relative_error(whole), tuple(map(_relative_error, layers)))


def _sums(ours: Tensor, theirs: Tensor) -> Tensor:
    """(4,): g·b, ‖g‖², ‖b‖², ‖g − b‖²."""
    g, b = ours.double().flatten(), theirs.double().flatten()
    return torch.stack([g @ b, g @ g, b @ b, (g - b) @ (g - b)]).cpu()


def _cosine(sums_4: Tensor) -> float:
    product, ours, theirs, _ = sums_4.tolist()
    return product / math.sqrt(ours * theirs) if ours > 0 and theirs > 0 else float("nan")


def _relative_error(sums_4: Tensor) -> float:
    _, _, theirs, apart = sums_4.tolist()
    return math.sqrt(apart / theirs) if theirs > 0 else float("nan")
