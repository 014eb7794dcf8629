"""The products of a window with block-diagonal recurrent weights: one large product a head, plain ones with one head.

Imports torch only. T time, B batch, H heads, G gates, K units a head, R = H·G·K rows of the weights."""

from torch import Tensor


def through_weights(gates_TBHGK: Tensor, weight_hh_RK: Tensor) -> Tensor:
    """(T, B, H, K): each head's W_hhᵀ times its gates' gradients."""
    n_steps, n_batch, n_heads, _, head_size = gates_TBHGK.shape
    flat_NHR = gates_TBHGK.flatten(-2).flatten(0, 1)
    if n_heads == 1:
        return (flat_NHR[:, 0] @ weight_hh_RK).view(n_steps, n_batch, 1, head_size)
    product_HNK = flat_NHR.transpose(0, 1) @ weight_hh_RK.unflatten(0, (n_heads, -1))
    return product_HNK.transpose(0, 1).unflatten(0, (n_steps, n_batch))


def weight_gradient(gates_TBHGK: Tensor, h_before_TBHK: Tensor) -> Tensor:
    """(R, K): Σ over steps and sequences of (gates' gradients) ⊗ (the hidden state that W_hh met)."""
    gates_NHR, h_NHK = gates_TBHGK.flatten(-2).flatten(0, 1), h_before_TBHK.flatten(0, 1)
    if gates_NHR.shape[1] == 1:
        return gates_NHR[:, 0].t() @ h_NHK[:, 0]
    return (gates_NHR.permute(1, 2, 0) @ h_NHK.transpose(0, 1)).flatten(0, 1)
