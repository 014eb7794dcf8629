"""`ssrnn submit`: the same run as a job of a cluster: this code as a wheel, the resolved config, nothing else.

Imports ray inside."""

import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrnn_dist.config import RunConfig, to_yaml
from ssrnn_dist.problems import user_error
from ssrnn_dist.storage.standing import check_goes_on
from ssrnn_launch.jobs import STOP_WAIT_SECONDS, describe, is_of_this_machine, job_client, living_nodes
from ssrnn_launch.local import absolute_paths
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.targets.nodes import check_for_nodes, check_no_logins, is_anywhere
from ssrnn_launch.wheel import build_wheel, wheel_files

AGENT_SECONDS = 60.0  # how long a head's agent may take to come up
NO_AGENT = (
    f"the head answers, but no agent of it took the job within {AGENT_SECONDS:.0f} s; often another Ray on its machine "
    "has the agent's port, 52365: end that one, or `ray start … --dashboard-agent-listen-port=52399`"
)
PRICES = "prices.yaml"  # the run's price file, beside its config


@dataclass(frozen=True)
class Request:
    """All that is sent to a head.

    files: texts of the job's working folder, by name.  environment: of its driver and workers.
    pip: packages that Ray installs."""

    job_id: str
    entrypoint: str
    metadata: dict[str, str]
    files: dict[str, str]
    environment: dict[str, str]
    pip: list[str]


def prepare(config: RunConfig, *, fresh: bool = False) -> Request:
    """What to send for a run; its paths are absolute, as seen from here.

    UserError where the config holds what must not be sent, or names a file that is not there."""
    check_no_logins(config)
    config, files = carried(absolute_paths(config))
    return Request(
        job_id=f"{config.name}-{secrets.token_hex(3)}",
        entrypoint="python -m ssrnn_launch.job_entry run.yaml" + (" --fresh" if fresh else ""),
        metadata={"ssrnn_run": config.name, "ssrnn_folder": config.remote_folder or str(config.folder)},
        files={"run.yaml": to_yaml(config), **files},
        environment=job_environment(config),
        pip=list(config.cluster.pip),
    )


def carried(config: RunConfig, folder: str = "") -> tuple[RunConfig, dict[str, str]]:
    """The config with its price file beside it, in the job's folder, and that file's text by name."""
    price_file = config.cost.price_file
    if price_file is None:
        return config, {}
    try:
        text = Path(price_file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise user_error("cost.price_file", f"{price_file} can't be read", "a readable YAML file is wanted") from None
    cost = config.cost.model_copy(update={"price_file": f"{folder}{PRICES}"})
    return config.model_copy(update={"cost": cost}), {PRICES: text}


def job_environment(config: RunConfig) -> dict[str, str]:
    """The environment of the job's driver and workers: no secrets, which its cluster has already."""
    from ssrnn_launch.ray_session import worker_environment

    return {
        **worker_environment(config.scale.gpus_per_worker),
        **config.cluster.env,
        "PYTHONUNBUFFERED": "1",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_SECONDS),
    }


def submit_run(config: RunConfig, address: str, *, fresh: bool = False) -> dict[str, Any]:
    """Submit a run to a head; the job.

    UserError where the cluster does not answer or does not know our token, where its nodes can't see the run's
    folders, and where the run has trained with other mathematics."""
    request = prepare(config, fresh=fresh)
    with tempfile.TemporaryDirectory(prefix="ssrnn-submit-") as scratch, job_client(address) as client:
        nodes = living_nodes(client)
        if len(nodes) > 1:
            check_for_nodes(config)
        if not fresh and (is_anywhere(config.run_root) or is_of_this_machine(client, nodes)):
            check_goes_on(absolute_paths(config))
        working = Path(scratch) / "run"
        working.mkdir()
        for name, text in request.files.items():
            (working / name).write_text(text, encoding="utf-8")
        modules = [str(build_wheel(Path(scratch)))]
        job_id = send(
            client,
            entrypoint=request.entrypoint,
            submission_id=request.job_id,
            metadata=request.metadata,
            runtime_env={
                "working_dir": str(working),
                "py_modules": modules,
                "env_vars": request.environment,
                **({"pip": request.pip} if request.pip else {}),
            },
        )
        return describe(client.get_job_info(job_id))


def send(client: Any, **job: Any) -> str:
    """Submit a job; its id.  LaunchFailed where the head has no agent for it.

    A head that has just started answers before its agent can take a job, so it is asked again."""
    until = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return str(client.submit_job(**job))
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            if time.monotonic() > until:
                raise LaunchFailed(NO_AGENT) from None
            time.sleep(1)


def shown(request: Request, config: RunConfig) -> dict[str, Any]:
    """A request as --dry-run tells it: variables by name, and the files of the wheel."""
    return {
        "job_id": request.job_id,
        "entrypoint": request.entrypoint,
        "metadata": request.metadata,
        "runtime_env": {
            "working_dir": sorted(request.files),
            "py_modules": sorted(wheel_files()),
            "env_vars": sorted(request.environment),
            "pip": request.pip,
        },
        "secrets": sorted(config.cluster.secrets),
        "config": request.files["run.yaml"],
    }
