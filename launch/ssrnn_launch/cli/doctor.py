"""`ssrnn doctor`: a cluster checked before the money starts."""

from typing import Annotated

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import ConfigArgument, DebugOption, JsonOption, SetOption, WorkersOption, overrides


def doctor(
    config: ConfigArgument,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="ADDRESS",
            help="The cluster: IP:PORT of its head, auto, ray://HOST:10001, or http://HOST:8265 to send the doctor "
            "there as a job. Default: cluster.address, else a Ray started here.",
        ),
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Train two steps of the run, in a scratch folder.")
    ] = True,
    set_values: SetOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check a cluster, or this machine, before a run: one line each for versions, storage, clocks, network, a trial.

    Exit code 0: nothing failed; 1: something did; 2: the config is wrong.

    Example: ssrnn doctor my.yaml --address http://127.0.0.1:8265
    """
    from ssrnn_dist.config import load_config
    from ssrnn_launch.doctor.checks import report
    from ssrnn_launch.doctor.examine import examine
    from ssrnn_launch.doctor.job import examine_by_job

    loaded = load_config(config, overrides(set_values, workers))
    address = address or loaded.cluster.address
    by_job = address is not None and address.startswith(("http://", "https://"))
    if address is not None:
        loaded = loaded.model_copy(update={"cluster": loaded.cluster.model_copy(update={"address": address})})
    checks = []
    with output.console(stderr=True).status("looking") as status:
        for check in (examine_by_job if by_job else examine)(loaded, trial=trial, doing=status.update):
            checks.append(check)
            status.stop()  # while it stands, rich sends stdout where the spinner is, past a pipe
            output.say(str(check))
            status.start()
    made = report(checks)
    output.say(f"{made['passed']} ok, {made['warnings']} warn, {made['failed']} FAIL")
    if output.as_json():
        output.emit_json(made)
    if not made["ok"]:
        raise typer.Exit(1)
