"""The corpus that a config wants: built where it does not stand yet. Imports the data package inside."""

from pathlib import Path

from ssrnn_dist.config import check_config, read_yaml
from ssrnn_dist.config.sections import BuildSection, DataSection
from ssrnn_dist.problems import user_error
from ssrnn_launch.progress import build_progress


def corpus_folder(data: DataSection) -> Path:
    """Where the corpus stands or will stand."""
    assert data.index is not None  # a mixture has no folder of its own
    index = Path(data.index)
    return index.parent if index.name == "index.json" else index


def ensure_corpus(data: DataSection) -> bool:
    """Build the corpus if there is none and `build` says from what; whether it was built now.

    DataError or UserError where it can be neither found nor built."""
    folder = corpus_folder(data)
    build = data.build
    if (folder / "index.json").is_file() or build is None:
        return False  # a corpus that is missing with nothing to build it from is told by whoever opens it

    build_from(build, folder)
    return True


def build_from(build: BuildSection, folder: Path, *, processes: int | None = None, overwrite: bool = False) -> Path:
    """Build the corpus that a section describes; the path of its index. DataError as of build_corpus."""
    from ssrnn_data import build_corpus

    with build_progress(str(folder)) as progress:
        return build_corpus(
            out_dir=folder, processes=processes, overwrite=overwrite, progress=progress, **build.model_dump()
        )


def load_recipe(path: Path) -> DataSection:
    """A recipe: the `data` section of a run's config, as a file. UserError tells every problem in it at once."""
    data = check_config({"name": "recipe", "data": read_yaml(path)}).data
    if data.index is None or data.build is None:
        raise user_error(str(path), "no corpus to build", "`index:`, its folder, and `build:`, from what, are wanted")
    return data
