"""`ssrnn data build|inspect|verify`: from text to a corpus, and what a corpus holds."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ssrnn_launch.cli import data_mix, output
from ssrnn_launch.cli.options import DebugOption, JsonOption

app = typer.Typer(
    no_args_is_help=True, help="Build and look at corpora.\n\nExample: ssrnn data build notes/ --out corpora/notes"
)
app.command("mix")(data_mix.mix)
_BESIDE_A_RECIPE = ("recipe", "out", "processes", "overwrite", "json", "debug")


@app.command()
def build(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, quoted globs, URLs: text, code, .jsonl, .tar (also .gz .zst .bz2 .xz), .parquet; "
            "`stdlib:` is Python's own source."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The corpus's folder; a recipe names one itself.")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="A YAML file that says it all, as in data_pipelines/recipes/; in place of SOURCES and options."
        ),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Entries of the byte-level BPE tokenizer to train.")] = 4096,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json or a Hugging Face folder, in place of training one.")
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(help="Fraction of the documents held out for validation; 0.02, or 0 with --valid-source."),
    ] = None,
    test: Annotated[float, typer.Option(help="Fraction of the documents kept for a test split.")] = 0.0,
    valid_source: Annotated[
        list[str] | None,
        typer.Option(
            help="What is the valid split, all of it, as SOURCES are given; may be repeated. Training documents that "
            "equal one of its are left out."
        ),
    ] = None,
    test_source: Annotated[list[str] | None, typer.Option(help="The same for the test split.")] = None,
    text_field: Annotated[str, typer.Option(help="The field or column of a record that holds its text.")] = "text",
    document_start: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="A line of a text, or a row of .jsonl or .parquet, that this matches begins a document, the others go "
            "on with it; ' = [^=]' for WikiText. Without it a file, or a row, is a document.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which documents are held out, and the order of all.")] = 0,
    shard_tokens: Annotated[int | None, typer.Option(help="Tokens of a shard, about; by size where not given.")] = None,
    on_invalid: Annotated[
        str, typer.Option(help="What becomes of text that is no UTF-8: skip, replace, error.")
    ] = "skip",
    deduplicate: Annotated[bool, typer.Option(help="Keep only the first of equal documents.")] = True,
    licence: Annotated[str | None, typer.Option(help="The text's licence, for the index: CC-BY-4.0.")] = None,
    provenance: Annotated[str | None, typer.Option(help="Where the text comes from, for the index.")] = None,
    processes: Annotated[
        int | None, typer.Option(help="At most so many processes; one a core where not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a corpus that stands at --out.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Build a corpus: tokenizer, shuffled shards, held-out splits, index.json. A killed build goes on when run again.

    Example: ssrnn data build 'notes/**/*.md' s3://bucket/logs/*.jsonl.gz --out corpora/notes --vocab-size 8192

    Example: ssrnn data build train.txt --valid-source valid.txt --document-start '# ' --out corpora/chapters

    Example: ssrnn data build --recipe data_pipelines/recipes/wikitext-103.yaml
    """
    from ssrnn_data import build_corpus, inspect_corpus
    from ssrnn_dist.problems import user_error
    from ssrnn_launch.progress import build_progress

    if recipe is not None:
        _check_alone(context)
        _show(inspect_corpus(_build_recipe(recipe, out, processes, overwrite)))
        return
    if not sources:
        raise user_error("SOURCES", "none came", "files, folders, globs, URLs or --recipe FILE are wanted")
    if out is None:
        raise user_error("--out", "not given", "the folder of the corpus is wanted")
    if on_invalid not in ("skip", "replace", "error"):
        raise user_error("--on-invalid", repr(on_invalid), "skip, replace or error is allowed")
    with build_progress(str(out)) as progress:
        index = build_corpus(
            sources,
            out,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            holdout=holdout,
            test=test,
            valid_sources=valid_source or (),
            test_sources=test_source or (),
            text_field=text_field,
            document_start=document_start,
            seed=seed,
            shard_tokens=shard_tokens,
            on_invalid=on_invalid,  # type: ignore[arg-type]
            deduplicate=deduplicate,
            licence=licence,
            provenance=provenance,
            processes=processes,
            overwrite=overwrite,
            progress=progress,
        )
    _show(inspect_corpus(index))


def _check_alone(context: typer.Context) -> None:
    """UserError for what a recipe says itself."""
    from ssrnn_dist.problems import user_error

    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in _BESIDE_A_RECIPE and source is not None and source.name == "COMMANDLINE":
            came = f"{'SOURCES' if name == 'sources' else parameter.opts[0]} came beside it"
            allowed = "--out, --processes and --overwrite go with a recipe; change a copy of the file for the rest"
            raise user_error("--recipe", came, allowed)


