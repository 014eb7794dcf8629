"""The disk cache: one fetch for all, whole files or none, a limit that holds, and processes that die in the midst."""

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssrnn_data.errors import DataError
from ssrnn_data.remote.cache import CachedFile, DiskCache, to_evict

ROOM = Path(__file__).parents[2] / "data_pipelines"


def make_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def writes(data: bytes) -> Callable[[BinaryIO], None]:
    def fetch(out: BinaryIO) -> None:
        out.write(data)

    return fetch


def never(out: BinaryIO) -> None:
    raise AssertionError("fetched though it is cached")


def read(cache: DiskCache, data: bytes, fetch: Callable[[BinaryIO], None]) -> bytes:
    with cache.open(sha256(data), len(data), fetch) as stream:
        return stream.read()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_once_and_kept(tmp_path: Path) -> None:
    cache, data = DiskCache(tmp_path / "deep" / "cache", 1_000), make_bytes(0, 300)
    assert not cache.contains(sha256(data), 300)
    assert read(cache, data, writes(data)) == data
    assert cache.contains(sha256(data), 300)
    assert not cache.contains(sha256(data), 299)
    assert read(DiskCache(tmp_path / "deep" / "cache", 1_000), data, never) == data
    assert names(tmp_path / "deep" / "cache") == {sha256(data)}


def test_the_empty_file(tmp_path: Path) -> None:
    assert read(DiskCache(tmp_path, 10), b"", writes(b"")) == b""


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1_000)
    a, b, c, d = (make_bytes(seed, 300) for seed in range(4))
    for data in (a, b, c):
        read(cache, data, writes(data))
    read(cache, a, never)
    read(cache, d, writes(d))
    assert names(tmp_path) == {sha256(a), sha256(c), sha256(d)}
    read(cache, c, never)
    large = make_bytes(9, 400)
    read(cache, large, writes(large))
    assert names(tmp_path) == {sha256(c), sha256(d), sha256(large)}


def test_an_evicted_file_that_is_open_can_be_read(tmp_path: Path) -> None:
    cache, a, b = DiskCache(tmp_path, 500), make_bytes(1, 300), make_bytes(2, 300)
    with cache.open(sha256(a), 300, writes(a)) as stream:
        read(cache, b, writes(b))
        assert names(tmp_path) == {sha256(b)}
        assert stream.read() == a


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    others = {"notes.txt", "a" * 63, f"{'a' * 64}.txt", "A" * 64}
    for name in others:
        (tmp_path / name).write_bytes(b"x" * 900)
    cache = DiskCache(tmp_path, 500)
    for seed in range(5):
        data = make_bytes(seed, 300)
        assert read(cache, data, writes(data)) == data
    assert names(tmp_path) == {*others, sha256(make_bytes(4, 300))}


@pytest.mark.parametrize("bad", ["", "../" + "a" * 61, "a" * 63, "A" * 64, "a" * 64 + "\n", "/" + "a" * 63])
def test_names_are_hexadecimal_digits_only(tmp_path: Path, bad: str) -> None:
    cache = DiskCache(tmp_path / "cache", 10)
    for ask in (lambda: cache.open(bad, 1, writes(b"x")), lambda: cache.contains(bad, 1)):
        with pytest.raises(DataError, match="64 hexadecimal digits are allowed"):
            ask()
    assert names(tmp_path) == {"cache"}


def test_a_link_in_the_folder_leads_no_writes_outside(tmp_path: Path) -> None:
    outside, data = tmp_path / "outside", make_bytes(1, 10)
    outside.write_bytes(b"kept")
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / f"{sha256(data)}.part").symlink_to(outside)
    assert read(DiskCache(folder, 100), data, writes(data)) == data
    assert outside.read_bytes() == b"kept"


def test_a_file_above_the_limit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a file of 2,001 bytes came; the cache's limit is 2,000 bytes"):
        DiskCache(tmp_path, 2_000).open("a" * 64, 2_001, never)
    with pytest.raises(DataError, match="a limit of 0 bytes"):
        DiskCache(tmp_path, 0)


def test_a_folder_that_cant_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="can't be written"):
        DiskCache(tmp_path / "file" / "cache", 10)


def test_wrong_bytes_once_are_mended(tmp_path: Path) -> None:
    data = make_bytes(1, 300)
    answers = [data[:-1] + b"!", data]
    assert read(DiskCache(tmp_path, 300), data, lambda out: writes(answers.pop(0))(out)) == data
    assert names(tmp_path) == {sha256(data)}


