"""Documents made of lines or rows: a pattern says which of them begin one, the others go on with the one before.

Pure functions; nothing is lost and nothing is added.
"""

import re
from collections.abc import Iterable, Iterator

Part = tuple[str, str]  # where it is, and its text


def join_parts(parts: Iterable[Part], starts: re.Pattern[str]) -> Iterator[Part]:
    """The documents that the parts make, one in memory; joined they are the parts, joined.

    A part that `starts` matches from its first character on begins a document. What comes before the first of these is
    a document of its own, but for white space, which goes with what follows it. A document is where its first part is
    that isn't white space.
    """
    where, gathered, is_blank = "", list[str](), True
    for at, text in parts:
        if not is_blank and starts.match(text):
            yield where, "".join(gathered)
            gathered, is_blank = [], True
        if is_blank:
            where, is_blank = at, not text.strip()
        gathered.append(text)
    if gathered:
        yield where, "".join(gathered)


def numbered_lines(pieces: Iterable[str], name: str) -> Iterator[Part]:
    """The lines of a text with their ends, which are newlines only, as `name:number` from 1."""
    number, unfinished = 1, list[str]()
    for piece in pieces:
        head, *rest = piece.split("\n")
        unfinished.append(head)
        for following in rest:
            yield f"{name}:{number}", "".join(unfinished) + "\n"
            number, unfinished = number + 1, [following]
    if last := "".join(unfinished):
        yield f"{name}:{number}", last
