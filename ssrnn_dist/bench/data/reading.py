"""Tokens a second of every reader on one corpus: fresh processes in turn, a rank each, cold then warm, then compared.

A run whose windows are not the corpus's is RunFailed, and nothing is told of any. L lanes, T tokens a window."""

import math
import socket
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssrnn_dist.bench.data.fresh import asked, once, started
from ssrnn_dist.bench.data.peers import Peer
from ssrnn_dist.bench.data.stored import drop_cached_pages, own_windows, packed_windows
from ssrnn_dist.bench.data.tasks.readers import Reading, digests
from ssrnn_dist.problems import RunFailed

OWN = "ssrnn"
_MOST_WARM_EPOCHS = 200


@dataclass(frozen=True)
class Setting:
    """A reader in a world of ranks, each with so many loader processes (0: none, it reads by itself)."""

    reader: str
    world_size: int
    loader_processes: int


@dataclass(frozen=True)
class Speed:
    """Per rank: tokens a second, cold and warm, and the seconds to the cold epoch's first batch."""

    cold_tokens_per_second: float
    warm_tokens_per_second: float
    first_batch_seconds: float


@dataclass(frozen=True)
class Shelf:
    """The corpus as each reader has it: folders by reader, and the shards' ids for comparing."""

    folders: Mapping[str, Path]
    shards: Sequence[np.ndarray]
    lanes: int
    sequence_length: int
    work: Path


def shelve(
    corpus: Path, shards: Sequence[np.ndarray], lanes: int, sequence_length: int, peers: Sequence[Peer], work: Path
) -> Shelf:
    """Writes the same windows in each peer's own format."""
    windows = work / "windows.npy"
    np.save(windows, packed_windows(shards, lanes, sequence_length))

    def write(peer: Peer) -> Path:
        folder = work / peer.name
        arguments = {"reader": peer.name, "windows": str(windows), "folder": str(folder)}
        once(peer.python, "write", arguments, scratch(work))
        return folder

    with ThreadPoolExecutor() as pool:  # nothing is timed yet
        folders = {
            OWN: corpus,
            **{peer.name: folder for peer, folder in zip(peers, pool.map(write, peers), strict=True)},
        }
    return Shelf(folders, shards, lanes, sequence_length, work)


def in_rounds(
    settings: Sequence[Setting], rounds: int, measure_one: Callable[[Setting], Speed]
) -> dict[Setting, list[Speed]]:
    """Every setting in the first round; from then on a reader's fastest number of loader processes in each world."""
    found: dict[Setting, list[Speed]] = defaultdict(list)
    wanted = list(settings)
    for _ in range(rounds):
        for setting in wanted:
            found[setting].append(measure_one(setting))
        wanted = list(best_settings(found))
    return dict(found)


def best_settings(found: Mapping[Setting, Sequence[Speed]]) -> Iterator[Setting]:
    """Of each reader and world the setting that was fastest when warm, in the first round."""
    places: dict[tuple[str, int], Setting] = {}
    for setting, speeds in found.items():
        place = setting.reader, setting.world_size
        best = places.get(place)
        if best is None or speeds[0].warm_tokens_per_second > found[best][0].warm_tokens_per_second:
            places[place] = setting
    yield from places.values()


def as_rows(found: Mapping[Setting, Sequence[Speed]]) -> list[dict[str, Any]]:
    """Medians over the rounds, the spread, and ratios: how many times as fast as each setting ours is in its world."""
    best = set(best_settings(found))
    own = {setting.world_size: _medians(speeds) for setting, speeds in found.items() if setting.reader == OWN}
    rows = []
    for setting, speeds in found.items():
        mine = _medians(speeds)
        warm = [speed.warm_tokens_per_second for speed in speeds]
        rows.append(
            asdict(setting)
            | asdict(mine)
            | {
                "rounds": len(speeds),
                "is_best": setting in best,
                "warm_least": min(warm),
                "warm_most": max(warm),
                "cold_ratio": own[setting.world_size].cold_tokens_per_second / mine.cold_tokens_per_second,
                "warm_ratio": own[setting.world_size].warm_tokens_per_second / mine.warm_tokens_per_second,
            }
        )
    return rows


