"""The documents of a file, each with its split: the file's own, or the one that its hash draws.

What is held out by sources of its own is nowhere else: documents that equal one of those are counted and left out.
"""

from collections.abc import Iterator

from ssrnn_data.building.held_out import HeldOut
from ssrnn_data.documents import Document, Tally, read_documents
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile
from ssrnn_data.split import Split, SplitCounts, split_of


def split_documents(
    plan: BuildPlan, file: SourceFile, counts: SplitCounts, tally: Tally, held_out: HeldOut
) -> Iterator[tuple[int, Document, Split | None]]:
    """Number in the file, document, split; None for one that equals a held-out document. counts and tally take note."""
    documents = read_documents(file, plan.text_field, plan.on_invalid, tally, plan.starts)
    for number, document in enumerate(documents):
        if file.split is not None:
            counts.documents[file.split] += 1
            counts.text_bytes[file.split] += document.text_bytes
            yield number, document, file.split
        elif document.digest in held_out:
            tally.add("held_out", document.where)
            yield number, document, None
        else:
            split = split_of(document.digest, plan.seed, plan.holdout, plan.test)
            counts.add(document.digest, document.text_bytes, plan.seed, split)
            yield number, document, split
