"""A run's small files (books, config, summary, report, pictures) kept the same in a store as on this node.

Files and a thread; checkpoints have their own way (checkpoint/places.py). Each file has one writer, who sends it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ssrnn_data.remote.files import Retry
from ssrnn_dist.config.run import RunConfig, local_root
from ssrnn_dist.files import write_bytes_atomic
from ssrnn_dist.storage.remote import PATIENT, RemoteFolder

NOT_MIRRORED = "checkpoints"
OUTBOX = "outbox.jsonl"  # of the tracker
QUICK = Retry(attempts=2, first_seconds=0.5, most_seconds=1.0)  # the next round comes by itself
MOST_BYTES_PER_SECOND = 1 << 20  # of one file: a large one, which is sent whole each time, is sent less often
Seen = tuple[int, int]  # a file's time of change in nanoseconds and its bytes


def wait_before_sending(size_bytes: int, every_seconds: float) -> float:
    """Seconds from one sending of a file to the next."""
    return max(every_seconds, size_bytes / MOST_BYTES_PER_SECOND)


def keeps_local(local: bytes | None, there: bytes) -> bool:
    """Does a local file stay as it is when the store has `there`?  Where it goes on from that, as after a kill.

    Else another cluster has written since, and its file counts."""
    return local is not None and local.startswith(there)


def whole_lines(name: str, data: bytes) -> bytes:
    """Of JSON Lines, which may be caught in the middle of one, the whole ones; other files as they are."""
    return data[: data.rfind(b"\n") + 1] if name.endswith(".jsonl") else data


class RunMirror:
    """The files of one run's folder, here and at remote_folder; those in checkpoints/ and hidden ones are not touched.

    warn: told once when the store begins to fail, in the thread that pushes; the run goes on, and it is tried again."""

    def __init__(
        self, remote_folder: str, folder: Path, warn: Callable[[str], None], every_seconds: float = 10.0
    ) -> None:
        self._remote = RemoteFolder(remote_folder, PATIENT)
        self._folder, self._warn, self._every_seconds = folder, warn, every_seconds
        self._sent: dict[str, Seen] = {}
        self._due: dict[str, float] = {}
        self._failing = False
        self._turn = threading.Lock()

    def pull(self) -> list[str]:
        """At the start: bring here what others have written there; the names of what came.

        What stays is: local files that the store has not, and those that only go on from what it has. RemoteFailed
        where the store does not answer, DataError where it refuses: a run that cannot see its books must not begin new
        ones."""
        came = []
        for name in sorted(self._remote.sizes()):
            if _is_ours(name):
                path = self._folder / name
                there = self._remote.read(name)
                if not keeps_local(path.read_bytes() if path.is_file() else None, there):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_bytes_atomic(path, there)
                    came.append(name)
                if path.stat().st_size == len(there):
                    self._sent[name] = _seen(path)
        return came

    def push(self, final: bool = False) -> None:
        """Send what has changed since it was sent, and is due. final: all that has changed, with patience.

        Never raises for a store or a disk that fails: warn is told."""
        with self._turn:
            remote = self._remote if final else replace(self._remote, retry=QUICK)
            try:
                self._forget_removed(remote)
                for name, path in _files(self._folder):
                    if final or time.monotonic() >= self._due.get(name, 0.0):
                        self._send(remote, name, path)
                self._failing = False
            except (OSError, ValueError) as error:  # DataError and UserError are ValueErrors
                if not self._failing:
                    self._warn(f"the run's files are not copied, and it is tried again: {error}")
                self._failing = True

    def _forget_removed(self, remote: RemoteFolder) -> None:
        """An outbox that was sent and is gone here was delivered: it goes there, too. Nothing else does.

        A folder that somebody removes on this node takes no books away from the store."""
        for name in [name for name in self._sent if name == OUTBOX and not (self._folder / name).exists()]:
            remote.remove(name)
            del self._sent[name]

    def _send(self, remote: RemoteFolder, name: str, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # replaced or removed meanwhile: another round
            seen = _seen(path)
            if seen == self._sent.get(name):
                return
            data = whole_lines(name, path.read_bytes())
            remote.write(name, data)
            self._sent[name] = seen
            self._due[name] = time.monotonic() + wait_before_sending(len(data), self._every_seconds)

    @contextlib.contextmanager
    def pushing(self) -> Iterator[None]:
        """A thread pushes every few seconds while this lasts; in the end all is pushed once more."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(self._every_seconds):
                self.push()

        thread = threading.Thread(target=run, daemon=True, name="ssrnn-mirror")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.push(final=True)


def mirror_of(config: RunConfig, warn: Callable[[str], None]) -> RunMirror | None:
    """What keeps the run's small files the same here as at its URL, those of there brought here; None without a URL.

    DataError or RemoteFailed where the store can't be read."""
    if config.remote_folder is None:
        return None
    mirror = RunMirror(config.remote_folder, config.folder, warn)
    mirror.pull()
    return mirror


def run_folder_at(place: str) -> Path:
    """The folder of a run on this node; of a URL its copy, brought up to date.

    DataError or RemoteFailed where it can't be read."""
    if "://" not in place:
        return Path(place)
    above, _, name = place.rstrip("/").rpartition("/")
    folder = local_root(above) / name
    RunMirror(place, folder, lambda message: None).pull()
    return folder


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for top in sorted(folder.iterdir()):
        if _is_ours(top.name):  # checkpoints come and go while this looks
            for path in [top, *sorted(top.rglob("*"))]:
                name = path.relative_to(folder).as_posix()
                if _is_ours(name) and path.is_file():
                    yield name, path


def _is_ours(name: str) -> bool:
    parts = name.split("/")
    return parts[0] != NOT_MIRRORED and not any(part.startswith(".") for part in parts)


def _seen(path: Path) -> Seen:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
