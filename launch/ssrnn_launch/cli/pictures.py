"""Where a command's picture goes: a file whose suffix says its form."""

from pathlib import Path
from typing import TYPE_CHECKING

from ssrnn_dist.problems import user_error
from ssrnn_launch.cli import output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf")


def check_picture(path: Path | None) -> None:
    """UserError for a name that no picture can have; before the work begins."""
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise user_error("--picture", repr(str(path)), f"a name that ends in {', '.join(SUFFIXES)} is allowed")


def save_picture(figure: "Figure", path: Path) -> None:
    """Draw it there, and say so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise user_error("--picture", f"{path} can't be written ({error.strerror})", "a place to write to") from error
    output.say(f"picture: {path}")
