"""Options that several commands share, each written once. Imports typer only."""

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="A run's YAML file (see launch/configs/).")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one value of the config; may be repeated."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Number of workers; the same as --set scale.workers=N.")
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Start over in a new folder beside the old one; nothing is deleted.")
]
AddressOption = Annotated[
    str,
    typer.Option(
        "--address", envvar="RAY_API_SERVER_ADDRESS", metavar="URL", help="The dashboard of the cluster's head node."
    ),
]
# Both are read in output.start, before anything is parsed; here they are declared for the help texts.
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]

DEFAULT_ADDRESS = "http://127.0.0.1:8265"


def overrides(set_values: list[str] | None, workers: int | None = None) -> list[str]:
    """All changes to a config, --workers last."""
    return [*(set_values or []), *([] if workers is None else [f"scale.workers={workers}"])]
