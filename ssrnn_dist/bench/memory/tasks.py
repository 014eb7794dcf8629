"""Five tasks whose answer lies far back, as episodes of tokens with a target where an answer is due.

Pure numpy: an episode is a function of a generator and a length. Where a task comes from is cited beside it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from ssrnn_data import IGNORED_TARGET

Episode = tuple[np.ndarray, np.ndarray]  # tokens and targets, int64, of the length asked for
BLANK, GO, FIRST = 0, 1, 2  # FIRST: the first token that is a symbol of a task's own
COPIED, ALPHABET = 8, 8
PAIRS, KEYS, VALUES = 3, 4, 4
BRACKETS, DEEPEST, KINDS = 24, 6, 2
MODULUS = 5
ASKED = 8


@dataclass(frozen=True)
class Task:
    """An episode of any length from `shortest` on; `chance` is the accuracy of an even guess among the answers."""

    episode: Callable[[Generator, int], Episode]
    vocab_size: int
    shortest: int
    chance: float
    asks: str


def copy(random: Generator, length: int) -> Episode:
    """Symbols, a blank, then the symbols again (Hochreiter and Schmidhuber 1997; Arjovsky et al., arXiv 1511.06464)."""
    tokens, targets = _blank(length)
    symbols = FIRST + random.integers(ALPHABET, size=COPIED)
    tokens[:COPIED] = symbols
    tokens[-COPIED] = GO
    targets[-COPIED:] = symbols
    return tokens, targets


def recall(random: Generator, length: int) -> Episode:
    """Keys with values, a blank, then the keys in another order (Ba et al., arXiv 1610.06258; Arora et al. 2312.04927).

    Three pairs where there is room."""
    tokens, targets = _blank(length)
    pairs = min(PAIRS, length // 3)
    keys = FIRST + random.permutation(KEYS)[:pairs]
    values = FIRST + KEYS + random.integers(VALUES, size=pairs)
    tokens[: 2 * pairs : 2], tokens[1 : 2 * pairs : 2] = keys, values
    asked = random.permutation(pairs)
    tokens[-pairs:], targets[-pairs:] = keys[asked], values[asked]
    return tokens, targets


def brackets(random: Generator, length: int) -> Episode:
    """Brackets of two kinds, blanks between (Dyck-2). After one that closes: which is open now?"""
    tokens, targets = _blank(length)
    opened: list[int] = []
    for place in np.sort(random.permutation(length)[:BRACKETS]):
        opens = not opened or (len(opened) < DEEPEST and random.integers(2) == 0)
        if opens:
            opened.append(int(random.integers(KINDS)))
        kind = opened[-1] if opens else opened.pop()
        tokens[place] = FIRST + kind + (0 if opens else KINDS)
        if opened and not opens:
            targets[place] = FIRST + opened[-1]
    return tokens, targets


def parity(random: Generator, length: int) -> Episode:
    """Bits; asked now and then whether the ones so far are odd (Minsky and Papert 1969)."""
    bits = random.integers(2, size=length)
    return FIRST + bits, _asked(random, FIRST + bits.cumsum() % 2)


def counting(random: Generator, length: int) -> Episode:
    """Bits; asked now and then for the number of ones so far, modulo five (Delétang et al., arXiv 2207.02098)."""
    bits = random.integers(2, size=length)
    return FIRST + MODULUS + bits, _asked(random, FIRST + bits.cumsum() % MODULUS)


def _asked(random: Generator, answers: np.ndarray) -> np.ndarray:
    """Targets at about one position in eight, and at the last."""
    asked = random.integers(ASKED, size=len(answers)) == 0
    asked[-1] = True
    return np.where(asked, answers, IGNORED_TARGET)


def _blank(length: int) -> Episode:
    return np.full(length, BLANK), np.full(length, IGNORED_TARGET)


TASKS = {
    "copy": Task(
        copy, FIRST + ALPHABET, 2 * COPIED, 1 / ALPHABET,
        f"{COPIED} symbols out of {ALPHABET}, a blank, then all of them again",
    ),
    "recall": Task(
        recall, FIRST + KEYS + VALUES, 3, 1 / VALUES,
        f"{PAIRS} pairs of key and value, a blank, then the keys in another order: their values?",
    ),
    "brackets": Task(
        brackets, FIRST + 2 * KINDS, 4, 1 / KINDS,
        f"{BRACKETS} brackets of {KINDS} kinds, at most {DEEPEST} deep, with blanks between; after one that closes: "
        "which is open now?",
    ),
    "parity": Task(parity, FIRST + 2, 2, 1 / 2, f"bits; at one position in {ASKED}: are the ones so far odd?"),
    "counting": Task(
        counting, FIRST + MODULUS + 2, 2, 1 / MODULUS,
        f"bits; at one position in {ASKED}: how many ones so far, modulo {MODULUS}?",
    ),
}  # fmt: skip
