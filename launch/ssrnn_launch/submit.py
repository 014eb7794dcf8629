"""`ssrnn submit`: the same run as a job of a cluster: this code as a wheel, the resolved config, nothing else.

Imports ray inside."""

import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssrnn_dist.config import RunConfig, to_yaml
from ssrnn_launch.jobs import STOP_WAIT_SECONDS, describe, job_client
from ssrnn_launch.local import absolute_paths
from ssrnn_launch.wheel import build_wheel

AGENT_SECONDS = 60.0  # how long a head's agent may take to come up


def submit_run(config: RunConfig, address: str, *, fresh: bool = False) -> dict[str, Any]:
    """Submit a run; the job. Paths in the config are taken as they are seen from here: the workers must see them, too.

    UserError where the cluster does not answer or does not know our token."""
    config = absolute_paths(config)
    with tempfile.TemporaryDirectory(prefix="ssrnn-submit-") as scratch, job_client(address) as client:
        working = Path(scratch) / "run"
        working.mkdir()
        (working / "run.yaml").write_text(to_yaml(config), encoding="utf-8")
        job_id = _when_ready(
            client.submit_job,
            entrypoint="python -m ssrnn_launch.job_entry run.yaml" + (" --fresh" if fresh else ""),
            submission_id=f"{config.name}-{secrets.token_hex(3)}",
            metadata={"ssrnn_run": config.name, "ssrnn_folder": str(config.folder)},
            runtime_env={
                "working_dir": str(working),
                "py_modules": [str(build_wheel(Path(scratch)))],
                "env_vars": job_environment(config),
            },
        )
        return describe(client.get_job_info(job_id))


def _when_ready(submit: Callable[..., str], **job: Any) -> str:
    """Submit; a head that has just started answers before its agent can take a job, so it is asked again."""
    until = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return submit(**job)
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(1)


def job_environment(config: RunConfig) -> dict[str, str]:
    """The environment of the job's driver and workers."""
    from ssrnn_launch.ray_session import worker_environment

    return {
        **worker_environment(config.scale.gpus_per_worker),
        "PYTHONUNBUFFERED": "1",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_SECONDS),
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    }
