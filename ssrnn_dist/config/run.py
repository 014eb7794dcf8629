"""A whole run: every section of the YAML file and the checks that need more than one of them.

Imports pydantic only."""

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from ssrnn_dist.config.base import Section, outlives_no_process
from ssrnn_dist.config.checkpoint import CheckpointSection
from ssrnn_dist.config.cluster import ClusterSection
from ssrnn_dist.config.cost import CostSection, TrackingSection
from ssrnn_dist.config.model import FeedbackConfig, ModelSection
from ssrnn_dist.config.scale import ScaleSection
from ssrnn_dist.config.sections import DataSection, TrainSection


def _is_a_folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError("a run's name is a folder's name: letters, digits, '.', '_' and '-', 100 characters at most")
    return name


def _is_a_place_that_stays(run_root: str) -> str:
    if outlives_no_process(run_root):
        raise ValueError("gone with its process; a folder, or a store's URL such as s3://bucket/runs, is allowed")
    return run_root


class RunConfig(Section):
    """One training run. Running the same config again resumes it."""

    name: Annotated[str, AfterValidator(_is_a_folder_name)] = Field(description="the run's name and its folder's")
    run_root: Annotated[str, AfterValidator(_is_a_place_that_stays)] = Field(
        "runs", description="folder of all runs that every worker sees, or its fsspec URL"
    )
    model: ModelSection = ModelSection()
    feedback: FeedbackConfig = FeedbackConfig()
    data: DataSection
    train: TrainSection = TrainSection()
    scale: ScaleSection = ScaleSection()
    checkpoint: CheckpointSection = CheckpointSection()
    tracking: TrackingSection = TrackingSection()
    cost: CostSection = CostSection()
    cluster: ClusterSection = ClusterSection()

    @model_validator(mode="after")
    def every_worker_has_a_lane(self) -> "RunConfig":
        if self.scale.most_workers > self.train.lanes:
            raise ValueError(
                f"scale.workers: {self.scale.most_workers} workers for {self.train.lanes} lanes; at most one worker a "
                "lane: fewer workers, a larger train.tokens_per_batch or a shorter train.sequence_length"
            )
        return self

    @property
    def folder(self) -> Path:
        """runs/<name>: config.yaml, checkpoints/, ledger.jsonl, summary.json, report.html.

        Where run_root is a URL: this node's copy."""
        return local_root(self.run_root) / self.name

    @property
    def remote_folder(self) -> str | None:
        """The URL of the run's folder; None where run_root is a folder that all nodes see."""
        return f"{self.run_root.rstrip('/')}/{self.name}" if "://" in self.run_root else None


def local_root(run_root: str) -> Path:
    """The folder of all runs on this node; for a URL one in $SSRNN_RUNS, else ~/.cache/ssrnn/runs."""
    if "://" not in run_root:
        return Path(run_root)
    base = os.environ.get("SSRNN_RUNS") or "~/.cache/ssrnn/runs"
    return Path(base).expanduser() / hashlib.sha256(run_root.rstrip("/").encode()).hexdigest()[:12]
