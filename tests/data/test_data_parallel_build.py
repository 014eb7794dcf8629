"""build_corpus on several processes, killed and gone on with: the same bytes, whatever happened on the way."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from ssrnn_data import CorpusIndex, DataError, build_corpus, load_tokenizer
from ssrnn_data.building import units
from ssrnn_data.building.runs import RunWriter

TextsOf = Callable[[CorpusIndex], dict[str, list[str]]]
ROOT = Path(__file__).parents[2]
SHAPE = {"vocab_size": 300, "holdout": 0.2, "test": 0.1, "shard_tokens": 4_000, "chunk_tokens": 500}


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 documents in 30 files of JSON lines, each file a unit of work where units are small; some come twice."""
    folder = tmp_path_factory.mktemp("lines")
    for number in range(30):
        lines = [f"line {number * 10 + line} of many, é 日本 " * (1 + (number * line) % 40) for line in range(10)]
        lines[9] = "this one is everywhere " * 30
        (folder / f"{number:02d}.jsonl").write_text("".join(json.dumps({"text": each}) + "\n" for each in lines))
    return folder


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units.cut_units, "__defaults__", (4_000,))
    monkeypatch.setattr(RunWriter.__init__, "__defaults__", (1_000,))


@pytest.fixture(scope="module")
def undisturbed(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by this process alone, from one unit."""
    return build_corpus(texts, tmp_path_factory.mktemp("built") / "one", **SHAPE).parent


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("processes", [1, 3])
def test_processes_and_units_change_nothing(texts: Path, undisturbed: Path, tmp_path: Path, processes: int) -> None:
    reports: list[tuple[str, int, int]] = []
    out = tmp_path / "out"
    build_corpus(texts, out, **SHAPE, processes=processes, progress=lambda *report: reports.append(report))
    assert content(out) == content(undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not [each for each in psutil.Process().children() if "workers" in " ".join(each.cmdline())]
    for stage in ("look", "tokenizer", "encode", "gather"):
        done = [report[1] for report in reports if report[0] == stage]
        assert done == sorted(done)


def test_three_splits_by_document_and_equal_documents_once(undisturbed: Path, texts_of: TextsOf) -> None:
    index = CorpusIndex.load(undisturbed)
    found = texts_of(index)
    assert set(found) == {"train", "valid", "test"}
    everything = [text for texts in found.values() for text in texts]
    assert len(everything) == len(set(everything)) == 271
    assert index.skipped["duplicate"].count == 29
    assert (index.holdout, index.test) == (0.2, 0.1)
    assert sum(origin.documents for origin in index.origins) == 300


def test_documents_are_shuffled_by_the_seed_alone(
    texts: Path, undisturbed: Path, tmp_path: Path, texts_of: TextsOf
) -> None:
    order = [int(text.split()[1]) for text in texts_of(CorpusIndex.load(undisturbed))["train"] if text[0] == "l"]
    assert order != sorted(order)
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.25
    again = CorpusIndex.load(build_corpus(texts, tmp_path / "out", **SHAPE, seed=1))
    assert texts_of(again)["train"] != texts_of(CorpusIndex.load(undisturbed))["train"]


KILLED = """
import sys
from ssrnn_data import build_corpus
from ssrnn_data.building import units
from ssrnn_data.building.runs import RunWriter
units.cut_units.__defaults__ = (4_000,)
print("begun", flush=True)
build_corpus(sys.argv[1], sys.argv[2], vocab_size=300, holdout=0.2, test=0.1, shard_tokens=4_000, chunk_tokens=500,
             processes=int(sys.argv[3]), progress=lambda *report: print(*report, flush=True))
"""


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize(("stage", "processes"), [("look", 2), ("encode", 2), ("encode", 1), ("gather", 2)])
def test_a_killed_build_goes_on(texts: Path, undisturbed: Path, tmp_path: Path, stage: str, processes: int) -> None:
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "data_pipelines")}
    command = [sys.executable, "-c", KILLED, str(texts), str(out), str(processes)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as build:
        assert build.stdout is not None
        workers: list[psutil.Process] = []
        for line in build.stdout:
            workers = psutil.Process(build.pid).children()
            said = line.split()
            if said[0] == stage and int(said[1]) > 0:
                break
        build.send_signal(signal.SIGKILL)
    assert not out.exists()
    _, alive = psutil.wait_procs(workers, timeout=20)  # they end with their parent
    assert not alive
    (staging,) = tmp_path.iterdir()
    before = {path: path.stat().st_mtime_ns for path in (staging / "parts").iterdir() if path.suffix == ".json"}
    assert before
    seen: set[Path] = set()

    def look(stage: str, done: int, total: int) -> None:
        seen.update(path for path, changed in before.items() if path.stat().st_mtime_ns == changed)

    build_corpus(texts, out, **SHAPE, processes=processes, progress=look)
    assert seen == set(before)  # what was finished was not done again
    assert content(out) == content(undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_builds_of_the_same_at_once_are_refused(texts: Path, tmp_path: Path) -> None:
    def again(stage: str, done: int, total: int) -> None:
        with pytest.raises(DataError, match="another process builds it now"):
            build_corpus(texts, tmp_path / "out", **SHAPE)

    build_corpus(texts, tmp_path / "out", **SHAPE, progress=again)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("small_units")
def test_an_error_in_a_worker_is_the_same_one_line(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}\n{"text": 3}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:2: the field 'text' holds a int"):
        build_corpus([texts, tmp_path / "bad.jsonl"], tmp_path / "out", **SHAPE, processes=2)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_a_document_longer_than_a_run_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunWriter.__init__, "__defaults__", (1_000,))
    text = "0123456789 " * 5_000
    (tmp_path / "long.txt").write_text(text)
    (tmp_path / "short.txt").write_text("short")
    index = CorpusIndex.load(
        build_corpus([tmp_path / "long.txt", tmp_path / "short.txt"], tmp_path / "out", holdout=0, vocab_size=257)
    )
    assert index.splits["train"].documents == 2
    assert index.splits["train"].text_bytes == len(text) + 5


def test_licence_provenance_and_processes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    path = build_corpus(
        tmp_path / "a.txt", tmp_path / "out", holdout=0, licence="CC-BY-4.0", provenance="by hand", processes=64
    )
    index = CorpusIndex.load(path)
    assert (index.licence, index.provenance) == ("CC-BY-4.0", "by hand")


def test_hugging_face_folders(tmp_path: Path, corpus: CorpusIndex) -> None:
    (tmp_path / "a.txt").write_text("some text, é 日本 and <|endoftext|>")
    raw = json.loads((corpus.folder / "tokenizer.json").read_text())
    raw["added_tokens"] = [{**raw["added_tokens"][0], "content": "</s>"}]
    raw["model"]["vocab"] = {("</s>" if t == "<|endoftext|>" else t): n for t, n in raw["model"]["vocab"].items()}
    whole, parts, none = (tmp_path / name for name in ("whole", "parts", "none"))
    for folder in (whole, parts, none):
        folder.mkdir()
    (whole / "tokenizer.json").write_text(json.dumps(raw))
    del raw["model"]["vocab"]["</s>"]
    (parts / "vocab.json").write_text(json.dumps({token: n - 1 for token, n in raw["model"]["vocab"].items()}))
    merges = raw["model"]["merges"]
    (parts / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in merges))
    (none / "readme.md").write_text("")
    for folder, vocab_size in ((whole, 300), (parts, 299)):
        path = build_corpus(tmp_path / "a.txt", tmp_path / f"out-{folder.name}", holdout=0, tokenizer=folder)
        index, tokenizer = CorpusIndex.load(path), load_tokenizer(path)
        assert index.end_of_text == tokenizer.end_of_text == vocab_size  # one more than there were
        assert tokenizer.decode(tokenizer.encode("é </s> <|endoftext|>")) == "é </s> <|endoftext|>"
    (parts / "vocab.json").write_text(json.dumps(raw["model"]["vocab"]))  # id 0 is nobody's
    with pytest.raises(DataError, match="several tokens have the id 299"):
        build_corpus(tmp_path / "a.txt", tmp_path / "out", holdout=0, tokenizer=parts)
    with pytest.raises(DataError, match=r"no tokenizer in this folder \(there is: readme\.md\)"):
        build_corpus(tmp_path / "a.txt", tmp_path / "out", holdout=0, tokenizer=none)


def of_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def splits_apart(tmp_path: Path) -> dict[str, Path]:
    """Sources of each split, which share texts: 7 and 8 are held out and in sources, 9 is in valid and in test."""

    def text(*numbers: int) -> list[str]:
        return [f"document {number}, é 日本 " * 40 for number in numbers]

    folder = tmp_path / "train"
    folder.mkdir()
    for number in range(20):
        of_lines(folder / f"{number:02d}.jsonl", text(*range(100 * number, 100 * number + 30), 7, 8))
    return {
        "sources": folder,
        "valid_sources": of_lines(tmp_path / "valid.jsonl", text(7, 9, 5_000, 5_001, 5_000)),
        "test_sources": of_lines(tmp_path / "test.jsonl", text(8, 9, 6_000)),
    }


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("deduplicate", [True, False])
def test_splits_of_their_own_are_whole_and_nothing_of_them_is_trained_on(
    splits_apart: dict[str, Path], tmp_path: Path, texts_of: TextsOf, deduplicate: bool
) -> None:
    shape = {"vocab_size": 300, "shard_tokens": 9_000, "deduplicate": deduplicate}
    index = CorpusIndex.load(build_corpus(**splits_apart, out_dir=tmp_path / "out", **shape, processes=1))
    found = {split: sorted(int(text.split()[1][:-1]) for text in texts) for split, texts in texts_of(index).items()}
    assert found["valid"] == ([7, 9, 5_000, 5_001] if deduplicate else [7, 9, 5_000, 5_000, 5_001])
    assert found["test"] == [8, 9, 6_000]
    trained = {number for place in range(20) for number in range(100 * place, 100 * place + 30)} - {7, 8, 9}
    assert found["train"] == sorted(trained)
    held_out = 20 * 2 + 3  # each file's 7 and 8, and the first file's own 7, 8 and 9
    assert index.skipped["held_out"].count == held_out
    assert index.skipped["held_out"].first[0] == f"{splits_apart['sources'] / '00.jsonl'}:8"
    assert (index.holdout, index.test) == (0, 0)
    assert [(origin.files, origin.documents) for origin in index.origins] == [(20, 640), (1, 5), (1, 3)]
    assert index.sources == tuple(str(path) for path in splits_apart.values())


@pytest.mark.usefixtures("small_units")
def test_held_out_sources_change_no_byte_by_processes_and_no_tokenizer(
    splits_apart: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer is that of the training documents alone: with the held-out ones taken out by hand."""
    shape, reports = {"vocab_size": 400, "shard_tokens": 9_000}, list[tuple[str, int, int]]()
    one, three, plain, given = (tmp_path / name for name in ("one", "three", "plain", "given"))
    build_corpus(**splits_apart, out_dir=three, **shape, processes=3, progress=lambda *report: reports.append(report))
    monkeypatch.undo()
    build_corpus(**splits_apart, out_dir=one, **shape, processes=1)
    assert content(one) == content(three)
    for stage in ("look", "tokenizer", "encode", "gather"):
        done = [report[1:] for report in reports if report[0] == stage]
        assert done == sorted(done)
        assert done[-1][0] == done[-1][1]
    held_out = {path.read_text() for path in (splits_apart["valid_sources"], splits_apart["test_sources"])}
    lines = {line for text in held_out for line in text.splitlines()}
    for path in splits_apart["sources"].iterdir():
        path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if line not in lines))
    build_corpus(splits_apart["sources"], plain, **shape, holdout=0)
    without, with_them = CorpusIndex.load(plain), CorpusIndex.load(one)
    assert without.tokenizer == with_them.tokenizer
    assert without.splits["train"] == with_them.splits["train"]
    build_corpus(**splits_apart, out_dir=given, tokenizer=one / "tokenizer.json", shard_tokens=9_000)
    assert CorpusIndex.load(given).splits == with_them.splits


