"""`ssrnn submit`: a run as a job on a Ray cluster, one that stands or one that is made for it."""

import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from ssrnn_dist.config import RunConfig
    from ssrnn_launch.targets.written import Written


class Target(StrEnum):
    """Where a run goes: to a head that stands, or into a file that makes a cluster for it."""

    RAY = "ray"
    KUBERAY = "kuberay"
    AWS = "aws"
    GCP = "gcp"


TargetOption = Annotated[
    Target,
    typer.Option(
        "--to", help="ray: the head at --address. kuberay: a RayJob of its own. aws, gcp: a cluster file for `ray up`."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be sent or made; do neither.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where --to kuberay|aws|gcp writes.")]
CrdOption = Annotated[
    Path | None, typer.Option("--crd", metavar="FILE", help="--to kuberay: the RayJob CRD to check against.")
]


def submit(
    config: ConfigArgument,
    to: TargetOption = Target.RAY,
    address: AddressOption = DEFAULT_ADDRESS,
    set_values: SetOption = None,
    workers: WorkersOption = None,
    fresh: FreshOption = False,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and show how the run goes.")] = False,
    dry_run: DryRunOption = False,
    out: OutOption = None,
    crd: CrdOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Send a run to a Ray cluster, or write what makes a cluster for it; the code goes along as a wheel.

    The cluster's token is read from RAY_AUTH_TOKEN or ~/.ray/auth_token. With --follow, Ctrl-C leaves the run alone.
    Secrets are only ever named (cluster.secrets); their values are the cluster's.

    Example: ssrnn submit launch/configs/one-node-8-gpus.yaml --address http://127.0.0.1:8265 --workers 8 --follow
    """
    from ssrnn_dist.config import load_config

    loaded = load_config(config, overrides(set_values, workers))
    _check_options(to, follow, fresh, out, crd)
    if to is Target.RAY:
        _to_head(loaded, address, fresh, follow, dry_run)
    else:
        _to_file(loaded, to, fresh, dry_run, out, crd, config)


def _check_options(to: Target, follow: bool, fresh: bool, out: Path | None, crd: Path | None) -> None:
    from ssrnn_dist.problems import user_error

    if to is Target.RAY and out is not None:
        raise user_error("--out", "given with --to ray, which writes no file", "--to kuberay, aws or gcp has one")
    if to is not Target.KUBERAY and crd is not None:
        raise user_error("--crd", f"given with --to {to}", "it is for --to kuberay")
    if to is not Target.RAY and follow:
        raise user_error("--follow", f"given with --to {to}", "`ssrnn jobs logs JOB --follow` once the cluster stands")
    if to in (Target.AWS, Target.GCP) and fresh:
        raise user_error("--fresh", f"given with --to {to}", "it is for the `ssrnn submit` that follows `ray up`")


def _to_head(config: "RunConfig", address: str, fresh: bool, follow: bool, dry_run: bool) -> None:
    from ssrnn_launch.jobs import STOPPED_CODES
    from ssrnn_launch.submit import prepare, shown, submit_run

    if config.cluster.image is not None:
        output.note("cluster.image is not used: the head at --address has its environment already")
    if dry_run:
        _show_request(shown(prepare(config, fresh=fresh), config))
        return
    job = submit_run(config, address, fresh=fresh)
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
        raise typer.Exit(job["exit_code"] if job["exit_code"] in (2, *STOPPED_CODES) else 1)


def _show_request(request: dict[str, Any]) -> None:
    if output.as_json():
        output.emit_json({"target": Target.RAY.value, **request})
        return
    sent = request["runtime_env"]
    modules = sent["py_modules"]
    output.pairs(
        {
            "job": request["job_id"],
            "entrypoint": request["entrypoint"],
            "files": ", ".join(sent["working_dir"]),
            "wheel": f"{len(modules)} files of {', '.join(sorted({each.partition('/')[0] for each in modules}))}",
            "variables": ", ".join(sent["env_vars"]),
            "pip": ", ".join(sent["pip"]) or "none",
            "secrets": ", ".join(request["secrets"]) or "none",
        },
        title="would be sent (variables by name, secrets not at all: they are the cluster's)",
    )
    output.say(f"\nrun.yaml:\n{request['config']}\nwheel:\n" + "\n".join(f"  {each}" for each in modules))


def _to_file(
    config: "RunConfig", to: Target, fresh: bool, dry_run: bool, out: Path | None, crd: Path | None, source: Path
) -> None:
    written = _written(config, to, fresh, crd)
    path = out or (None if dry_run else Path(written.name))
    if path is not None:
        _write_new(path, written.text)
    steps = [
        (what, command.replace("FILE", str(path or written.name)).replace("CONFIG", str(source)))
        for what, command in written.steps
    ]
    applied = to is Target.KUBERAY and path is not None and not dry_run and _apply(path, steps)
    if output.as_json():
        facts = {"target": to.value, "file": path and str(path), "applied": applied, "checked": written.checked}
        output.emit_json({**facts, "notes": written.notes, "steps": dict(steps), "text": written.text})
        return
    if path is None:
        output.say(written.text.rstrip("\n"))
    for line in (*written.notes, f"checked against {written.checked}", *([f"written: {path}"] if path else [])):
        output.note(line)
    _show_steps(steps[1:] if applied else steps)


def _show_steps(steps: list[tuple[str, str]]) -> None:
    for what, command in steps:
        output.note(f"  {command}    # {what}")


def _written(config: "RunConfig", to: Target, fresh: bool, crd: Path | None) -> "Written":
    from ssrnn_launch.targets import schemas, written

    if to is Target.KUBERAY:
        schema = None if crd is None else schemas.read_crd(crd)
        checked = f"the CRD in {crd}" if crd else schemas.own_schema()["title"]
        return written.for_kuberay(config, schema, checked, fresh=fresh)
    return written.for_machines(config, "aws" if to is Target.AWS else "gcp")


def _write_new(path: Path, text: str) -> None:
    from ssrnn_dist.problems import user_error

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise user_error(str(path), "is there already", "another --out FILE, or that it be taken away first") from None


def _apply(path: Path, steps: list[tuple[str, str]]) -> bool:
    """Whether kubectl is here and has made the manifest's objects; checked once more against the cluster's own CRD.

    steps: what to do with the manifest, told where kubectl fails."""
    import yaml

    from ssrnn_launch.problems import LaunchFailed
    from ssrnn_launch.targets import kubectl, schemas

    if not kubectl.found():
        output.note("kubectl is not on this machine; where it is:")
        return False
    output.note(f"written: {path}")
    try:
        schemas.check_rayjob(list(yaml.safe_load_all(path.read_text()))[1], kubectl.cluster_schema())
        kubectl.apply(path)
    except LaunchFailed:
        output.note("kubectl failed; once it reaches the cluster:")
        _show_steps(steps)
        raise
    return True


def jobs_command(verb: str, job_id: str, address: str, *more: str) -> str:
    """The command for a job, as the user would type it."""
    where = [] if address == DEFAULT_ADDRESS else ["--address", address]
    return " ".join(["ssrnn", "jobs", verb, job_id, *more, *where])


def follow_job(address: str, job_id: str) -> dict[str, Any]:
    """Show how a job's run goes until it ends; Ctrl-C only stops the showing."""
    from ssrnn_launch import job_logs
    from ssrnn_launch.problems import Stopped
    from ssrnn_launch.progress import open_job_view

    try:
        with open_job_view() as show:
            return job_logs.follow_job(address, job_id, show)
    except KeyboardInterrupt:
        back = jobs_command("logs", job_id, address, "--follow")
        raise Stopped(f"the run goes on; `{back}` comes back to it", signal.SIGINT) from None
