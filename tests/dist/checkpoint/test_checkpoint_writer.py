"""Checkpoints written behind the training's back: kills, a full disk, and weights that change meanwhile."""

import errno
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load as load_bytes
from worlds import HERE, run_ranks

from ssrnn_dist.checkpoint.file_format import HostBuffer
from ssrnn_dist.checkpoint.places import Contents
from ssrnn_dist.checkpoint.retention import Retention, steps_to_forget
from ssrnn_dist.checkpoint.store import Checkpoint, newest_checkpoint, why_torn
from ssrnn_dist.checkpoint.writer import CheckpointWriter, Destination
from ssrnn_dist.world import joined_world

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.float64, torch.uint8, torch.bool)


@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)), max_size=6))
def test_a_buffer_is_a_safetensors_file(shapes: list[tuple[torch.dtype, list[int]]]) -> None:
    tensors = {f"a/{n}": torch.randint(0, 2, shape).to(dtype) for n, (dtype, shape) in enumerate(shapes)}
    buffer = HostBuffer()
    buffer.fill({"other": torch.ones(50)})
    found = load_bytes(bytes(buffer.fill(tensors)))
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)


@given(
    st.sets(st.integers(1, 100)),
    st.integers(1, 100),
    st.integers(1, 5),
    st.none() | st.integers(1, 20),
)
def test_the_newest_and_the_multiples_stay(steps: set[int], saved: int, keep: int, every: int | None) -> None:
    gone = steps_to_forget(steps, saved, Retention(keep, every))
    until_now = {step for step in steps if step <= saved} | {saved}
    stay = until_now - set(gone)
    assert gone == sorted(gone)
    assert set(gone) <= steps - {saved}
    assert stay == {step for step in until_now if step in sorted(until_now)[-keep:] or (every and step % every == 0)}


def save(writer: CheckpointWriter, step: int) -> torch.Tensor:
    weight = torch.full((1000,), float(step))
    writer.start({"weight/a@0": weight}, Contents(step, {"tokens": step}, {"tokenizer.json": b"{}"}))
    return weight


def test_old_ones_go_as_new_ones_stand_and_each_is_told_once(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    with joined_world(uses_gpu=False) as world:
        (root / ".step-00000001.old.partial").mkdir(parents=True)
        writer = CheckpointWriter(Destination(root), world, Retention(keep=2, keep_every_steps=3))
        told = []
        for step in range(1, 9):
            save(writer, step).zero_()  # what is trained on meanwhile is another step's
            told += writer.take_news()
        writer.wait()
        told += writer.take_news()
        newest = newest_checkpoint(root, world)
    assert told == [("checkpoint", {"step": step}) for step in range(1, 9)]
    assert sorted(path.name for path in root.iterdir()) == [f"step-0000000{step}" for step in (3, 6, 7, 8)]
    assert all(why_torn(folder) is None for folder in root.iterdir())
    assert newest is not None
    for folder in root.iterdir():
        found = Checkpoint(folder)
        assert found.tensors(found.rank_files[0], "weight/")["a@0"].unique().tolist() == [found.about["step"]]


def test_a_torn_one_of_the_future_is_written_over_and_pushes_none_out(tmp_path: Path) -> None:
    with joined_world(uses_gpu=False) as world:
        writer = CheckpointWriter(Destination(tmp_path), world, Retention(keep=2))
        for step in (2, 4):
            save(writer, step)
        writer.wait()
        file = tmp_path / "step-00000004" / "rank-00000.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        with pytest.warns(UserWarning, match="rank-00000.safetensors has another checksum"):
            found = newest_checkpoint(tmp_path, world)
        assert found is not None
        assert found.about["step"] == 2
        writer = CheckpointWriter(Destination(tmp_path), world, Retention(keep=2))
        save(writer, 3)
        writer.wait()
        assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["2", "3", "4"]
        save(writer, 4)
        writer.wait()
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["3", "4"]
    assert why_torn(tmp_path / "step-00000004") is None


@pytest.mark.parametrize("url", [(), ("url",)])
def test_a_kill_at_any_moment_leaves_a_whole_one(tmp_path: Path, url: tuple[str, ...]) -> None:
    """Before each thing that is done to a file or folder, in turn; the same where a store is a folder."""
    (output,) = run_ranks(1, HERE / "kill_points.py", str(tmp_path), *url)
    rows = [line.split(" ", 1) for line in output.splitlines() if re.match(r"\d+ \[", line)]
    assert "failed" not in output
    steps = [step for step, _ in rows]
    assert steps == sorted(steps)  # the old one until a certain moment, the new one from then on
    assert steps[0] == "1"
    assert steps[-1] == "2"
    assert len(steps) > 8
    assert {left for _, left in rows} == {"[]"}


def test_one_rank_with_a_full_disk_ends_all_with_its_error(tmp_path: Path) -> None:
    outputs = run_ranks(2, HERE / "one_full_disk.py", str(tmp_path))
    for output in outputs:  # the first has heard of it from the second
        assert re.search(rf"step 3: OSError {errno.EFBIG} .*File too large: .*rank-00001.safetensors", output), output
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert why_torn(tmp_path / "step-00000001") is None


@pytest.mark.parametrize("stage", [1, 3])
def test_what_is_written_while_training_goes_on_is_what_was(runs, tmp_path: Path, stage: int) -> None:
    config = runs.config(f"async-{stage}")
    outputs = run_ranks(2, HERE / "save_and_train_on.py", str(config), str(stage), "save")
    assert "news [('checkpoint', {'step': 2}), ('checkpoint', {'step': 4})]" in outputs[0]
    assert "news []" in outputs[1]
    background = runs.folder(f"async-{stage}") / "checkpoints"
    foreground = runs.root / "runs-sync" / f"async-{stage}" / "checkpoints"
    for step in (2, 4):
        names = sorted(path.name for path in (foreground / f"step-0000000{step}").iterdir())
        assert names == ["checkpoint.json", "rank-00000.safetensors", "rank-00001.safetensors", "tokenizer.json"]
        for name in names:
            was, now = ((root / f"step-0000000{step}" / name).read_bytes() for root in (foreground, background))
            assert was == now, name
