"""Text to stored ids: build_corpus beside Hugging Face datasets' map, the same texts, tokenizer and number of tokens.

Fresh processes in turn. RunFailed where the two do not count the same tokens."""

import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrnn_dist.bench.data.fresh import once
from ssrnn_dist.bench.data.peers import BUILDER, Peer
from ssrnn_dist.bench.data.reading import OWN, scratch
from ssrnn_dist.problems import RunFailed


@dataclass(frozen=True)
class Way:
    """Who builds, with how many processes of map (0: the tokenizer's threads)."""

    builder: str
    loader_processes: int


def write_texts(texts: Iterable[str], path: Path) -> int:
    """One {"text": …} a line; the texts' UTF-8 bytes."""
    n_bytes = 0
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            n_bytes += len(text.encode("utf-8"))
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return n_bytes


def measure(
    texts: Path, tokenizer: Path, peer: Peer | None, loader_processes: Sequence[int], rounds: int
) -> dict[Way, list[dict[str, Any]]]:
    """The answers of every round, by way; after the first round of map's ways only the fastest."""
    found: dict[Way, list[dict[str, Any]]] = {}
    ways = [Way(OWN, 0)] + ([Way(BUILDER, n) for n in loader_processes] if peer else [])
    for _ in range(rounds):
        for way in ways:
            python = sys.executable if way.builder == OWN or peer is None else peer.python
            found.setdefault(way, []).append(_one(way, texts, tokenizer, python))
        _compare(found)
        ways = [Way(OWN, 0)] + ([_fastest_map(found)] if peer else [])
    return found


def _one(way: Way, texts: Path, tokenizer: Path, python: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=texts.parent) as folder:
        arguments = {"texts": str(texts), "tokenizer": str(tokenizer), "folder": f"{folder}/built"}
        if way.builder == OWN:
            return once(python, "build", arguments)
        return once(python, "map", {**arguments, "loader_processes": way.loader_processes}, scratch(Path(folder)))


def _compare(found: Mapping[Way, list[dict[str, Any]]]) -> None:
    counts = {each["tokens"] for answers in found.values() for each in answers}
    if len(counts) > 1:
        told = " and ".join(f"{count:,}" for count in sorted(counts))
        raise RunFailed(f"building: {told} tokens of the same texts: nothing is told")


def _fastest_map(found: Mapping[Way, list[dict[str, Any]]]) -> Way:
    return min((way for way in found if way.builder == BUILDER), key=lambda way: found[way][0]["seconds"])


def as_rows(found: Mapping[Way, list[dict[str, Any]]], text_bytes: int) -> list[dict[str, Any]]:
    """Medians; ratio: how many times as fast as each ours is, its loading of the texts not counted."""
    own = statistics.median(each["seconds"] for each in found[Way(OWN, 0)])
    rows = []
    for way, answers in found.items():
        seconds = [each["seconds"] for each in answers]
        with_loading = [each.get("seconds_with_loading", each["seconds"]) for each in answers]
        median = statistics.median(seconds)
        rows.append(
            {
                **vars(way),
                "rounds": len(answers),
                "tokens": answers[0]["tokens"],
                "text_bytes": text_bytes,
                "seconds": median,
                "seconds_least": min(seconds),
                "seconds_most": max(seconds),
                "seconds_with_loading": statistics.median(with_loading),
                "ratio": median / own,
                "ratio_with_loading": statistics.median(with_loading) / own,
            }
        )
    return rows