def _medians(speeds: Sequence[Speed]) -> Speed:
    columns = zip(*(asdict(speed).values() for speed in speeds), strict=True)
    return Speed(*(statistics.median(column) for column in columns))


def measure_setting(shelf: Shelf, python: str, setting: Setting, warm_seconds: float) -> Speed:
    """One world of fresh processes: a cold epoch, warm ones for about so long, and one that is compared."""
    folder = shelf.folders[setting.reader]
    world = range(setting.world_size)
    arguments = [
        {
            "reader": setting.reader,
            "reading": asdict(
                Reading(
                    str(folder), shelf.lanes, shelf.sequence_length, rank, setting.world_size, setting.loader_processes
                )
            ),
        }
        for rank in world
    ]
    port = _free_port()
    environments = [scratch(shelf.work) | _rank_environment(rank, setting.world_size, port) for rank in world]
    with started(python, "read", arguments, environments) as ranks:
        drop_cached_pages(folder)
        cold = asked(ranks, "cold")
        epochs = math.ceil(warm_seconds / max(each["seconds"] for each in cold))
        warm = asked(ranks, "warm", epochs=min(max(1, epochs), _MOST_WARM_EPOCHS))
        _compare(shelf, setting, ranks)
    return Speed(
        statistics.mean(each["tokens"] / each["seconds"] for each in cold),
        statistics.mean(each["tokens"] / each["seconds"] for each in warm),
        max(each["first_batch_seconds"] for each in cold),
    )


def _compare(shelf: Shelf, setting: Setting, ranks: Sequence[Any]) -> None:
    """RunFailed unless the ranks' windows of one more epoch are the corpus's, each once."""
    files = [shelf.work / f"told-{rank}.npy" for rank in range(len(ranks))]
    for rank, file in zip(ranks, files, strict=True):
        rank.ask("told", file=str(file))
    (epoch,) = {rank.answer()["epoch"] for rank in ranks}
    read = np.sort(np.concatenate([np.load(file) for file in files]))
    if setting.reader == OWN:
        windows = own_windows(shelf.shards, shelf.lanes, shelf.sequence_length, 0, epoch)
    else:
        windows = packed_windows(shelf.shards, shelf.lanes, shelf.sequence_length)
    wrong = differing(read, np.sort(digests(windows)))
    if wrong:
        where = f"{setting.reader}, world {setting.world_size}, {setting.loader_processes} loader processes"
        raise RunFailed(
            f"{where}: {wrong:,} of {len(windows):,} windows are missing, foreign or double: nothing is told"
        )


def differing(read_N: np.ndarray, wanted_N: np.ndarray) -> int:
    """How many of two multisets' members have no partner in the other, the larger side's count."""
    values, places = np.unique(np.concatenate([read_N, wanted_N]), return_inverse=True)
    balance = np.bincount(places[: len(read_N)], minlength=len(values)) - np.bincount(
        places[len(read_N) :], minlength=len(values)
    )
    return int(max(balance[balance > 0].sum(), -balance[balance < 0].sum()))


def scratch(work: Path) -> dict[str, str]:
    """What keeps peers' caches and locks within the folder, one thread a rank as torchrun has it, and every hub out."""
    cache = str(work / "cache")
    return {
        "DATA_OPTIMIZER_CACHE_FOLDER": cache, "DATA_OPTIMIZER_DATA_CACHE_FOLDER": cache, "OMP_NUM_THREADS": "1",
        "HF_HOME": cache, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
        "TMPDIR": str(work),
    }  # fmt: skip


def _rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun sets, and litdata's name for a rank."""
    place, world = str(rank), str(world_size)
    return {
        "RANK": place, "LOCAL_RANK": place, "GLOBAL_RANK": place, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world,
        "NNODES": "1", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
