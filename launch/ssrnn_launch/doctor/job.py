"""The doctor as a job of the cluster, where only its dashboard is reached: this code goes along as a wheel.

Imports ray inside. As a program (in the job): prints each check as a line that the sender reads."""

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssrnn_dist.config import RunConfig, load_config, to_yaml
from ssrnn_dist.problems import UserError
from ssrnn_launch.doctor.checks import Check, fail, ok, report
from ssrnn_launch.doctor.examine import examine
from ssrnn_launch.problems import LaunchFailed

MARK = "SSRNN-CHECK "
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
POLL_SECONDS = 1.0
FOUND_FAILURES = 3  # the job's exit code: all was looked at, and something is wrong


def examine_by_job(config: RunConfig, *, trial: bool, doing: Callable[[str], None]) -> Iterator[Check]:
    """The checks of `examine`, as made on the cluster whose dashboard is config.cluster.address.

    Files in the config are those that the cluster's nodes see."""
    from ssrnn_launch.jobs import job_client

    address = config.cluster.address or ""
    doing(f"sending the doctor to {address}")
    try:
        with job_client(address) as client:
            job_id = _submit(client, config, trial)
            yield ok("job", f"{job_id} on {address}: the token is right, the dashboard takes jobs")
            doing(f"job {job_id} at work")
            yield from _follow(client, job_id)
    except UserError as error:
        for problem in error.problems:
            yield fail(problem.where, problem.came, problem.allowed)
    except LaunchFailed as error:
        yield fail("job", str(error), "look at the head's logs")


def _submit(client: Any, config: RunConfig, trial: bool) -> str:
    from ssrnn_launch.local import absolute_paths
    from ssrnn_launch.submit import job_environment, send
    from ssrnn_launch.wheel import build_wheel

    config = absolute_paths(config)
    with tempfile.TemporaryDirectory(prefix="ssrnn-doctor-") as scratch:
        working = Path(scratch) / "run"
        working.mkdir()
        (working / "run.yaml").write_text(to_yaml(config), encoding="utf-8")
        return send(
            client,
            entrypoint="python -m ssrnn_launch.doctor.job run.yaml" + ("" if trial else " --no-trial"),
            submission_id=f"doctor-{config.name}-{secrets.token_hex(3)}",
            runtime_env={
                "working_dir": str(working),
                "py_modules": [str(build_wheel(Path(scratch)))],
                "env_vars": job_environment(config),
            },
        )


def _follow(client: Any, job_id: str) -> Iterator[Check]:
    """The job's checks as it prints them; it is stopped where we are."""
    told, status = 0, ""
    try:
        while status not in ENDED:
            status = str(getattr(client.get_job_status(job_id), "value", ""))
            text = str(client.get_job_logs(job_id))
            checks = checks_in(text)
            yield from checks[told:]
            told = len(checks)
            time.sleep(0 if status in ENDED else POLL_SECONDS)
    finally:
        if status not in ENDED:
            client.stop_job(job_id)
    if status != "SUCCEEDED" and client.get_job_info(job_id).driver_exit_code != FOUND_FAILURES:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")
        yield fail("job", f"{job_id} {status}: {last[:200]}", f"`ssrnn jobs logs {job_id}` has all that it said")


def checks_in(text: str) -> list[Check]:
    """The checks among what a job printed; a line that is not whole yet is left for the next time. Pure."""
    whole = text[: text.rfind("\n") + 1]
    return [Check(**json.loads(line[len(MARK) :])) for line in whole.splitlines() if line.startswith(MARK)]


def main(arguments: list[str]) -> int:
    """In the job: every check as a marked line; the exit code by which Ray calls the job SUCCEEDED or FAILED."""
    config = load_config(arguments[0], ["cluster.address=auto"])
    made = []
    for check in examine(config, trial="--no-trial" not in arguments, doing=lambda _: None):
        print(f"{MARK}{json.dumps(asdict(check))}", flush=True)
        made.append(check)
    return 0 if report(made)["ok"] else FOUND_FAILURES


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
