"""The corpus that a config wants: built where it does not stand yet. Imports the data package inside."""

from pathlib import Path

from ssrnn_dist.config.sections import DataSection
from ssrnn_launch.progress import build_progress


def corpus_folder(data: DataSection) -> Path:
    """Where the corpus stands or will stand."""
    index = Path(data.index)
    return index.parent if index.name == "index.json" else index


def ensure_corpus(data: DataSection) -> bool:
    """Build the corpus if there is none and `build` says from what; whether it was built now.

    DataError or UserError where it can be neither found nor built."""
    folder = corpus_folder(data)
    build = data.build
    if (folder / "index.json").is_file() or build is None:
        return False  # a corpus that is missing with nothing to build it from is told by whoever opens it

    from ssrnn_data import build_corpus

    with build_progress(str(folder)) as progress:
        build_corpus(
            build.sources,
            folder,
            tokenizer=build.tokenizer,
            vocab_size=build.vocab_size,
            holdout=build.holdout,
            test=build.test,
            deduplicate=build.deduplicate,
            licence=build.licence,
            provenance=build.provenance,
            text_field=build.text_field,
            progress=progress,
        )
    return True
