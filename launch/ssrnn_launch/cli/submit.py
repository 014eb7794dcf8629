"""`ssrnn submit`: a run as a job on a Ray cluster."""

import signal
import sys
from typing import Annotated

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import (
    DEFAULT_ADDRESS,
    AddressOption,
    ConfigArgument,
    DebugOption,
    FreshOption,
    JsonOption,
    SetOption,
    WorkersOption,
    overrides,
)


def submit(
    config: ConfigArgument,
    address: AddressOption = DEFAULT_ADDRESS,
    set_values: SetOption = None,
    workers: WorkersOption = None,
    fresh: FreshOption = False,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and show what the run prints.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Send a run to a Ray cluster; the code goes along as a wheel.

    The cluster's token is read from RAY_AUTH_TOKEN or ~/.ray/auth_token. With --follow, Ctrl-C leaves the run alone.

    Example: ssrnn submit launch/configs/one-node-8-gpus.yaml --address http://127.0.0.1:8265 --workers 8 --follow
    """
    from ssrnn_dist.config import load_config
    from ssrnn_launch.submit import submit_run

    loaded = load_config(config, overrides(set_values, workers))
    job = submit_run(loaded, address, fresh=fresh)
    if follow:
        stop = jobs_command("stop", job["id"], address)
        output.note(f"job {job['id']}: Ctrl-C leaves it running; `{stop}` stops it")
        job = follow_job(address, job["id"])
    if output.as_json():
        output.emit_json(job)
    elif not follow:
        output.say(f"submitted {job['id']}")
        output.say(f"  {jobs_command('logs', job['id'], address, '--follow')}")
        output.say(f"  {jobs_command('stop', job['id'], address)}")
    if follow and job["status"] != "SUCCEEDED":
        raise typer.Exit(2 if job["exit_code"] == 2 else 1)


def jobs_command(verb: str, job_id: str, address: str, *more: str) -> str:
    """The command for a job, as the user would type it."""
    where = [] if address == DEFAULT_ADDRESS else ["--address", address]
    return " ".join(["ssrnn", "jobs", verb, job_id, *more, *where])


def follow_job(address: str, job_id: str) -> dict:
    """Show a job's output until it ends; Ctrl-C only stops the showing."""
    from ssrnn_launch.jobs import follow_logs
    from ssrnn_launch.problems import Stopped

    stream = sys.stderr if output.as_json() else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    try:
        return follow_logs(address, job_id, write)
    except KeyboardInterrupt:
        back = jobs_command("logs", job_id, address, "--follow")
        raise Stopped(f"the run goes on; `{back}` comes back to it", signal.SIGINT) from None