@pytest.mark.parametrize("wrong", [b"y" * 300, b"x" * 299, b"x" * 301, b""])
def test_wrong_bytes_always_are_an_error_with_both_hashes(tmp_path: Path, wrong: bytes) -> None:
    data, fetched = b"x" * 300, []
    with pytest.raises(DataError, match="twice other bytes came") as caught:
        read(DiskCache(tmp_path, 1_000), data, lambda out: (fetched.append(1), writes(wrong)(out))[1])
    came = wrong if len(wrong) >= 300 else wrong + b"\0" * (300 - len(wrong))
    assert sha256(data) in str(caught.value)
    assert sha256(came) in str(caught.value)
    assert len(fetched) == 2
    assert names(tmp_path) == set()


def test_a_cut_entry_is_fetched_again(tmp_path: Path) -> None:
    cache, data = DiskCache(tmp_path, 1_000), make_bytes(1, 300)
    (tmp_path / sha256(data)).write_bytes(data[:200])
    assert not cache.contains(sha256(data), 300)
    assert read(cache, data, writes(data)) == data
    assert (tmp_path / sha256(data)).read_bytes() == data


def test_an_error_of_the_fetch_passes_and_leaves_nothing(tmp_path: Path) -> None:
    cache, data = DiskCache(tmp_path, 1_000), make_bytes(1, 300)

    def fails(out: BinaryIO) -> None:
        out.write(data[:100])
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cache.open(sha256(data), 300, fails)
    assert names(tmp_path) == set()
    assert read(cache, data, writes(data)) == data


def test_a_full_disk_evicts_and_tries_again_once(tmp_path: Path) -> None:
    cache, old, new = DiskCache(tmp_path, 10_000), make_bytes(1, 300), make_bytes(2, 200)
    tries = []

    def full(out: BinaryIO) -> None:
        tries.append(names(tmp_path))
        raise OSError(errno.ENOSPC, "No space left on device")

    read(cache, old, writes(old))
    with pytest.raises(DataError, match=r"no space left for 200 bytes; free some"):
        cache.open(sha256(new), 200, full)
    assert [sha256(old) in there for there in tries] == [True, False]
    assert names(tmp_path) == set()

    read(cache, old, writes(old))
    answers = [full, writes(new)]
    assert read(cache, new, lambda out: answers.pop(0)(out)) == new
    assert names(tmp_path) == {sha256(new)}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a small disk, as /dev/shm is")
def test_a_really_full_disk_is_one_line() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        size = shutil.disk_usage(place).total + (1 << 20)

        def fetch(out: BinaryIO) -> None:
            os.posix_fallocate(out.fileno(), 0, size)  # the kernel refuses it at once, as it would refuse the writes

        with pytest.raises(DataError, match="no space left for"):
            DiskCache(Path(place), 1 << 60).open("a" * 64, size, fetch)
        assert names(Path(place)) == set()


def test_threads_that_ask_at_once_fetch_once(tmp_path: Path) -> None:
    cache, data = DiskCache(tmp_path, 1_000), make_bytes(1, 300)
    fetched, together = [], threading.Barrier(6)

    def fetch(out: BinaryIO) -> None:
        fetched.append(1)
        time.sleep(0.1)
        out.write(data)

    def ask(_: int) -> bytes:
        together.wait()
        return read(cache, data, fetch)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == [data] * 6
    assert len(fetched) == 1
    assert names(tmp_path) == {sha256(data)}


@pytest.mark.parametrize("seed", range(3))
def test_the_limit_holds_under_threads(tmp_path: Path, seed: int) -> None:
    """Four threads, 20 files of up to the limit's 1,000 bytes each: never more is there, and all bytes are right."""
    files = [make_bytes(seed * 100 + number, size) for number, size in enumerate([40, 90, 300, 450, 1_000] * 4)]
    cache, done, totals = DiskCache(tmp_path, 1_000), threading.Event(), []

    def watch() -> None:
        while not done.wait(0.001):
            with os.scandir(tmp_path) as items:  # names of one moment, and sizes never change
                totals.append(sum(size_of(Path(item.path)) for item in items))

    def ask(worker: int) -> None:
        chance = random.Random(seed * 10 + worker)
        for _ in range(40):
            data = chance.choice(files)
            assert read(cache, data, writes(data)) == data

    with ThreadPoolExecutor(5) as pool:
        watching = pool.submit(watch)
        asking = [pool.submit(ask, worker) for worker in range(4)]
        try:
            for each in asking:
                each.result(60)
        finally:
            done.set()
        watching.result(60)
    assert 0 < max(totals) <= 1_000
    assert 0 < sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1_000
    assert all(len(name) == 64 for name in names(tmp_path))


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


