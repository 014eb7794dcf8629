"""Slices of parameters, whoever owned them: pure functions, by property."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_dist.checkpoint.slices import Slice, copies_for, parse_key


def cut(name: str, total: int, cuts: list[int]) -> list[Slice]:
    edges = sorted({0, total, *(each % (total + 1) for each in cuts)})
    return [Slice(name, start, end - start) for start, end in itertools.pairwise(edges)]


@given(st.integers(1, 200), st.lists(st.integers(0, 1000)), st.lists(st.integers(0, 1000)))
def test_any_cut_refills_any_other(total: int, old: list[int], new: list[int]) -> None:
    stored = {piece: list(range(piece.start, piece.end)) for piece in cut("a", total, old)}
    others = {piece: [-1] * piece.length for piece in cut("b", total, new)}
    for wanted in cut("a", total, new):
        filled: list[int | None] = [None] * wanted.length
        for copy in copies_for(wanted, [*others, *stored]):
            piece = stored[copy.source][copy.source_start : copy.source_start + copy.length]
            filled[copy.target_start : copy.target_start + copy.length] = piece
        assert filled == list(range(wanted.start, wanted.end))


@pytest.mark.parametrize("stored", [[], [Slice("a", 0, 4)], [Slice("a", 5, 5)], [Slice("a", 0, 4), Slice("a", 5, 5)]])
def test_a_gap_is_an_error(stored: list[Slice]) -> None:
    with pytest.raises(ValueError, match="a: elements"):
        copies_for(Slice("a", 0, 10), stored)


@given(
    st.sampled_from(["weight", "exp_avg"]),
    st.sampled_from(["a.b", "x@3.y", "head/w"]),
    st.integers(0, 9),
    st.integers(1, 9),
)
def test_a_key_says_its_slice(kind: str, name: str, start: int, length: int) -> None:
    piece = Slice(name, start, length)
    assert parse_key(piece.key(kind), length) == (kind, piece)
