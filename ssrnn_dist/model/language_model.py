"""The language model: embedding, residual blocks of a recurrent layer and an MLP, and an output over the vocabulary.

Time-major inside, so that windows need no copies. B batch, T time, D width, V vocabulary, S a layer's state."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssrnn_dist.config.model import ModelConfig, ModelSection
from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_dist.model.chunked_loss import chunked_cross_entropy
from ssrnn_dist.model.layer import RecurrentLayer

State = tuple[Tensor, ...]  # one (B, S) a layer


class Block(nn.Module):
    """x + Linear(RNN(LN x)), then x + MLP(LN x): the paper's block, time-major."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, hidden = config.d_model, max(1, round(config.mlp_ratio * config.d_model))
        self.norm_recurrent = nn.LayerNorm(d)
        self.recurrent = RecurrentLayer(d, d, config.cell, config.n_heads, config.feedback, config.output)
        self.mix = nn.Linear(self.recurrent.d_output, d)
        self.norm_mlp = nn.LayerNorm(d)
        self.mlp_in = nn.Linear(d, hidden)
        self.mlp_out = nn.Linear(hidden, d)

    @property
    def feedback(self) -> LayerFeedback:
        return self.recurrent.feedback

    def forward(self, x_TBD: Tensor, state_BS: Tensor | None, reset_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        y_BTD, new_state_BS = self.recurrent(self.norm_recurrent(x_TBD).transpose(0, 1), state_BS, reset_BT)
        return self._after(x_TBD, y_BTD), new_state_BS

    def chunk(
        self, x_TBD: Tensor, state_BS: Tensor | None, reset_BT: Tensor | None, before_KBS: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """forward over a chunk of a window, as RecurrentLayer.chunk has it."""
        y_BTD, new_state_BS, after_KBS = self.recurrent.chunk(
            self.norm_recurrent(x_TBD).transpose(0, 1), state_BS, reset_BT, before_KBS
        )
        return self._after(x_TBD, y_BTD), new_state_BS, after_KBS

    def _after(self, x_TBD: Tensor, y_BTD: Tensor) -> Tensor:
        x_TBD = x_TBD + self.mix(y_BTD.transpose(0, 1))
        return x_TBD + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x_TBD))))


class LanguageModel(nn.Module):
    """Next-token model. The same config and init_seed give the same weights on every machine and rank."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.init_seed)
            self.embedding = nn.Embedding(config.vocab_size, config.d_model)
            blocks = [Block(config) for _ in range(config.n_layers)]
            self.blocks = nn.ModuleList(blocks)
            self.norm = nn.LayerNorm(config.d_model)
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
            self._scale_down(blocks)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def _scale_down(self, blocks: list[Block]) -> None:
        """Small embeddings (they are the output's weights too), and residual branches that add up to order one."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)
        for block in blocks:
            for branch in (block.mix, block.mlp_out):
                nn.init.normal_(branch.weight, std=(branch.in_features * 2 * len(blocks)) ** -0.5)
                nn.init.zeros_(branch.bias)

    @property
    def blocks_in_order(self) -> list[Block]:
        return [module for module in self.blocks if isinstance(module, Block)]

    @property
    def recurrent_layers(self) -> list[RecurrentLayer]:
        return [module for module in self.modules() if isinstance(module, RecurrentLayer)]

    def forward(
        self, tokens_BT: Tensor, state: State | None = None, reset_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits (B, T, V) and the state after the last token.

        tokens_BT: int64.  state: one (B, S) a layer; None: zeros.  reset_BT: true where a document starts."""
        hidden_TBD, new_state = self._hidden(tokens_BT, state, reset_BT)
        return self.head(hidden_TBD.transpose(0, 1)), new_state

    def loss(
        self, tokens_BT: Tensor, targets_BT: Tensor, state: State | None = None, reset_BT: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Sum of nats of the targets and the new state; the logits exist a chunk at a time.

        targets_BT: int64, −100 where a position does not count."""
        hidden_TBD, new_state = self._hidden(tokens_BT, state, reset_BT)
        targets_N = targets_BT.t().reshape(-1)
        return chunked_cross_entropy(hidden_TBD.flatten(0, 1), self.head.weight, targets_N), new_state

    def _hidden(self, tokens_BT: Tensor, state: State | None, reset_BT: Tensor | None) -> tuple[Tensor, State]:
        if state is not None and len(state) != len(self.blocks):
            raise ValueError(f"state: {len(state)} layers; allowed: {len(self.blocks)}, or None")
        x_TBD = embedded(self.embedding, tokens_BT.t(), self.config)
        new_state = []
        for index, block in enumerate(self.blocks):
            x_TBD, layer_state = block(x_TBD, None if state is None else state[index], reset_BT)
            new_state.append(layer_state)
        return self.norm(x_TBD), tuple(new_state)

    def zero_state(self, n_batch: int) -> State:
        """The state of n_batch sequences before their first token, in the model's dtype and device."""
        weight = self.norm.weight
        return tuple(weight.new_zeros(n_batch, layer.state_size) for layer in self.recurrent_layers)


def embedded(embedding: nn.Embedding, tokens: Tensor, shape: ModelSection) -> Tensor:
    """The tokens' embeddings, times √d_model where the shape says so."""
    x = embedding(tokens)
    return x * shape.d_model**0.5 if shape.scale_embeddings else x


def count_parameters(config: ModelConfig) -> int:
    """Of the model that this config makes, without making it."""
    with torch.device("meta"):
        one_layer = LanguageModel(config.model_copy(update={"n_layers": 1}))
    block = sum(parameter.numel() for parameter in one_layer.blocks.parameters())
    return sum(parameter.numel() for parameter in one_layer.parameters()) + (config.n_layers - 1) * block
