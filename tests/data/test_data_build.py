"""build_corpus: what it stores is what came, the same each time, and nothing is lost or left half done."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssrnn_data import (
    CorpusIndex,
    DataError,
    as_webdataset,
    build_corpus,
    draw_lengths,
    inspect_corpus,
    load_tokenizer,
    read_document,
)

TextsOf = Callable[[CorpusIndex], dict[str, list[str]]]
ROOT = Path(__file__).parents[2]


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def many(folder: Path, count: int = 40) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02d}.txt").write_text(f"document {number} " * (number + 1))
    return folder


def test_every_document_is_there_once_as_it_was(corpus: CorpusIndex, text_folder: Path, texts_of: TextsOf) -> None:
    texts = texts_of(corpus)
    came = [path.read_bytes().decode() for path in text_folder.rglob("*.*")]
    assert sorted(texts["train"] + texts["valid"]) == sorted(came)
    for split, entry in corpus.splits.items():
        assert entry.documents == len(texts[split])
        assert entry.text_bytes == sum(len(text.encode()) for text in texts[split])
        assert len(entry.shards) > 5
        assert entry.samples > entry.documents
    assert corpus.dtype == "uint16"
    assert 257 <= corpus.vocab_size <= 300


def test_checksums_sizes_and_counts_are_true(corpus: CorpusIndex, stored_ids: Callable) -> None:
    for split, entry in corpus.splits.items():
        for shard, ids in zip(entry.shards, stored_ids(corpus, split), strict=True):
            data = corpus.shard_path(shard).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.size_bytes, shard.sha256)
            assert len(ids) == shard.tokens
            assert int((ids == corpus.end_of_text).sum()) == shard.documents
            assert ids.max() < corpus.vocab_size


def test_webdataset_reads_the_tars_by_itself(corpus: CorpusIndex) -> None:
    samples = list(as_webdataset(corpus.folder))
    assert len(samples) == corpus.splits["train"].samples
    assert sum(len(sample["ids.npy"]) for sample in samples) == corpus.splits["train"].tokens
    assert samples[0]["ids.npy"].dtype == np.uint16
    assert len({sample["__key__"] for sample in samples}) == len(samples)


def test_the_same_bytes_each_time(corpus: CorpusIndex, text_folder: Path, tmp_path: Path) -> None:
    shape = {"vocab_size": 300, "holdout": 0.25, "shard_tokens": 3_000, "chunk_tokens": 700}
    build_corpus([str(text_folder)], tmp_path / "again", **shape)
    assert content(tmp_path / "again") == content(corpus.folder)


def test_mixed_sources_and_equal_documents_in_one_split(tmp_path: Path, texts_of: TextsOf) -> None:
    folder = many(tmp_path / "texts")
    lines = [json.dumps({"body": path.read_text()}) for path in sorted(folder.iterdir())]
    (tmp_path / "same.jsonl").write_text("\n".join(lines))
    sources, shape = [folder, tmp_path / "same.jsonl"], {"vocab_size": 257, "holdout": 0.3, "text_field": "body"}
    texts = texts_of(CorpusIndex.load(build_corpus(sources, tmp_path / "all", deduplicate=False, **shape)))
    assert all(sorted(texts[split]) == sorted(2 * list(set(texts[split]))) for split in ("train", "valid"))
    assert len(texts["train"] + texts["valid"]) == 80
    index = CorpusIndex.load(build_corpus(sources, tmp_path / "once", **shape))
    assert {split: sorted(found) for split, found in texts_of(index).items()} == {
        split: sorted(set(found)) for split, found in texts.items()
    }
    assert index.skipped["duplicate"].count == 40
    assert index.skipped["duplicate"].first[0] == f"{tmp_path / 'same.jsonl'}, document 1"
    assert [(origin.files, origin.documents) for origin in index.origins] == [(40, 40), (1, 40)]


def test_a_given_tokenizer_is_kept(corpus: CorpusIndex, tmp_path: Path) -> None:
    path = build_corpus(
        many(tmp_path / "texts"), tmp_path / "out", tokenizer=corpus.folder / "tokenizer.json", holdout=0.3
    )
    index = CorpusIndex.load(path)
    assert index.tokenizer.sha256 == corpus.tokenizer.sha256
    assert index.vocab_size == corpus.vocab_size
    assert load_tokenizer(path).end_of_text == corpus.end_of_text


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    from ssrnn_data.writer import choose_dtype, choose_shard_tokens

    assert (choose_dtype(65_536), choose_dtype(65_537)) == ("uint16", "uint32")
    assert choose_shard_tokens(1_000) == 16_384
    assert choose_shard_tokens(10**9) == 262_144
    assert 250_000_000_000 // choose_shard_tokens(10**12) <= 4_096


def test_skipped_documents_are_listed(tmp_path: Path) -> None:
    folder = many(tmp_path / "texts")
    (folder / "empty.txt").touch()
    (folder / "latin.txt").write_bytes("é".encode("latin-1"))
    (folder / "binary.py").write_bytes(b"\0")
    index = CorpusIndex.load(build_corpus(folder, tmp_path / "out", holdout=0.3))
    assert {reason: noted.count for reason, noted in index.skipped.items()} == {
        "binary": 1,
        "empty": 1,
        "invalid_utf8": 1,
    }
    assert index.skipped["invalid_utf8"].first == (str(folder / "latin.txt"),)
    replaced = CorpusIndex.load(build_corpus(folder, tmp_path / "out2", holdout=0.3, on_invalid="replace"))
    assert replaced.replaced.first == (str(folder / "latin.txt"),)
    with pytest.raises(DataError, match=r"binary\.py"):
        build_corpus(folder, tmp_path / "out3", holdout=0.3, on_invalid="error")
    assert not (tmp_path / "out3").exists()


def test_impossible_splits_say_what_would_do(tmp_path: Path) -> None:
    folder = many(tmp_path / "texts", 5)
    with pytest.raises(
        DataError, match=r"0\.0001 of 5 documents leaves the valid split .* from 0\.\d+ to 0\.\d+"
    ) as low:
        build_corpus(folder, tmp_path / "out", holdout=0.0001)
    with pytest.raises(DataError, match="leaves the train split"):
        build_corpus(folder, tmp_path / "out", holdout=0.9999)
    advised = float(str(low.value).split("a holdout from ")[1].split(" ")[0])
    assert set(CorpusIndex.load(build_corpus(folder, tmp_path / "out", holdout=advised)).splits) == {"train", "valid"}
    (tmp_path / "one.txt").write_text("one document")
    with pytest.raises(DataError, match=r"of 1 document leaves .* holdout 0 \(no valid split\)"):
        build_corpus(tmp_path / "one.txt", tmp_path / "one")
    index = CorpusIndex.load(build_corpus(tmp_path / "one.txt", tmp_path / "one", holdout=0))
    assert set(index.splits) == {"train"}
    with pytest.raises(DataError, match="holdout makes a valid split, test a test split"):
        index.split("valid")


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"vocab_size": 256}, "vocab_size"),
        ({"vocab_size": 300.0}, "vocab_size"),
        ({"holdout": 1}, "holdout"),
        ({"holdout": -0.1}, "holdout"),
        ({"holdout": float("nan")}, "holdout"),
        ({"holdout": "0.1"}, "holdout"),
        ({"seed": -1}, "seed"),
        ({"shard_tokens": 63}, "shard_tokens"),
        ({"vocab_size": 10_000_001}, "vocab_size"),
        ({"processes": 0}, "processes"),
        ({"chunk_tokens": 0}, "chunk_tokens"),
        ({"on_invalid": "ignore"}, "on_invalid"),
        ({"text_field": ""}, "text_field"),
        ({"document_start": ""}, "document_start"),
        ({"document_start": 3}, "document_start"),
        ({"document_start": "(a"}, "document_start"),
        ({"document_start": "a{99999999999999999999}"}, "document_start"),
        ({"valid_sources": [""]}, "valid_sources"),
        ({"valid_sources": "stdlib:", "holdout": 0.1}, "holdout"),
        ({"test_sources": "stdlib:", "test": 0.1}, "test"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: dict, where: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=f"^{where}: .*; .* allowed$"):
        build_corpus(tmp_path / "a.txt", tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_only_empty_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"no document in 1 files \(1 empty\)"):
        build_corpus(tmp_path / "a.txt", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_stands_is_returned_and_nothing_else_is_lost(tmp_path: Path) -> None:
    folder, out = many(tmp_path / "texts"), tmp_path / "out"
    path = build_corpus(folder, out, holdout=0.3)
    before = path.stat().st_mtime_ns
    assert build_corpus(folder, out, holdout=0.3) == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="overwrite=True"):
        build_corpus(folder, out, holdout=0.4)
    (folder / "more.txt").write_text("more")
    with pytest.raises(DataError, match="other files or arguments"):
        build_corpus(folder, out, holdout=0.3)
    assert path.stat().st_mtime_ns == before
    build_corpus(folder, out, holdout=0.3, overwrite=True)
    assert CorpusIndex.load(out).splits["train"].documents + CorpusIndex.load(out).splits["valid"].documents == 41
    (out / "notes.md").write_text("mine")
    with pytest.raises(DataError, match=r"would lose 'notes\.md'"):
        build_corpus(folder, out, holdout=0.4, overwrite=True)


def test_a_damaged_corpus_is_built_again_only_when_asked(tmp_path: Path) -> None:
    folder, out = many(tmp_path / "texts"), tmp_path / "out"
    build_corpus(folder, out, holdout=0.3)
    (out / "train-000000.tar").unlink()
    with pytest.raises(DataError, match="damaged corpus"):
        build_corpus(folder, out, holdout=0.3)
    build_corpus(folder, out, holdout=0.3, overwrite=True)
    CorpusIndex.load(out)


def test_overwriting_takes_away_nothing_but_a_corpus_of_ours(tmp_path: Path) -> None:
    folder, out = many(tmp_path / "texts"), tmp_path / "out"
    out.mkdir()
    (out / "index.json").write_text('{"my": "app"}')
    (out / "precious.tar").write_text("precious")
    with pytest.raises(DataError, match="a folder that is no corpus and not empty"):
        build_corpus(folder, out, holdout=0.3, overwrite=True)
    (out / "index.json").write_text('{"format": "ssrnn-corpus"}')
    with pytest.raises(DataError, match=r"would lose 'precious\.tar'"):
        build_corpus(folder, out, holdout=0.3, overwrite=True)
    assert (out / "precious.tar").read_text() == "precious"


@pytest.mark.parametrize("kind", ["file", "folder", "under a file", "nowhere to write"])
def test_places_that_are_taken(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    out = {"file": tmp_path / "a.txt", "folder": tmp_path, "under a file": tmp_path / "a.txt" / "out"}.get(
        kind, Path("/proc/none/out")
    )
    for overwrite in (False, True):
        with pytest.raises(DataError):
            build_corpus(tmp_path / "a.txt", out, holdout=0, overwrite=overwrite)
    assert (tmp_path / "a.txt").read_text() == "text"


def test_a_failure_leaves_no_litter_and_keeps_the_old(tmp_path: Path) -> None:
    folder, out = many(tmp_path / "texts"), tmp_path / "out"
    build_corpus(folder, out, holdout=0.3)
    before = content(out)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "encode" and done:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        build_corpus(folder, out, holdout=0.4, overwrite=True, progress=stop)
    assert content(out) == before
    assert len(list(tmp_path.glob(".out.building-*"))) == 1  # what was finished waits for the same call
    build_corpus(folder, out, holdout=0.4, overwrite=True)
    assert content(out) != before
    assert {path.name for path in tmp_path.iterdir()} == {"texts", "out"}


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    script = (
        "import resource, sys\nfrom ssrnn_data import build_corpus\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "try: build_corpus(sys.argv[1], sys.argv[2], vocab_size=257, holdout=0.3)\n"
        "except OSError as error: print(error.strerror)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "data_pipelines")}
    command = [sys.executable, "-c", script, many(tmp_path / "texts", 80), tmp_path / "out"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("File too large\n", "")
    assert not (tmp_path / "out").exists()
    build_corpus(tmp_path / "texts", tmp_path / "out", vocab_size=257, holdout=0.3)
    build_corpus(tmp_path / "texts", tmp_path / "undisturbed", vocab_size=257, holdout=0.3)
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")


def test_a_build_of_something_else_clears_away_a_killed_one(tmp_path: Path) -> None:
    folder, out = many(tmp_path / "texts"), tmp_path / "out"
    script = (
        "import os, signal, sys\nfrom ssrnn_data import build_corpus\n"
        "build_corpus(sys.argv[1], sys.argv[2], holdout=0.3,\n"
        "  progress=lambda stage, done, total: stage == 'tokenizer' and os.kill(os.getpid(), signal.SIGKILL))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "data_pipelines")}
    done = subprocess.run([sys.executable, "-c", script, folder, out], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".out.building-*"))) == 1
    build_corpus(folder, out, holdout=0.31)
    assert {path.name for path in tmp_path.iterdir()} == {"texts", "out"}


def test_progress_reports_each_stage_to_its_end(tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    build_corpus(
        many(tmp_path / "texts"), tmp_path / "out", holdout=0.3, progress=lambda *report: reports.append(report)
    )
    assert list(dict.fromkeys(stage for stage, _, _ in reports)) == ["look", "tokenizer", "encode", "gather"]
    last = {stage: (done, total) for stage, done, total in reports}
    assert all(done == total > 0 for done, total in last.values())


def test_building_does_not_need_torch_to_be_named() -> None:
    script = "import sys; from ssrnn_data import build_corpus, DataError; assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "data_pipelines")}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_inspect_tells_counts_and_text(corpus: CorpusIndex) -> None:
    told = inspect_corpus(corpus.folder, n_samples=4)
    json.dumps(told)
    assert len(told["documents"]) == 4
    assert told["splits"]["train"]["tokens"] == corpus.splits["train"].tokens
    assert told["splits"]["train"]["bytes_per_token"] > 1
    assert sum(bin["documents"] for bin in told["length_histogram"]) > 4


def build_one_line(tmp_path: Path, megabytes: int, unbroken: bool) -> None:
    """Builds a one-line file in a fresh process; checks the text and the memory at its peak."""
    stem = "abcdefghij" if unbroken else "abcd é日 ab"
    text = stem * (megabytes * 100_000)
    (tmp_path / "line.txt").write_text(text)
    script = (
        "import re, sys\nfrom ssrnn_data import build_corpus\n"
        "build_corpus(sys.argv[1], sys.argv[2], holdout=0, vocab_size=300)\n"
        "print(int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "data_pipelines")}
    command = [sys.executable, "-c", script, tmp_path / "line.txt", tmp_path / "out"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 900
    index = CorpusIndex.load(tmp_path / "out")
    assert index.splits["train"].text_bytes == len(text.encode())
    assert index.splits["train"].documents == 1


@pytest.mark.parametrize("unbroken", [False, True])
def test_a_line_of_five_megabytes(tmp_path: Path, unbroken: bool) -> None:
    build_one_line(tmp_path, 5, unbroken)


@pytest.mark.long
@pytest.mark.parametrize("unbroken", [False, True])
def test_a_line_of_a_hundred_megabytes(tmp_path: Path, unbroken: bool) -> None:
    build_one_line(tmp_path, 100, unbroken)


def test_every_document_s_text_comes_back_from_its_ids(corpus: CorpusIndex, texts_of: TextsOf) -> None:
    for split, texts in texts_of(corpus).items():
        assert ["".join(read_document(corpus, number, split)) for number in range(len(texts))] == texts
    with pytest.raises(DataError, match=r"document: 99 came; 0 to \d+ of the valid split are allowed"):
        next(read_document(corpus, 99, "valid"))


def test_lengths_are_drawn(corpus: CorpusIndex) -> None:
    told = inspect_corpus(corpus)
    (axes,) = draw_lengths(told).axes
    assert [bar.get_height() for bar in axes.patches] == [each["documents"] for each in told["length_histogram"]]
