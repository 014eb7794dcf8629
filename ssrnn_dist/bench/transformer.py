"""The Transformer that the study compares with: RoPE, GELU, pre-norm; the engine takes it for a LanguageModel.

Imports torch. Written to be a fair rival, not a product. B batch, T time, D width, H heads, K units a head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssrnn_dist.config.model import ModelSection
from ssrnn_dist.model.chunked_loss import chunked_cross_entropy
from ssrnn_dist.model.language_model import embedded

ROPE_BASE = 10_000.0
Cache = tuple[Tensor, ...]  # how many tokens it holds, then keys and values of each layer in turn, (B, H, room, K)


class Attention(nn.Module):
    """Causal self-attention within a document, rotary positions."""

    def __init__(self, d: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query_key_value = nn.Linear(d, 3 * d)
        self.mix = nn.Linear(d, d)

    def forward(self, x_BTD: Tensor, past: Cache, begin: int, mask_BTT: Tensor | None) -> tuple[Tensor, Cache]:
        """(B, T, D), and the keys and values so far. past: (), or those of the `begin` tokens before x."""
        q, k, v = (
            each.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for each in self.query_key_value(x_BTD).chunk(3, dim=-1)
        )
        length = x_BTD.shape[1]
        angles_TK = _angles(begin, length, q.shape[-1], x_BTD.device)
        q, k = _rotated(q, angles_TK), _rotated(k, angles_TK)
        held = (k, v) if not past else tuple(_written(*pair, begin) for pair in zip(past, (k, v), strict=True))
        keys, values = (each[:, :, : begin + length] for each in held)
        causal = mask_BTT is None and length > 1
        mask = None if mask_BTT is None else mask_BTT.unsqueeze(1)
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=causal)
        return self.mix(y.transpose(1, 2).flatten(2)), held


class TransformerBlock(nn.Module):
    """x + attention(LN x), then x + MLP(LN x)."""

    def __init__(self, d: int, n_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attention = Attention(d, n_heads)
        self.mlp_in, self.mlp_out = nn.Linear(d, hidden), nn.Linear(hidden, d)

    def forward(self, x_BTD: Tensor, past: Cache, begin: int, mask_BTT: Tensor | None) -> tuple[Tensor, Cache]:
        y_BTD, held = self.attention(self.norm_attention(x_BTD), past, begin, mask_BTT)
        x_BTD = x_BTD + y_BTD
        return x_BTD + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x_BTD)))), held


class Transformer(nn.Module):
    """Next-token model. shape: what is about recurrence (cell, output) or the output's own matrix does not count."""

    recurrent_layers: tuple[()] = ()

    def __init__(self, shape: ModelSection, vocab_size: int) -> None:
        super().__init__()
        d, hidden = shape.d_model, round(shape.mlp_ratio * shape.d_model)
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(shape.init_seed)
            self.embedding = nn.Embedding(vocab_size, d)
            blocks = [TransformerBlock(d, shape.n_heads, hidden) for _ in range(shape.n_layers)]
            self.blocks = nn.ModuleList(blocks)
            self.norm = nn.LayerNorm(d)
            nn.init.normal_(self.embedding.weight, std=0.02)
            for block in blocks:
                for branch in (block.attention.mix, block.mlp_out):
                    nn.init.normal_(branch.weight, std=(branch.in_features * 2 * len(blocks)) ** -0.5)
                    nn.init.zeros_(branch.bias)

    def forward(self, tokens_BT: Tensor, cache: Cache = (), reset_BT: Tensor | None = None) -> tuple[Tensor, Cache]:
        """Logits (B, T, V), the output tied to the embedding, and the cache to go on with a token at a time."""
        hidden_BTD, cache = self._hidden(tokens_BT, cache, reset_BT)
        return hidden_BTD @ self.embedding.weight.t(), cache

    def loss(
        self, tokens_BT: Tensor, targets_BT: Tensor, state: Cache | None = None, reset_BT: Tensor | None = None
    ) -> tuple[Tensor, Cache]:
        """Sum of nats of the targets, each window by itself: no state comes out."""
        hidden_BTD, _ = self._hidden(tokens_BT, (), reset_BT)
        return chunked_cross_entropy(hidden_BTD.flatten(0, 1), self.embedding.weight, targets_BT.reshape(-1)), ()

    def zero_state(self, n_batch: int) -> Cache:
        return ()

    def _hidden(self, tokens_BT: Tensor, cache: Cache, reset_BT: Tensor | None) -> tuple[Tensor, Cache]:
        if cache and (tokens_BT.shape[1] != 1 or reset_BT is not None):
            raise ValueError("with a cache one token at a time is read, and no document starts")
        x_BTD, begin = embedded(self.embedding, tokens_BT, self.shape), int(cache[0]) if cache else 0
        mask_BTT = None if reset_BT is None else same_document(reset_BT)
        held = [torch.tensor(begin + tokens_BT.shape[1])]
        for index, block in enumerate(self.blocks):
            x_BTD, layer_held = block(x_BTD, cache[2 * index + 1 : 2 * index + 3], begin, mask_BTT)
            held += layer_held
        return self.norm(x_BTD), tuple(held)


def same_document(reset_BT: Tensor) -> Tensor:
    """(B, T, T): may a position look at another?  At itself and at what came before it in its own document."""
    document_BT = reset_BT.long().cumsum(dim=1)
    return (document_BT.unsqueeze(2) == document_BT.unsqueeze(1)).tril()


def _written(held_BHCK: Tensor, new_BHTK: Tensor, begin: int) -> Tensor:
    """The keys or values with new ones from position begin on: in place where there is room, else in twice the room."""
    end = begin + new_BHTK.shape[2]
    if end > held_BHCK.shape[2]:
        n_batch, n_heads, _, head_size = held_BHCK.shape
        roomier = held_BHCK.new_zeros(n_batch, n_heads, 2 * end, head_size)
        roomier[:, :, :begin] = held_BHCK[:, :, :begin]
        held_BHCK = roomier
    held_BHCK[:, :, begin:end] = new_BHTK
    return held_BHCK


def _angles(begin: int, length: int, head_size: int, device: torch.device) -> Tensor:
    """(T, K / 2): position times frequency (Su et al., arXiv 2104.09864)."""
    frequencies = ROPE_BASE ** (-torch.arange(0, head_size, 2, device=device) / head_size)
    return torch.arange(begin, begin + length, device=device).unsqueeze(1) * frequencies


def _rotated(x_BHTK: Tensor, angles_TK: Tensor) -> Tensor:
    first, second = x_BHTK.chunk(2, dim=-1)
    cos, sin = angles_TK.cos().to(x_BHTK.dtype), angles_TK.sin().to(x_BHTK.dtype)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