PROCESS = """
import hashlib, random, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ssrnn_data.remote.cache import DiskCache

folder, log, seed, seconds = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
data = random.Random(seed).randbytes(100_000)

def fetch(out):
    with log.open("a") as stream:
        stream.write("fetch\\n")
    out.write(data[:50_000])
    out.flush()
    print("half", flush=True)
    time.sleep(seconds)
    out.write(data[50_000:])

with DiskCache(folder, 150_000).open(hashlib.sha256(data).hexdigest(), len(data), fetch) as stream:
    assert stream.read() == data
print("done", flush=True)
"""


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that fetches the file of a seed into tmp_path / "cache", noting it in tmp_path / "log"."""
    processes = []

    def start_one(seed: int, seconds: float) -> "subprocess.Popen[str]":
        arguments = [str(ROOM), str(tmp_path / "cache"), str(tmp_path / "log"), str(seed), str(seconds)]
        process = subprocess.Popen([sys.executable, "-c", PROCESS, *arguments], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_processes_that_ask_at_once_fetch_once(tmp_path: Path, start: Start) -> None:
    processes = [start(seed=1, seconds=0.5) for _ in range(3)]
    said = [process.communicate(timeout=30)[0].split()[-1] for process in processes]
    assert said == ["done"] * 3
    assert (tmp_path / "log").read_text() == "fetch\n"
    assert names(tmp_path / "cache") == {sha256(make_bytes(1, 100_000))}


def test_after_kill_9_in_the_midst_of_a_fetch_another_goes_on(tmp_path: Path, start: Start) -> None:
    name = sha256(make_bytes(1, 100_000))
    first = start(seed=1, seconds=600)
    assert wait_for_line(first) == "half\n"
    assert names(tmp_path / "cache") == {f"{name}.part", f"{name}.lock"}
    second = start(seed=1, seconds=0)  # waits for the first, or comes after it
    time.sleep(0.3)
    first.kill()
    assert second.communicate(timeout=30)[0].split() == ["half", "done"]
    assert (tmp_path / "log").read_text() == "fetch\n" * 2
    assert names(tmp_path / "cache") == {name}


def test_the_parts_of_killed_processes_are_cleared_and_take_no_room(tmp_path: Path, start: Start) -> None:
    """A part of 100,000 bytes would leave no room for another file under the limit of 150,000."""
    first = start(seed=1, seconds=600)
    assert wait_for_line(first) == "half\n"
    first.kill()
    first.wait(30)
    assert start(seed=2, seconds=0).communicate(timeout=30)[0].split() == ["half", "done"]
    assert names(tmp_path / "cache") == {sha256(make_bytes(2, 100_000))}


def test_a_fetch_waits_for_the_room_that_another_holds(tmp_path: Path) -> None:
    cache, a, b = DiskCache(tmp_path, 1_000), make_bytes(1, 700), make_bytes(2, 700)
    begun, go_on = threading.Event(), threading.Event()

    def slow(out: BinaryIO) -> None:
        begun.set()
        assert go_on.wait(60)
        out.write(a)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(read, cache, a, slow)
        assert begun.wait(60)
        second = pool.submit(read, cache, b, writes(b))
        time.sleep(0.3)
        assert not second.done()
        go_on.set()
        assert (first.result(60), second.result(60)) == (a, b)
    assert names(tmp_path) == {sha256(b)}


ENTRIES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 999), st.integers(0, 50)).map(
        lambda each: CachedFile(each[0], f"{each[1]:03d}", each[2])
    ),
    unique_by=lambda entry: entry.name,
    max_size=12,
)


@given(
    entries=ENTRIES, held_bytes=st.integers(0, 60), wanted_bytes=st.integers(0, 60), limit_bytes=st.integers(120, 300)
)
def test_what_is_evicted(entries: list[CachedFile], held_bytes: int, wanted_bytes: int, limit_bytes: int) -> None:
    """The oldest, no more than are needed, and then all fits."""
    evicted = to_evict(entries, held_bytes, wanted_bytes, limit_bytes)
    kept = sorted(set(entries) - set(evicted))

    def used(files: list[CachedFile]) -> int:
        return held_bytes + wanted_bytes + sum(file.size_bytes for file in files)

    assert used(kept) <= limit_bytes
    assert evicted + kept == sorted(entries)
    assert not evicted or used([evicted[-1], *kept]) > limit_bytes
