"""Where the launch configs are: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path


def configs_folder() -> Path:
    """The folder of quickstart.yaml and the other configs that come with ssrnn."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
