"""Rules that learn from step to step, in whole runs: the same on every world and stage, and across a resume."""

import json
import shutil

import pytest
import torch
from worlds import train_many

from ssrnn_dist.checkpoint.store import Checkpoint
from ssrnn_dist.tracking.history import read_history

pytestmark = pytest.mark.timeout(900)
RULES = {
    "calibrated": {
        "model": {"cell": "lstm"},
        "feedback": {"kind": "stationary", "decay": "calibrated", "refinements": 1},
    },
    "auto": {"model": {"cell": "elman", "n_heads": 2}, "feedback": {"refinements": "auto", "tolerance": 0.002}},
}
PLACES = [(1, 1), (2, 3)]  # world, ZeRO stage


def rows(runs, name: str, after: int = 0) -> list[dict]:
    return [row for row in read_history(runs.folder(name) / "metrics.jsonl") if row["step"] > after]


@pytest.fixture(scope="module")
def trained(runs):
    for world, stage in PLACES:
        paths = [runs.config(f"{rule}-{world}", stage=stage, **settings) for rule, settings in RULES.items()]
        if world == 2:
            for rule, settings in RULES.items():
                paths.append(runs.config(f"{rule}-again", stage=2, **settings))
                source, target = runs.folder(f"{rule}-1"), runs.folder(f"{rule}-again")
                shutil.copytree(source / "checkpoints" / "step-00000004", target / "checkpoints" / "step-00000004")
                shutil.copy(source / "config.yaml", target / "config.yaml")
        train_many(world, *paths)
    return runs


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_is_the_same_on_every_world_and_after_a_resume(trained, rule: str) -> None:
    one = rows(trained, f"{rule}-1")
    for name, after in ((f"{rule}-2", 0), (f"{rule}-again", 4)):
        other = rows(trained, name)
        expected = [row for row in one if row["step"] > after]
        assert [row["train_loss"] for row in other] == pytest.approx(
            [row["train_loss"] for row in expected], rel=2e-6
        ), name
        assert [row["layer_sweeps"] for row in other] == [row["layer_sweeps"] for row in expected], name


def test_auto_moves_its_sweeps_and_the_checkpoint_keeps_them(trained) -> None:
    seen = [row["layer_sweeps"] for row in rows(trained, "auto-1")]
    assert seen[0] != seen[-1]
    kept = Checkpoint(trained.folder("auto-1") / "checkpoints" / "step-00000008").about["sweeps"]
    assert kept == seen[-1]


def test_a_calibrated_decay_is_kept_whole(trained) -> None:
    checkpoint = Checkpoint(trained.folder("calibrated-1") / "checkpoints" / "step-00000008")
    decays = checkpoint.tensors(checkpoint.rank_files[0], "decay/")
    assert set(decays) == {"0", "1"}
    for block in decays.values():
        assert block.shape == (2, 2, 10)  # an LSTM's unit has two states
        assert torch.isfinite(block).all()
        assert float(block[1, 1].mean()) > 0.2  # the forget gate


def test_probes_compare_with_bptt_every_so_many_steps(trained) -> None:
    """Pooled over the ranks' own lanes, so near but not equal between worlds; exact has nothing to compare."""
    for rule in RULES:
        for world, _ in PLACES:
            probed = {row["step"]: row for row in rows(trained, f"{rule}-{world}") if row["probe_cosine"] is not None}
            assert set(probed) == {3, 6}, (rule, world)
            for row in probed.values():
                assert 0.99 < row["probe_cosine"] <= 1 + 1e-9
                assert 0 < row["probe_relative_error"] < 0.1
                assert len(row["layer_probe_errors"]) == 2
    summary = json.loads((trained.folder("auto-1") / "summary.json").read_text())
    assert summary["steps"] == 8
