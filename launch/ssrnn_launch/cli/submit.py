"""`ssrnn submit`: a run as a job on a Ray cluster."""

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
        output.note(f"job {job['id']}: Ctrl-C leaves it running; `ssrnn jobs stop {job['id']}` stops it")
        job = follow_job(address, job["id"])
    if output.as_json():
        output.emit_json(job)
    elif not follow:
        where = "" if address == DEFAULT_ADDRESS else f" --address {address}"
        output.say(f"submitted {job['id']}")
        output.say(f"  ssrnn jobs logs {job['id']} --follow{where}")
        output.say(f"  ssrnn jobs stop {job['id']}{where}")
    if follow and job["status"] != "SUCCEEDED":
        raise typer.Exit(2 if job["exit_code"] == 2 else 1)


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
        raise Stopped(f"the run goes on; `ssrnn jobs logs {job_id} --follow` comes back to it", 2) from None
