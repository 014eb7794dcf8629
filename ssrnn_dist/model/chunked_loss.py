"""Cross-entropy of a linear output layer in chunks of tokens: the full logits never exist, forward or backward.

The gradients are made while a chunk's logits are at hand. N tokens, D width, V vocabulary."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssrnn_data import IGNORED_TARGET
from ssrnn_dist.feedback.once import refuse_double_backward

LOGITS_PER_CHUNK = 2**22  # elements, 16 MB in float32


def chunked_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Sum of nats of targets under softmax(hidden @ weightᵀ), a float32 scalar (float64 from float64).

    targets_N: int64; −100 is ignored."""
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad):
        return _ChunkedCrossEntropy.apply(hidden_ND, weight_VD, targets_N)
    return sum(
        (_nats(hidden, weight_VD, targets)[0] for hidden, targets in _chunks(hidden_ND, targets_N, weight_VD)),
        start=hidden_ND.new_zeros((), dtype=_accumulate_in(hidden_ND)),
    )


def _accumulate_in(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _chunks(hidden_ND: Tensor, targets_N: Tensor, weight_VD: Tensor) -> list[tuple[Tensor, Tensor]]:
    rows = max(1, LOGITS_PER_CHUNK // weight_VD.shape[0])
    return list(zip(hidden_ND.split(rows), targets_N.split(rows), strict=True)) if len(hidden_ND) else []


def _nats(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """The chunk's sum of nats, and its log-probabilities."""
    logits_NV = (hidden_ND @ weight_VD.t()).to(_accumulate_in(hidden_ND))
    log_probabilities = F.log_softmax(logits_NV, dim=-1)
    return F.nll_loss(log_probabilities, targets_N, ignore_index=IGNORED_TARGET, reduction="sum"), log_probabilities


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        dtype = _accumulate_in(hidden_ND)
        total = hidden_ND.new_zeros((), dtype=dtype)
        grad_hidden = torch.empty_like(hidden_ND)
        grad_weight = torch.zeros_like(weight_VD, dtype=dtype)
        start = 0
        for hidden, targets in _chunks(hidden_ND, targets_N, weight_VD):
            nats, log_probabilities = _nats(hidden, weight_VD, targets)
            total += nats
            counted = targets != IGNORED_TARGET
            grad_logits = log_probabilities.exp_()
            rows = counted.nonzero().squeeze(-1)
            grad_logits[rows, targets[rows]] -= 1
            grad_logits.mul_(counted.unsqueeze(-1))
            low = grad_logits.to(hidden.dtype)
            torch.mm(low, weight_VD, out=grad_hidden[start : start + len(hidden)])
            grad_weight.addmm_(grad_logits.t(), hidden.to(dtype))
            start += len(hidden)
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight_VD.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, Tensor, None]:
        refuse_double_backward()
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_total.to(grad_hidden.dtype), grad_weight * grad_total.to(grad_weight.dtype), None