def test_a_fraction_for_one_split_and_sources_for_the_other(
    splits_apart: dict[str, Path], tmp_path: Path, texts_of: TextsOf
) -> None:
    del splits_apart["valid_sources"]
    index = CorpusIndex.load(build_corpus(**splits_apart, out_dir=tmp_path / "out", vocab_size=300, holdout=0.2))
    found = texts_of(index)
    assert (index.holdout, len(found["test"])) == (0.2, 3)
    assert 60 < len(found["valid"]) < 180
    assert not set(found["test"]) & set(found["train"] + found["valid"])
    assert build_corpus(splits_apart["sources"], tmp_path / "drawn", vocab_size=300)
    assert CorpusIndex.load(tmp_path / "drawn").holdout == 0.02


@pytest.mark.parametrize(
    ("train", "valid", "what"),
    [
        (["a"], [""], "^valid_sources: no document in .*valid.jsonl; at least one is needed"),
        (["a"], ["a", "b"], r"no document is left to train on \(1 held_out\)"),
        ([""], [""], r"no document in 2 files \(2 empty\)"),
    ],
)
@pytest.mark.parametrize("tokenizer", [True, False])
def test_splits_without_a_document_are_one_line(
    tmp_path: Path, corpus: CorpusIndex, train: list[str], valid: list[str], what: str, tokenizer: bool
) -> None:
    sources = of_lines(tmp_path / "train.jsonl", train)
    own = of_lines(tmp_path / "valid.jsonl", valid)
    with pytest.raises(DataError, match=what):
        build_corpus(
            sources,
            tmp_path / "out",
            valid_sources=own,
            tokenizer=corpus.folder / "tokenizer.json" if tokenizer else None,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.jsonl", "valid.jsonl"]


@pytest.mark.usefixtures("small_units")
def test_a_killed_build_with_held_out_sources_goes_on(splits_apart: dict[str, Path], tmp_path: Path) -> None:
    class Killed(BaseException):
        """Like Ctrl-C at any moment."""

    shape = {"vocab_size": 300, "shard_tokens": 9_000, "processes": 1}
    build_corpus(**splits_apart, out_dir=tmp_path / "undisturbed", **shape)
    calls = 0
    while not (tmp_path / "out").exists():
        calls += 3
        left = calls

        def stop(stage: str, done: int, total: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed

        with contextlib.suppress(Killed):
            build_corpus(**splits_apart, out_dir=tmp_path / "out", **shape, progress=stop)
    assert calls > 3
    assert content(tmp_path / "out") == content(tmp_path / "undisturbed")


def test_documents_of_lines_are_split_by_document_whatever_the_units(
    tmp_path: Path, texts_of: TextsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, articles = tmp_path / "wiki", []
    folder.mkdir()
    for number in range(8):
        mine = [f" = Title {number}.{each} = \n \n" + f" line of {number * each}, é \n" * 30 for each in range(12)]
        (folder / f"{number}.txt").write_text("".join(mine))
        articles += mine
    shape = {"vocab_size": 300, "holdout": 0.2, "document_start": r" = [^=].* = \n?$", "shard_tokens": 9_000}
    index = CorpusIndex.load(build_corpus(folder, tmp_path / "out", **shape))
    found = texts_of(index)
    assert sorted(found["train"] + found["valid"]) == sorted(articles)
    assert found["valid"]
    assert [origin.documents for origin in index.origins] == [96]
    monkeypatch.setattr(units.cut_units, "__defaults__", (4_000,))
    build_corpus(folder, tmp_path / "again", **shape, processes=2)
    assert content(tmp_path / "again") == content(tmp_path / "out")
    with pytest.raises(DataError, match="other files or arguments"):
        build_corpus(folder, tmp_path / "out", **{**shape, "document_start": " = "})
