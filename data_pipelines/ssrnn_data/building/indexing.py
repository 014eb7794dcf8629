"""What index.json will say of a build; pure, but for asking which release this is."""

from collections.abc import Sequence
from importlib import metadata

from ssrnn_data.building.stages import Stages
from ssrnn_data.index import TOKENIZER_FILE, CorpusIndex, Noted, Origin, SplitEntry, TokenizerEntry
from ssrnn_data.plan import BuildPlan
from ssrnn_data.sources import SourceFile
from ssrnn_data.split import Split
from ssrnn_data.tokenizer import TextTokenizer
from ssrnn_data.writer import choose_dtype


def make_index(
    plan: BuildPlan,
    files: Sequence[SourceFile],
    stages: Stages,
    tokenizer: TextTokenizer,
    splits: dict[Split, SplitEntry],
    built_from: str,
) -> CorpusIndex:
    """The index of a build whose stages are all done."""
    tally = stages.tally
    noted = {reason: Noted(count=count, first=tuple(tally.first[reason])) for reason, count in tally.counts.items()}
    if any(each["documents"] for each in stages.duplicates):
        noted["duplicate"] = _noted_duplicates(files, stages)
    return CorpusIndex(
        created_by=f"ssrnn-dist {_release()}",
        dtype=choose_dtype(tokenizer.vocab_size),
        vocab_size=tokenizer.vocab_size,
        end_of_text=tokenizer.end_of_text,
        tokenizer=TokenizerEntry(file=TOKENIZER_FILE, sha256=tokenizer.sha256),
        splits=splits,
        sources=tuple(_printable(name) for name in plan.all_sources),
        origins=_origins(plan, files, stages),
        licence=plan.licence,
        provenance=plan.provenance,
        seed=plan.seed,
        holdout=float(plan.holdout),
        test=float(plan.test),
        replaced=noted.pop("replaced", Noted(count=0, first=())),
        skipped=dict(sorted(noted.items())),
        built_from=built_from,
    )


def _noted_duplicates(files: Sequence[SourceFile], stages: Stages) -> Noted:
    first = sorted(tuple(place) for each in stages.duplicates for place in each["first"])[:10]
    names = tuple(f"{_named(files[file])}, document {number + 1}" for file, number in first)
    return Noted(count=sum(each["documents"] for each in stages.duplicates), first=names)


def _named(file: SourceFile) -> str:
    return file.name if file.first_byte == 0 else f"{file.name} from byte {file.first_byte:,}"


def _origins(plan: BuildPlan, files: Sequence[SourceFile], stages: Stages) -> tuple[Origin, ...]:
    """What each source gave, with what was left out because it equals another document."""
    origins = []
    for place, source in enumerate(plan.all_sources):
        mine = [each for each, file in enumerate(files) if file.source == place]
        origins.append(
            Origin(
                source=_printable(source),
                files=sum(files[each].first_byte == 0 for each in mine),
                size_bytes=sum(files[each].part_bytes for each in mine),
                documents=sum(stages.of_files[each][0] for each in mine),
                text_bytes=sum(stages.of_files[each][1] for each in mine),
            )
        )
    return tuple(origins)


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")


def _release() -> str:
    try:
        return metadata.version("ssrnn-dist")
    except metadata.PackageNotFoundError:
        return "unreleased"
