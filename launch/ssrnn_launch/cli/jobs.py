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
    """All jobs of the cluster, newest first; those that run with step, loss and cost so far.

    Example: ssrnn jobs list --address http://127.0.0.1:8265
    """
    from ssrnn_launch.jobs import list_jobs

    found = list_jobs(address)
    if output.as_json():
        output.emit_json({"jobs": found})
        return
    columns = ["job", "status", "workers", "step", "loss", "tokens/s", "cost", "left", "started", "took"]
    rows = [[job["id"], job["status"], *_progress_cells(job), _clock(job["started"]), _took(job)] for job in found]
    output.table(columns, rows)
    for job in found:
        if place := _in_mlflow(job):
            output.say(f"{job['id']}  {place}")


@app.command()
def status(
    job_id: JobArgument, address: AddressOption = DEFAULT_ADDRESS, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """One job: its run, its folder, how far it is, what it has cost, where MLflow shows it.

    Example: ssrnn jobs status laptop-3f2a91
    """
    from ssrnn_launch.jobs import job_status

    _show(job_status(address, job_id))


@app.command()
def logs(
    job_id: JobArgument,
    address: AddressOption = DEFAULT_ADDRESS,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what comes.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="All that was printed, records and Ray's own news included.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What a job has printed, its records as lines; with --follow, as a progress bar on a terminal.

    Example: ssrnn jobs logs laptop-3f2a91 --follow
    """
    from ssrnn_launch.cli.submit import follow_job
    from ssrnn_launch.job_logs import is_rays_news, job_logs
    from ssrnn_launch.records import as_lines

    if follow:
        _refuse_raw(raw)
        job = follow_job(address, job_id)
        if output.as_json():
            output.emit_json(job)
        return
    text = job_logs(address, job_id)
    shown = text.rstrip("\n") if raw else "\n".join(line for line in as_lines(text) if not is_rays_news(line))
    if output.as_json():
        output.emit_json({"id": job_id, "logs": shown})
    else:
        output.say(shown)


@app.command()
def stop(
    job_id: JobArgument, address: AddressOption = DEFAULT_ADDRESS, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Stop a job; its run saves a checkpoint first, and submitting it again goes on from there.

    Example: ssrnn jobs stop laptop-3f2a91
    """
    from ssrnn_launch.jobs import stop_job

    job = stop_job(address, job_id)
    _show(job)
    if not output.as_json():
        saved = job["saved_step"]
        told = "no checkpoint was saved in this job" if saved is None else f"its newest checkpoint is of step {saved:,}"
        output.say(f"{told}; submitting the run's config again goes on from what is saved")


def _refuse_raw(raw: bool) -> None:
    from ssrnn_dist.problems import user_error

    if raw:
        raise user_error("--raw", "given with --follow", "one of them is allowed")


def _show(job: dict[str, Any]) -> None:
    if output.as_json():
        output.emit_json(job)
        return
    workers, step, loss, speed, cost, left = _progress_cells(job)
    rows = {"job": job["id"], "run": job["run"], "folder": job["folder"], "status": job["status"], "workers": workers}
    rows |= {"step": step, "loss": loss, "tokens/s": speed, "cost": cost, "left": left}
    rows |= {"MLflow": _in_mlflow(job), "saved": _number(job["saved_step"], "step {:,}")}
    rows |= {"started": _clock(job["started"]), "took": _took(job), "message": job["message"]}
    output.pairs({name: value for name, value in rows.items() if value})


def _in_mlflow(job: dict[str, Any]) -> str | None:
    """The run's page; where MLflow has no server, the run's id and the store that it is in."""
    url, run_id = job["mlflow_url"], job["mlflow_run_id"]
    if url is None or run_id is None or str(url).startswith("http"):
        return url or run_id
    return f"run {run_id} in {url}"


def _progress_cells(job: dict[str, Any]) -> list[str]:
    """workers, step of steps, loss, tokens/s, cost, time left; empty where the log does not say."""
    from ssrnn_dist.console import dollars, duration

    if job["step"] is None:
        return [""] * 6
    left = duration(job["seconds_left"]) if job["status"] == "RUNNING" else ""
    step = f"{job['step']:,}/{job['steps']:,}"
    speed = _number(job["tokens_per_second"], "{:,.0f}")
    return [_number(job["workers"], "{}"), step, _number(job["loss"], "{:.4f}"), speed, dollars(job["cost_usd"]), left]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _took(job: dict[str, Any]) -> str:
    from ssrnn_dist.console import duration

    if job["started"] is None:
        return ""
    return duration((job["ended"] or datetime.now().timestamp()) - job["started"])
