"""Checkpoints on a disk that takes no more: the error is known by its number, and what stood stands."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ssrnn_dist.checkpoint.places import Contents
from ssrnn_dist.checkpoint.retention import Retention
from ssrnn_dist.checkpoint.store import newest_checkpoint
from ssrnn_dist.checkpoint.writer import CheckpointWriter, Destination
from ssrnn_dist.world import joined_world


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond n_bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_refused_write_has_the_systems_number_and_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    with joined_world(uses_gpu=False) as world:
        writer = CheckpointWriter(Destination(tmp_path), world, Retention(keep=2))
        writer.start({"weight": torch.zeros(10)}, Contents(1, {}, {}))
        writer.wait()
        with files_of_at_most(100_000):
            writer.start({"weight": torch.zeros(100_000)}, Contents(2, {}, {}))
            with pytest.raises(OSError, match="File too large") as caught:
                writer.wait()
        newest = newest_checkpoint(tmp_path, world)
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value.filename).endswith("rank-00000.safetensors")
    assert newest is not None
    assert newest.folder == tmp_path / "step-00000001"
    assert list(tmp_path.iterdir()) == [newest.folder]
