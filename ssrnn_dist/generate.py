"""Text from a checkpoint, a token at a time: the state is all that it remembers, so memory is constant.

Decisions (which token) are pure functions of logits and a generator."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ssrnn_data import TextTokenizer, Utf8Streamer
from ssrnn_dist.checkpoint.load_model import find_checkpoint, load_model
from ssrnn_dist.checkpoint.store import TOKENIZER
from ssrnn_dist.model.language_model import LanguageModel, State
from ssrnn_dist.problems import Problem, UserError

PROMPT_WINDOW = 1024  # tokens of a long prompt that are read at a time


def generate_text(
    checkpoint: str | Path,
    prompt: str = "",
    *,
    max_tokens: int = 256,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Continue a prompt; yields pieces of text as they come, ends at the end of the document or after max_tokens.

    temperature 0: the likeliest token each time.  top_k, top_p: sample among the k likeliest tokens, and among the
    likeliest that hold p of the probability.  UserError for numbers out of range, before anything is read."""
    _check(max_tokens, temperature, top_k, top_p)
    found = find_checkpoint(checkpoint)
    tokenizer = TextTokenizer.from_file(found.folder / TOKENIZER)
    model = load_model(found)
    return _stream(model, tokenizer, prompt, max_tokens, temperature, top_k, top_p, seed)


def _check(max_tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    problems = []
    if max_tokens < 0:
        problems.append(Problem("--max-tokens", f"{max_tokens}", "0 or more is allowed"))
    if not (temperature >= 0 and math.isfinite(temperature)):
        problems.append(Problem("--temperature", f"{temperature}", "0 (the likeliest) or more is allowed"))
    if top_k is not None and top_k < 1:
        problems.append(Problem("--top-k", f"{top_k}", "1 or more is allowed"))
    if top_p is not None and not 0 < top_p <= 1:
        problems.append(Problem("--top-p", f"{top_p}", "more than 0 and at most 1 is allowed"))
    if problems:
        raise UserError(*problems)


@torch.no_grad()
def _stream(
    model: LanguageModel,
    tokenizer: TextTokenizer,
    prompt: str,
    max_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
) -> Iterator[str]:
    generator = torch.Generator().manual_seed(seed)
    logits, state = _read(model, [tokenizer.end_of_text, *tokenizer.encode(prompt)])
    text = Utf8Streamer(tokenizer)
    for _ in range(max_tokens):
        token = choose(logits, temperature, top_k, top_p, generator)
        if token == tokenizer.end_of_text:
            break
        piece = text.push(token)
        if piece:
            yield piece
        logits_BTV, state = model(torch.tensor([[token]]), state)
        logits = logits_BTV[0, -1]
    last = text.finish()
    if last:
        yield last


def _read(model: LanguageModel, tokens: list[int]) -> tuple[Tensor, State]:
    """The logits after a prompt, read in windows so that a long one needs no more memory."""
    state: State = model.zero_state(1)
    logits = torch.empty(0)
    for start in range(0, len(tokens), PROMPT_WINDOW):
        window = torch.tensor([tokens[start : start + PROMPT_WINDOW]])
        logits_BTV, state = model(window, state)
        logits = logits_BTV[0, -1]
    return logits, state


def choose(
    logits_V: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """The next token."""
    if temperature == 0:
        return int(logits_V.argmax())
    ordered, tokens = (logits_V.double() / temperature).sort(descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    if top_k is not None:
        probabilities[top_k:] = 0
    if top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities[before >= top_p * probabilities.sum()] = 0
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])
