"""Cuts a text of any length into pieces that a tokenizer can take, so that memory stays bounded.

Pure functions of the text: where the blocks that it came in ended makes no difference.
"""

import re
from collections.abc import Iterable, Iterator

PIECE_CHARACTERS = 8_192
_LOOK_BACK = 4_096
_LONG_RUN = re.compile(r"\S{256}|\s{256}")
_SHORT_RUNS = re.compile(r"\S{1,256}\s{0,256}|\s{1,256}")


def cut_pieces(blocks: Iterable[str], limit: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Non-empty pieces of at most `limit` characters; their concatenation is exactly that of the blocks.

    A piece ends before white space that follows something else, where byte-level BPE would begin a new word anyway: the
    ids are those of the text in one piece. Only a word longer than 4,096 characters is cut inside.
    """
    text, start = "", 0
    for block in blocks:
        text, start = text[start:] + block, 0
        while len(text) - start > limit:
            stop = _cut(text, start, limit)
            yield text[start:stop]
            start = stop
    if start < len(text):
        yield text[start:]


def _cut(text: str, start: int, limit: int) -> int:
    for at in range(start + limit, max(start, start + limit - _LOOK_BACK), -1):
        if text[at] in " \n\t\r" and not text[at - 1].isspace():
            return at
    return start + limit


def shorten_words(piece: str) -> list[str]:
    """The piece itself, or parts of it in which no word and no white space is longer than 256 characters.

    For training a tokenizer only: learning merges from one word of millions of characters takes hours.
    """
    return _SHORT_RUNS.findall(piece) if _LONG_RUN.search(piece) else [piece]
