"""`ssrnn report`: draw a run's report again."""

from typing import Annotated

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import DebugOption, JsonOption


def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN_FOLDER", help="A run's folder, such as runs/quickstart, or its URL.")
    ],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw report.html and its pictures again from what the run wrote down.

    Example: ssrnn report runs/quickstart
    """
    from ssrnn_dist.problems import user_error
    from ssrnn_dist.storage.mirror import run_folder_at

    run_folder = run_folder_at(run)
    if not (run_folder / "config.yaml").is_file():
        raise user_error(str(run_folder), "no config.yaml in it", "a run's folder is wanted, such as runs/quickstart")

    from ssrnn_dist.tracking.report import build_report

    built = build_report(run_folder)
    if output.as_json():
        output.emit_json({"report": str(built.html), "pictures": [str(path) for path in built.pngs]})
        return
    for path in (built.html, *built.pngs):
        output.say(str(path))
