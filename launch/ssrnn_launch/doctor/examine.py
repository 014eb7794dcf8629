"""All checks, in order, as they are found: before any cluster, then on it, then two steps of the run itself.

Imports ray inside, by ray_session, which sets its environment first."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_dist.problems import UserError
from ssrnn_launch.doctor.before import check_corpora, check_price, need_of
from ssrnn_launch.doctor.checks import Check, fail, ok, warn
from ssrnn_launch.local import CLUSTER_STOP_SECONDS, LOCAL_STOP_SECONDS, absolute_paths
from ssrnn_launch.machine import WorkerShape, available_cores, local_share
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.ray_session import why_unreachable

Doing = Callable[[str], None]
NOT_LET_IN = (
    "if it is a head's port: its token (RAY_AUTH_TOKEN or ~/.ray/auth_token), Ray and Python of the same version"
)


def examine(config: RunConfig, *, trial: bool, doing: Doing) -> Iterator[Check]:
    """Every check of a run on its cluster (cluster.address), or on a Ray started here for it.

    doing: told what takes time.  Raises Stopped at Ctrl-C; all else is a check that failed."""
    config = absolute_paths(config)
    failed = False
    yield ok("config", f"{config.name}: valid")
    corpora_check, corpora = check_corpora(config)
    yield corpora_check
    yield check_price(config)
    need = need_of(config, corpora)
    address = config.cluster.address
    if address is not None and (unreachable := why_unreachable(address)):
        yield fail("ray", f"{address}: {unreachable}", "the address of a running head (IP:PORT), open to this machine")
        return
    doing("starting Ray on 127.0.0.1" if address is None else f"connecting to {address}")
    try:
        with _ray(config) as (shape, how):
            from ssrnn_launch.doctor.nodes import examine_nodes

            for check in examine_nodes(config, corpora, need, doing):
                failed = failed or check.state == "fail"
                yield check
            if not trial:
                return
            if failed or not corpora:
                yield warn("trial", "not made", "mend what is wrong above first")
                return
            doing("training two steps")
            from ssrnn_launch.doctor.trial import try_two_steps
            from ssrnn_launch.host import Host

            yield try_two_steps(config, shape, Host(*how))
    except UserError as error:
        for problem in error.problems:
            is_ray = problem.where == "cluster.address"
            yield fail("ray" if is_ray else problem.where, problem.came, NOT_LET_IN if is_ray else problem.allowed)
    except LaunchFailed as error:
        yield fail("ray", str(error), f"look into {error.log}" if error.log else "look at the head's logs")


@contextmanager
def _ray(config: RunConfig) -> Iterator[tuple[WorkerShape, tuple[Any, ...]]]:
    """The Ray that `ssrnn train` would take: its workers' shape, and what a Host is made of."""
    from ssrnn_launch.ray_session import connected_ray, local_ray, worker_environment

    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of probes that nobody waits for any more
    scale, address = config.scale, config.cluster.address
    environment = worker_environment(scale.gpus_per_worker)
    if address:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # its warnings of a wrong token, one a second
        with connected_ray(address):
            yield WorkerShape(scale.cpus_per_worker or 1, scale.cpus_per_worker, environment), (CLUSTER_STOP_SECONDS,)
        return
    share = local_share(config, available_cores())
    logs = Path(tempfile.gettempdir()) / f"ssrnn-doctor-{config.name}"
    with local_ray(share.ray_cpus, environment, logs) as what_died:
        yield WorkerShape(share.cpus_per_worker, share.threads_per_worker, {}), (LOCAL_STOP_SECONDS, what_died)
