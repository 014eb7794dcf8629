"""`ssrnn quickstart`: from nothing to a trained model, once."""

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import DebugOption, FreshOption, JsonOption, SetOption, WorkersOption, overrides


def quickstart(
    set_values: SetOption = None,
    workers: WorkersOption = None,
    fresh: FreshOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build a corpus of Python's own source, train a small model on every core, and show what came of it.

    Again, it goes on where it was, or shows what stands; it never trains twice.

    Example: ssrnn quickstart
    """
    from ssrnn_launch.quickstart import quickstart_config, run_quickstart, what_stands

    config = quickstart_config(overrides(set_values, workers))
    for line in what_stands(config, fresh):
        output.say(line)
    result = run_quickstart(config, fresh=fresh)
    _show(result)
    if result.trained.stopped_by is not None:
        raise typer.Exit(128 + result.trained.stopped_by)


def _show(result) -> None:  # type: ignore[no-untyped-def]
    from ssrnn_launch.summary import HEADINGS, summary_object, summary_rows

    if output.as_json():
        made = {
            "sample": None if result.sample is None else str(result.sample),
            "report": None if result.report is None else str(result.report),
            "pictures": [str(path) for path in result.pictures],
            "open_mlflow": result.open_mlflow,
        }
        output.emit_json({**summary_object(result.trained), **made})
        return
    trained = result.trained
    output.pairs(summary_rows(trained.summary), title=f"{trained.config.name}: {HEADINGS[trained.state]}")
    if trained.state == "stopped":
        output.say("the same command goes on from there")
    if result.sample is not None:
        output.say("\n".join(result.sample.read_text(encoding="utf-8").splitlines()[:12]) + "\n…")
        output.say(f"\nsample    {result.sample}")
        output.say(f"report    {result.report}")
        for path in result.pictures:
            output.say(f"picture   {path}")
    output.say(f"\nopen MLflow with\n  {result.open_mlflow}")
