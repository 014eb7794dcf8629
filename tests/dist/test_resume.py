"""One run on 1, 2, 3 and 5 ranks at ZeRO 1, 2 and 3: the same curve; and every move of a checkpoint between them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from worlds import train_many

from ssrnn_dist.checkpoint.load_model import load_model
from ssrnn_dist.checkpoint.store import Checkpoint, why_torn
from ssrnn_dist.tracking.history import read_history

pytestmark = pytest.mark.timeout(1500)  # the first test pays for all trainings
STAGES = (1, 2, 3)
WORLDS = (1, 2, 3, 5)
OFFLOADED = {"scale": {"offload": "cpu"}}
PARTITIONED = {"scale": {"workers": 2, "partition_ranks": 2}}
# Moves to and from other ways to shard: of two ranks, by name, stage and the rest of the config.
OTHER_WAYS = [("offload-z1", 1, OFFLOADED), ("offload-z3", 3, OFFLOADED), ("hpz", 3, PARTITIONED)]
# Moves of two ranks' checkpoints, by world: each stage once to fewer and to more ranks, and to itself; all in the long.
MOVES = {
    1: [(1, 2), (2, 3), (3, 1)],
    2: [(stage, stage) for stage in STAGES],
    3: [(1, 3), (2, 1), (3, 2)],
}
MORE_MOVES = {3: [(old, new) for old in STAGES for new in STAGES if (old, new) not in MOVES[3]]}
PLACES = [(world, stage) for world in WORLDS for stage in STAGES if world < 5 or stage == 3]


def losses(folder: Path, after: int = 0) -> list[float]:
    return [row["train_loss"] for row in read_history(folder / "metrics.jsonl") if row["step"] > after]


def from_step_4(runs, source: str, target: str, **config) -> Path:
    """A copy of a run as a kill after step 4 would have left it."""
    path = runs.config(target, **config)
    folder = runs.folder(target)
    shutil.copytree(runs.folder(source) / "checkpoints" / "step-00000004", folder / "checkpoints" / "step-00000004")
    shutil.copy(runs.folder(source) / "config.yaml", folder / "config.yaml")
    return path


@pytest.fixture(scope="module")
def trained(runs):
    """Every world and stage from the start, then every move of a checkpoint of two ranks."""
    for world in WORLDS:
        names = [(f"w{world}-z{stage}", {"stage": stage}) for place, stage in PLACES if place == world]
        if world == 2:
            names += [(f"bf16-z{stage}", {"stage": stage, "precision": "bf16"}) for stage in STAGES]
            names += [(f"w2-{name}", {"stage": stage, **config}) for name, stage, config in OTHER_WAYS]
        train_many(world, *(runs.config(name, **config) for name, config in names))
    for world in MOVES:
        paths = moved(runs, MOVES, world)
        if world == 2:
            paths += [from_step_4(runs, f"bf16-z{s}", f"bf16-z{s}-again", stage=s, precision="bf16") for s in STAGES]
            paths += [without_moments(runs)]
            for name, stage, config in OTHER_WAYS:
                paths += [from_step_4(runs, f"w2-{name}", f"w2-{name}-to-w2-z2", stage=2)]
                paths += [from_step_4(runs, "w2-z2", f"w2-z2-to-w2-{name}", stage=stage, **config)]
        train_many(world, *paths)
    return runs


def moved(runs, moves: dict[int, list[tuple[int, int]]], world: int) -> list[Path]:
    return [from_step_4(runs, f"w2-z{old}", f"w2-z{old}-to-w{world}-z{new}", stage=new) for old, new in moves[world]]


def without_moments(runs) -> Path:
    """The negative control: a checkpoint whose second moments were lost."""
    path = from_step_4(runs, "w2-z1", "no-moments")
    folder = runs.folder("no-moments") / "checkpoints" / "step-00000004"
    about = json.loads((folder / "checkpoint.json").read_text())
    for name in [name for name in about["files"] if name.endswith(".safetensors")]:
        tensors = load_file(folder / name)
        save_file({k: v * 0 if k.startswith("exp_avg/") else v for k, v in tensors.items()}, folder / name)
        import hashlib

        data = (folder / name).read_bytes()
        about["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "checkpoint.json").write_text(json.dumps(about))
    return path


def test_the_curve_does_not_depend_on_the_world_or_the_stage(trained) -> None:
    reference = losses(trained.folder("w1-z1"))
    assert len(reference) == 8
    assert reference[-1] < reference[0] - 0.1
    for world, stage in PLACES:
        assert losses(trained.folder(f"w{world}-z{stage}")) == pytest.approx(reference, rel=2e-6), (world, stage)


@pytest.mark.parametrize("name", [name for name, _, _ in OTHER_WAYS])
def test_other_ways_to_shard_change_nothing_and_checkpoints_move_to_them_and_from_them(trained, name: str) -> None:
    expected = losses(trained.folder("w1-z1"))
    assert losses(trained.folder(f"w2-{name}")) == pytest.approx(expected, rel=2e-6)
    assert losses(trained.folder(f"w2-{name}-to-w2-z2")) == pytest.approx(expected[4:], rel=2e-6)
    assert losses(trained.folder(f"w2-z2-to-w2-{name}")) == pytest.approx(expected[4:], rel=2e-6)


def test_validation_does_not_depend_on_the_world(trained) -> None:
    read = [json.loads((trained.folder(f"w{world}-z3") / "summary.json").read_text()) for world in WORLDS]
    for summary in read:
        assert summary["valid_loss"] == pytest.approx(read[0]["valid_loss"], rel=2e-6)
        assert summary["valid_bits_per_byte"] == pytest.approx(read[0]["valid_bits_per_byte"], rel=2e-6)


@pytest.mark.parametrize(
    ("world", "old", "new"), [(world, *stages) for world, moves in MOVES.items() for stages in moves]
)
def test_a_checkpoint_moves_to_any_world_and_stage(trained, world: int, old: int, new: int) -> None:
    expected = losses(trained.folder(f"w2-z{old}"), after=4)
    assert losses(trained.folder(f"w2-z{old}-to-w{world}-z{new}")) == pytest.approx(expected, rel=2e-6)


@pytest.mark.long
def test_every_other_move_of_stages(trained) -> None:
    for world, moves in MORE_MOVES.items():
        train_many(world, *moved(trained, MORE_MOVES, world))
        for old, new in moves:
            expected = losses(trained.folder(f"w2-z{old}"), after=4)
            assert losses(trained.folder(f"w2-z{old}-to-w{world}-z{new}")) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("name", [*(f"w2-z{s}" for s in STAGES), *(f"bf16-z{s}" for s in STAGES)])
def test_same_world_and_stage_resume_bit_for_bit(trained, name: str) -> None:
    again = name + (f"-to-{name}" if name.startswith("w") else "-again")
    first, second = (trained.folder(each) / "checkpoints" / "step-00000008" for each in (name, again))
    assert losses(trained.folder(name), after=4) == losses(trained.folder(again))
    for rank in range(2):
        was, now = (load_file(folder / f"rank-{rank:05d}.safetensors") for folder in (first, second))
        assert was.keys() == now.keys()
        assert all(torch.equal(was[key], now[key]) for key in was)


def test_lost_moments_are_noticed(trained) -> None:
    assert losses(trained.folder("no-moments"))[1:] != pytest.approx(
        losses(trained.folder("w2-z1"), after=4)[1:], rel=2e-6
    )


def test_a_model_is_read_from_any_stage(trained) -> None:
    models = [
        load_model(Checkpoint(trained.folder(f"w{world}-z{stage}") / "checkpoints" / "step-00000008"))
        for world, stage in [(1, 1), (3, 2), (5, 3)]
    ]
    for other in models[1:]:
        for ours, theirs in zip(models[0].parameters(), other.parameters(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_complete_run_trains_nothing_more_and_a_torn_checkpoint_is_skipped(trained, capfd) -> None:
    source = trained.folder("w1-z1")
    target = trained.folder("torn")
    path = trained.config("torn")
    shutil.copytree(source / "checkpoints", target / "checkpoints")
    shutil.copy(source / "config.yaml", target / "config.yaml")
    file = target / "checkpoints" / "step-00000008" / "rank-00000.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "checksum" in (why_torn(target / "checkpoints" / "step-00000008") or "")
    train_many(1, path)
    assert losses(target) == losses(source, after=4)
    assert why_torn(target / "checkpoints" / "step-00000008") is None
