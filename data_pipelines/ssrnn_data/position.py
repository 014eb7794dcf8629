"""Where a training stream stands: a small value, the same on every rank and good at any number of ranks.

Pure; a position is of the next batch that was not yet handed out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ssrnn_data.errors import data_error

VERSION = 1


@dataclass(frozen=True)
class Position:
    """epoch and window (of every lane) come next; tokens_seen is what all lanes together have read before."""

    split: str
    seed: int
    lanes: int
    sequence_length: int
    corpus: str
    epoch: int = 0
    window: int = 0
    tokens_seen: int = 0
    version: int = VERSION

    def next(self, windows: int) -> "Position":
        """The position one batch later, with W windows an epoch."""
        epoch, window = (self.epoch, self.window + 1) if self.window + 1 < windows else (self.epoch + 1, 0)
        seen = self.tokens_seen + self.lanes * self.sequence_length
        return replace(self, epoch=epoch, window=window, tokens_seen=seen)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    def moved_to(self, saved: Mapping[str, Any], windows: int) -> "Position":
        """This stream's start moved to a saved position.

        Raises DataError naming the first thing in which the saved stream differs, or that is no position at all.
        """
        own = self.to_dict()
        if not isinstance(saved, Mapping) or set(saved) != set(own):
            keys = ", ".join(own)
            raise data_error("position", f"{str(saved)[:80]} came", f"a position() of a TokenStream is allowed: {keys}")
        for name in ("version", "corpus", "split", "seed", "lanes", "sequence_length"):
            if saved[name] != own[name]:
                came = f"it is of {name} {saved[name]!r}"
                raise data_error("position", came, f"this stream's {name} is {own[name]!r}, and it must be the same")
        epoch, window, seen = saved["epoch"], saved["window"], saved["tokens_seen"]
        numbers = (epoch, window, seen)
        step = self.lanes * self.sequence_length
        whole = all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)
        if not whole or window >= windows or seen != (epoch * windows + window) * step:
            came = f"epoch {epoch!r}, window {window!r}, tokens_seen {seen!r} don't fit together"
            raise data_error("position", came, f"{windows} windows an epoch of {step:,} tokens each are allowed")
        return replace(self, epoch=epoch, window=window, tokens_seen=seen)
