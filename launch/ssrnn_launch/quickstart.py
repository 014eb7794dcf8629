"""`ssrnn quickstart`: corpus, training, a sample and the report, each made once. Heavy imports inside."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from ssrnn_dist.config import RunConfig, load_config
from ssrnn_dist.runs import run_state
from ssrnn_launch.corpus import corpus_folder
from ssrnn_launch.folders import configs_folder
from ssrnn_launch.local import TrainResult, train_locally
from ssrnn_launch.machine import available_cores, quickstart_workers

SAMPLE_PROMPT = "def "
SAMPLE_TOKENS = 300


@dataclass(frozen=True)
class QuickstartResult:
    """The run, and what was made of it."""

    trained: TrainResult
    sample: Path | None
    report: Path | None
    pictures: tuple[Path, ...]
    open_mlflow: str


def quickstart_config(overrides: list[str]) -> RunConfig:
    """quickstart.yaml, with a worker a core unless the overrides say how many."""
    path = configs_folder() / "quickstart.yaml"
    config = load_config(path, overrides)
    if any(each.replace(" ", "").startswith(("scale.workers=", "scale=")) for each in overrides):
        return config
    workers = quickstart_workers(available_cores(), config.train.lanes, psutil.virtual_memory().available)
    return load_config(path, [*overrides, f"scale.workers={workers}"])


def what_stands(config: RunConfig, fresh: bool = False) -> list[str]:
    """A line for the corpus and one for the run."""
    corpus = corpus_folder(config.data)
    state = run_state(config)
    words = {"new": "not begun", "resume": f"at step {state.step:,}, goes on", "complete": "complete"}
    if fresh and config.folder.exists():
        words = dict.fromkeys(words, "stands and is kept; another begins beside it")
    return [
        f"corpus  {corpus}  {'stands' if (corpus / 'index.json').is_file() else 'not built yet'}",
        f"run     {config.folder}  {words[state.state]}",
    ]


def run_quickstart(config: RunConfig, *, fresh: bool = False) -> QuickstartResult:
    """Everything that does not stand yet, in order; raises what train_locally raises."""
    trained = train_locally(config, fresh=fresh)
    folder = trained.config.folder
    done = trained.state != "stopped"
    sample = write_sample(folder) if done else None
    report, pictures = _report(folder) if done else (None, ())
    return QuickstartResult(trained, sample, report, pictures, _open_mlflow(trained.config))


def write_sample(run_folder: Path) -> Path:
    """Generated text at sample.txt, unless it is newer than the run's summary."""
    path, summary = run_folder / "sample.txt", run_folder / "summary.json"
    if path.is_file() and path.stat().st_mtime >= summary.stat().st_mtime:
        return path

    from ssrnn_dist.generate import generate_text

    text = "".join(generate_text(run_folder, SAMPLE_PROMPT, max_tokens=SAMPLE_TOKENS, seed=0))
    path.write_text(f"{SAMPLE_PROMPT}{text}\n", encoding="utf-8")
    return path


def _report(run_folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """The report, which the run itself has drawn unless it was killed just then."""
    from ssrnn_dist.tracking.report import build_report

    built = build_report(run_folder)
    return built.html, tuple(built.pngs)


def _open_mlflow(config: RunConfig) -> str:
    from ssrnn_dist.tracking.tracker import Tracker, tracking_uri

    return Tracker.open_command(tracking_uri(config))
