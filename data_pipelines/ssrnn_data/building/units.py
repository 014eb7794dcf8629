"""Cuts the sources into units of work, each read by one process; pure.

What a corpus holds doesn't depend on where they are cut.
"""

from collections.abc import Sequence
from dataclasses import replace

from ssrnn_data.sources import SourceFile

_FEWEST_BYTES, _MOST_BYTES, _UNITS = 1 << 20, 64 << 20, 64
_EXPANSION = 4  # of compressed text, roughly
PART_BYTES = 4 << 20


def cut_large(files: Sequence[SourceFile], part_bytes: int = PART_BYTES) -> list[SourceFile]:
    """The files, plain JSON lines of more than part_bytes cut into parts, so that several processes read them."""
    parts: list[SourceFile] = []
    for file in files:
        is_cut = file.is_json_lines and file.compression is None and file.size_bytes > part_bytes
        starts = range(0, file.size_bytes, part_bytes) if is_cut else ()
        for start in starts:
            stop = min(start + part_bytes, file.size_bytes)
            parts.append(replace(file, first_byte=start, last_byte=stop))
        if not is_cut:
            parts.append(file)
    return parts


def expected_text_bytes(file: SourceFile) -> int:
    """How much text a file may hold; only to share out work, and the tokenizer's sample."""
    return file.part_bytes * (_EXPANSION if file.compression or file.is_parquet else 1)


def cut_units(files: Sequence[SourceFile], unit_bytes: int | None = None) -> list[range]:
    """Runs of files of one split and at most unit_bytes of text each, about (None: a 64th of all).

    A larger file is its own unit.
    """
    if unit_bytes is None:
        unit_bytes = min(_MOST_BYTES, max(_FEWEST_BYTES, sum(map(expected_text_bytes, files)) // _UNITS))
    units: list[range] = []
    start, size = 0, 0
    for place, file in enumerate(files):
        expected = expected_text_bytes(file)
        if place > start and (size + expected > unit_bytes or file.split != files[start].split):
            units.append(range(start, place))
            start, size = place, 0
        size += expected
    units.append(range(start, len(files)))
    return units


def sampled_bytes(files: Sequence[SourceFile]) -> int:
    """How much text there may be to sample: that of files without a split of their own."""
    return sum(expected_text_bytes(file) for file in files if file.split is None)


def sample_quotas(files: Sequence[SourceFile], units: Sequence[range], sample_bytes: int) -> list[int]:
    """The bytes of text that each unit gives to the tokenizer's sample: its share of sample_bytes, one at the least."""
    expected = [sampled_bytes([files[place] for place in unit]) for unit in units]
    total = max(1, sum(expected))
    return [max(1, min(size * sample_bytes // total, sample_bytes)) for size in expected]
