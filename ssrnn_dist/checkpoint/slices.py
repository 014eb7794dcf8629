"""Which part of which parameter lies where: pure functions on flat ranges, no tensors and no files.

A parameter is a flat row of numbers; a rank owns a slice of it, and another world owns other slices."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Slice:
    """Elements start … start + length of the flattened parameter `name`."""

    name: str
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length

    def key(self, kind: str) -> str:
        """The tensor's name in a file: `weight/blocks.0.mix.weight@1024`."""
        return f"{kind}/{self.name}@{self.start}"


def parse_key(key: str, length: int) -> tuple[str, Slice]:
    """The kind and the slice that a tensor's name in a file means."""
    kind, _, rest = key.partition("/")
    name, _, start = rest.rpartition("@")
    return kind, Slice(name, int(start), length)


@dataclass(frozen=True)
class Copy:
    """Take `length` elements at `source_start` of a stored slice to `target_start` of a wanted one."""

    source: Slice
    source_start: int
    target_start: int
    length: int


def copies_for(wanted: Slice, stored: Iterable[Slice]) -> list[Copy]:
    """The copies that fill a wanted slice from stored ones; ValueError where they leave a gap.

    Stored slices of one checkpoint never overlap, so their order decides nothing."""
    copies = []
    reached = wanted.start
    for source in sorted(each for each in stored if each.name == wanted.name):
        start, end = max(wanted.start, source.start), min(wanted.end, source.end)
        if start >= end:
            continue
        if start != reached:
            break
        copies.append(Copy(source, start - source.start, start - wanted.start, end - start))
        reached = end
    if reached != wanted.end:
        raise ValueError(f"{wanted.name}: elements {reached} to {wanted.end} are in no file of the checkpoint")
    return copies
