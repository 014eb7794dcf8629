"""`ssrnn jobs list|status|logs|stop`: the runs on a cluster."""

from datetime import datetime
from typing import Annotated, Any

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import DEFAULT_ADDRESS, AddressOption, DebugOption, JsonOption

app = typer.Typer(no_args_is_help=True, help="Look at and stop the runs on a Ray cluster.\n\nExample: ssrnn jobs list")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, from `ssrnn jobs list`.")]


@app.command("list")
def list_(address: AddressOption = DEFAULT_ADDRESS, json: JsonOption = False, debug: DebugOption = False) -> None:
    """All jobs of the cluster, newest first.

    Example: ssrnn jobs list --address http://127.0.0.1:8265
    """
    from ssrnn_launch.jobs import list_jobs

    found = list_jobs(address)
    if output.as_json():
        output.emit_json({"jobs": found})
        return
    rows = [[job["id"], job["run"] or "", job["status"], _clock(job["started"]), _took(job)] for job in found]
    output.table(["job", "run", "status", "started", "took"], rows)


@app.command()
def status(
    job_id: JobArgument, address: AddressOption = DEFAULT_ADDRESS, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """One job: its run, its folder, how it stands.

    Example: ssrnn jobs status laptop-3f2a91
    """
    from ssrnn_launch.jobs import job_status

    _show(job_status(address, job_id))


@app.command()
def logs(
    job_id: JobArgument,
    address: AddressOption = DEFAULT_ADDRESS,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what comes.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What a job has printed.

    Example: ssrnn jobs logs laptop-3f2a91 --follow
    """
    from ssrnn_launch.cli.submit import follow_job
    from ssrnn_launch.jobs import job_logs

    if follow:
        job = follow_job(address, job_id)
        if output.as_json():
            output.emit_json(job)
        return
    text = job_logs(address, job_id)
    if output.as_json():
        output.emit_json({"id": job_id, "logs": text})
    else:
        output.say(text.rstrip("\n"))


@app.command()
def stop(
    job_id: JobArgument, address: AddressOption = DEFAULT_ADDRESS, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Stop a job; its run saves a checkpoint first, and submitting it again goes on from there.

    Example: ssrnn jobs stop laptop-3f2a91
    """
    from ssrnn_launch.jobs import stop_job

    _show(stop_job(address, job_id))


def _show(job: dict[str, Any]) -> None:
    if output.as_json():
        output.emit_json(job)
        return
    rows = {"job": job["id"], "run": job["run"], "folder": job["folder"], "status": job["status"]}
    rows |= {"started": _clock(job["started"]), "took": _took(job), "message": job["message"]}
    output.pairs({name: value for name, value in rows.items() if value})


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _took(job: dict[str, Any]) -> str:
    from ssrnn_dist.console import duration

    if job["started"] is None:
        return ""
    return duration((job["ended"] or datetime.now().timestamp()) - job["started"])
