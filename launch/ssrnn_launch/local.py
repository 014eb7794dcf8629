"""`ssrnn train`: corpus, run folder, a Ray of its own (or the config's cluster), and the run on it.

Imports ray inside, after everything that can be wrong with the input was checked."""

import shlex
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ssrnn_dist.config import RunConfig
from ssrnn_dist.config.sections import BuildSection
from ssrnn_dist.problems import user_error
from ssrnn_dist.run_lock import check_unlocked, run_lock
from ssrnn_dist.runs import prepare_run, run_state
from ssrnn_dist.storage.mirror import mirror_of
from ssrnn_dist.tracking.prices import Prices
from ssrnn_launch.cli import output
from ssrnn_launch.corpus import ensure_corpus
from ssrnn_launch.machine import WorkerShape, available_cores, local_share
from ssrnn_launch.progress import View, open_view
from ssrnn_launch.stop_signals import StopSignals

LOCAL_STOP_SECONDS = 7.0  # Ctrl-C ends everything within ten
CLUSTER_STOP_SECONDS = 80.0  # within what submitted jobs are given: jobs.STOP_WAIT_SECONDS


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: trained to its last step now, complete before, or stopped.

    stopped_by: the signal that did it; SIGTERM stands for a notice and for a budget that is used up."""

    config: RunConfig
    state: Literal["trained", "complete", "stopped"]
    summary: dict[str, Any]
    seconds: float
    stopped_by: int | None = None


def absolute_paths(config: RunConfig) -> RunConfig:
    """The config with its files and folders as seen from anywhere on this machine."""
    data = config.data
    build = None if data.build is None else _absolute_build(data.build)
    index = None if data.index is None else _unless_url(data.index)
    mixture = data.mixture and [each.model_copy(update={"index": _unless_url(each.index)}) for each in data.mixture]
    data = data.model_copy(update={"index": index, "mixture": mixture, "build": build})
    price_file = None if config.cost.price_file is None else _absolute(config.cost.price_file)
    cost = config.cost.model_copy(update={"price_file": price_file})
    return config.model_copy(update={"run_root": _unless_url(config.run_root), "data": data, "cost": cost})


def _absolute_build(build: BuildSection) -> BuildSection:
    kinds = ("sources", "valid_sources", "test_sources")
    sources = {kind: [_absolute_source(each) for each in getattr(build, kind)] for kind in kinds}
    tokenizer = None if build.tokenizer is None else _absolute(build.tokenizer)
    return build.model_copy(update={**sources, "tokenizer": tokenizer})


def _absolute_source(source: str) -> str:
    """`stdlib:` and URLs are no paths."""
    return source if ":" in source.partition("/")[0] else _absolute(source)


def _unless_url(path: str) -> str:
    return path if "://" in path else _absolute(path)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def train_locally(config: RunConfig, *, fresh: bool = False) -> TrainResult:
    """Train a run, or go on with it; a complete one is only reported.

    Raises UserError, DataError, LaunchFailed, Stopped."""
    began = time.monotonic()
    config = absolute_paths(config)
    Prices.of(config.cost)  # says what is wrong with the price file
    if fresh:
        config = prepare_run(config, fresh=True)
        output.note(f"a run of its own: {config.folder}; {way_on(config)} goes on with it")
    check_unlocked(config.folder)  # before anything in it is touched
    mirror = mirror_of(config, lambda message: output.note(f"warning: {message}"))
    config = prepare_run(config)
    state = run_state(config)
    if state.state == "complete" and state.summary is not None:
        return TrainResult(config, "complete", state.summary, 0.0)
    with run_lock(config.folder):
        if config.data.index is not None:
            ensure_corpus(config.data)
        _open_corpora(config)
        with mirror.pushing() if mirror else nullcontext():
            summary, stop = _train(config)
    seconds = time.monotonic() - began
    if summary.get("stopped"):
        return TrainResult(config, "stopped", summary, seconds, stop.number or signal.SIGTERM)
    return TrainResult(config, "trained", summary, seconds)


def way_on(config: RunConfig) -> str:
    """The command that goes on with this run, from anywhere on this machine and whatever it was started by."""
    return f"ssrnn train {shlex.quote(str(config.folder / 'config.yaml'))}"


def _open_corpora(config: RunConfig) -> None:
    """Say what is wrong with the corpus or the mixture before Ray starts."""
    from ssrnn_dist.data import open_corpora

    open_corpora(config)


def _train(config: RunConfig) -> tuple[dict[str, Any], StopSignals]:
    """On the config's cluster, or on a Ray started for this run."""
    from ssrnn_launch.ray_session import connected_ray, local_ray, worker_environment

    scale, stop = config.scale, StopSignals()
    environment = {**worker_environment(scale.gpus_per_worker), **config.cluster.env}
    with open_view(config) as view:
        if config.cluster.address:
            shape = WorkerShape(scale.cpus_per_worker or 1, scale.cpus_per_worker, environment)
            with connected_ray(config.cluster.address):
                return _watched(config, shape, view, stop, CLUSTER_STOP_SECONDS, None), stop
        view.note("starting Ray on 127.0.0.1")
        share = local_share(config, available_cores())
        shape = WorkerShape(share.cpus_per_worker, share.threads_per_worker, {})
        with local_ray(share.ray_cpus, environment, config.folder / "logs") as what_died:
            _check_gpus(config)
            return _watched(config, shape, view, stop, LOCAL_STOP_SECONDS, what_died), stop


def _watched(
    config: RunConfig,
    shape: WorkerShape,
    view: View,
    stop: StopSignals,
    stop_seconds: float,
    what_died: Callable[[], str | None] | None,
) -> dict[str, Any]:
    """The run, with Ctrl-C and SIGTERM watched. Ray, which reads its environment once, is imported only here."""
    from ssrnn_launch.host import Host, run_on_ray

    host = Host(stop_seconds, what_died) if what_died else Host(stop_seconds)
    with stop.watching():
        return run_on_ray(config, shape, view, stop, host)


def _check_gpus(config: RunConfig) -> None:
    import ray

    fewest = config.scale.fewest_workers
    wanted = config.scale.gpus_per_worker * fewest
    found = int(ray.cluster_resources().get("GPU", 0))
    if wanted > found:
        came = f"{wanted} GPUs for {fewest} workers, this machine has {found}"
        raise user_error("scale.gpus_per_worker", came, "fewer workers, gpus_per_worker: 0, or `ssrnn submit`")