def _build_recipe(recipe: Path, out: Path | None, processes: int | None, overwrite: bool) -> Path:
    from ssrnn_launch.corpus import build_from, corpus_folder, load_recipe

    data = load_recipe(recipe)
    assert data.build is not None
    return build_from(data.build, out or corpus_folder(data), processes=processes, overwrite=overwrite)


@app.command()
def inspect(
    index: Annotated[str, typer.Argument(metavar="CORPUS", help="A corpus's folder or index.json, as path or URL.")],
    picture: Annotated[Path | None, typer.Option(help="Draw the lengths of documents: a .svg, .png or .pdf.")] = None,
    document: Annotated[int | None, typer.Option(help="Print the text of this document instead, from 0.")] = None,
    split: Annotated[str, typer.Option(help="The split that --document is of.")] = "train",
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a corpus holds: splits, counts, lengths, how some documents begin; or one's text, back from its ids.

    Example: ssrnn data inspect corpora/notes --picture lengths.svg
    """
    from ssrnn_data import draw_lengths, inspect_corpus, read_document
    from ssrnn_dist.problems import user_error
    from ssrnn_launch.cli.pictures import check_picture, save_picture

    check_picture(picture)
    if document is not None and picture is not None:
        raise user_error("--picture", "given beside --document", "one of them is allowed")
    if document is not None:
        pieces = read_document(index, document, split)
        if output.as_json():
            output.emit_json({"split": split, "document": document, "text": "".join(pieces)})
            return
        for piece in pieces:
            sys.stdout.buffer.write(piece.encode("utf-8"))
        return
    found = inspect_corpus(index)
    if picture is not None:
        save_picture(draw_lengths(found), picture)
    _show(found)


@app.command()
def verify(
    index: Annotated[str, typer.Argument(metavar="CORPUS", help="A corpus's folder or index.json, as path or URL.")],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read all of a corpus and compare it with its index: checksums, counts, every sample. Exit code 1 on a fault.

    A fault is a line: the file, the byte from which on it is bad where that can be told, and what is wrong.

    Example: ssrnn data verify corpora/notes
    """
    from ssrnn_data import verify_corpus
    from ssrnn_launch.progress import counted_progress

    with counted_progress("bytes verified") as progress:
        found = verify_corpus(index, progress)
    if output.as_json():
        output.emit_json({**vars(found), "faults": [vars(fault) for fault in found.faults]})
    else:
        for fault in found.faults:
            output.say(str(fault))
        ends = f"{len(found.faults)} faults" if found.faults else "all as the index says"
        output.say(f"{index}: {found.shards:,} shards, {found.tokens:,} tokens, {found.size_bytes:,} bytes: {ends}")
    if found.faults:
        raise SystemExit(1)


def _show(found: dict) -> None:
    if output.as_json():
        output.emit_json(found)
        return
    columns = ["split", "documents", "tokens", "text", "bytes/token", "tokens/document", "shards"]
    rows = [
        [
            name,
            f"{split['documents']:,}",
            f"{split['tokens']:,}",
            f"{split['text_bytes'] / 1e6:,.1f} MB",
            f"{split['bytes_per_token']:.2f}",
            f"{split['tokens_per_document']:,.0f}",
            str(split["shards"]),
        ]
        for name, split in found["splits"].items()
    ]
    output.say(f"{found['index']}  vocabulary {found['vocab_size']:,}  fingerprint {found['fingerprint'][:12]}")
    output.table(columns, rows)
    for origin in found["origins"]:
        counts = f"files: {origin['files']:,}, documents: {origin['documents']:,}, {origin['text_bytes'] / 1e6:,.1f} MB"
        output.say(f"source {origin['source']}  {counts}")
    for what in ("licence", "provenance"):
        if found[what]:
            output.say(f"{what}: {found[what]}")
    for reason, count in found["skipped"].items():
        output.say(f"skipped {count:,}: {reason}")
    lengths = [
        [f"{each['from']:,} – {each['below'] - 1:,}", f"{each['documents']:,}"] for each in found["length_histogram"]
    ]
    output.table(
        ["tokens of a document", f"documents in {found['shards_read']} of {found['splits']['train']['shards']} shards"],
        lengths,
    )
    for document in found["documents"]:
        output.say(f"{document['shard']}: {document['head'][:100]!r}")
