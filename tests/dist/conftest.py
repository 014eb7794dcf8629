"""A small corpus and the configs of small runs, shared by the tests of the loop."""

import os
from pathlib import Path

import pytest
import yaml

from ssrnn_data import build_corpus

os.environ.setdefault("DS_ACCELERATOR", "cpu")
WORDS = ("state", "time", "the", "cell", "δ", "scan", "and", "gate", "flows", "back", "日本", "to", "\n", "zero")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 30,000 tokens in 60 documents."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = folder / "texts"
    texts.mkdir()
    for number in range(60):
        words = [WORDS[(number * 7 + place * place + place // 3) % len(WORDS)] for place in range(200 + number * 9)]
        (texts / f"{number:02d}.txt").write_text(" ".join(words), encoding="utf-8")
    return build_corpus([str(texts)], folder / "built", vocab_size=300, holdout=0.15, shard_tokens=4096).parent


class Runs:
    """Writes the YAML of small runs: 13 lanes, 8 steps, a checkpoint at 4 and 8, every step logged."""

    def __init__(self, root: Path, corpus: Path) -> None:
        self.root, self.corpus = root, corpus

    def config(
        self,
        name: str,
        *,
        stage: int = 1,
        precision: str = "fp32",
        model: dict[str, object] | None = None,
        feedback: dict[str, object] | None = None,
        scale: dict[str, object] | None = None,
        **train: object,
    ) -> Path:
        values = {
            "name": name,
            "run_root": str(self.root / "runs"),
            "model": {"d_model": 10, "n_layers": 2, **(model or {})},
            "feedback": {"probe_every": 3, **(feedback or {})},
            "data": {"index": str(self.corpus)},
            "train": {
                "steps": 8,
                "tokens_per_batch": 13 * 12,
                "sequence_length": 12,
                "micro_batch_lanes": 4,
                "learning_rate": 0.01,
                "log_every_steps": 1,
                "precision": precision,
                **train,
            },
            "scale": {"workers": 1, "zero_stage": stage, **(scale or {})},
            "checkpoint": {"every_steps": 4, "keep": 5},
            "tracking": {"report": False},
            "cost": {"usd_per_worker_hour": 3.6},
        }
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def folder(self, name: str) -> Path:
        return self.root / "runs" / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), corpus)
