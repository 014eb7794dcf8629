"""Run by a test: saves a second checkpoint, killed by SIGKILL before the n-th thing that it does to a file, for each n.

python kill_points.py FOLDER [URL]: prints a line for each kill, the step of the newest whole checkpoint after it, and
what is left beside whole ones once a writer has started anew."""

import os
import signal
import sys
from pathlib import Path

import torch

from ssrnn_dist.checkpoint.places import Contents
from ssrnn_dist.checkpoint.retention import Retention
from ssrnn_dist.checkpoint.slices import Slice
from ssrnn_dist.checkpoint.store import newest_checkpoint
from ssrnn_dist.checkpoint.writer import CheckpointWriter, Destination
from ssrnn_dist.world import joined_world

torch.set_num_threads(1)
TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"weight/a@0": torch.full((1000,), float(step))}


def save(root: Path, url: str | None, steps: range, kill_before: int | None = None) -> None:
    with joined_world(uses_gpu=False) as world:
        writer = CheckpointWriter(Destination(root, url), world, Retention(keep=1))
        if kill_before is not None:
            kill_before_touch(kill_before, root.parent)
        for step in steps:
            writer.start(tensors(step), Contents(step, {}, {"tokenizer.json": b"{}"}))
            writer.wait()


def kill_before_touch(number: int, below: Path) -> None:
    left = [number]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in TOUCHES and str(below) in str(arguments[0]):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(hook)


def look(root: Path, url: str | None) -> str:
    with joined_world(uses_gpu=False) as world:
        found = newest_checkpoint(root, world, url)
        assert found is not None
        step = found.about["step"]
        out = torch.zeros(1000)
        found.read("weight", Slice("a", 0, 1000), out)
        assert (out == step).all()
        CheckpointWriter(Destination(root, url), world, Retention(keep=1))
    return f"{step} {sorted(path.name for path in root.glob('.*'))}"


def forked(call, *arguments) -> int:
    """The exit status of a child that does it: a world and its threads are made once a process."""
    child = os.fork()
    if child == 0:
        try:
            call(*arguments)
            os._exit(0)
        except BaseException as error:
            print(f"failed: {error!r}", flush=True)
            os._exit(1)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    killed, number = True, 0
    while killed:
        run = folder / f"kill-{number}"
        root, url = run / "here", f"file://{run}/there" if sys.argv[2:] else None
        assert forked(save, root, url, range(1, 2)) == 0
        status = forked(save, root, url, range(2, 3), number)
        killed = os.WIFSIGNALED(status)
        assert killed or status == 0
        forked(lambda root=root, url=url: print(look(root, url), flush=True))
        number += 1
