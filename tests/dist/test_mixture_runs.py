"""Runs on a mixture: one curve, whoever goes on with it and on how many ranks; each corpus's numbers; refusals."""

import json
import math
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from damage import edit
from worlds import ROOT, rank_environment, train_many

from ssrnn_data import CorpusIndex, DataError, build_corpus
from ssrnn_dist.config import RunConfig, check_config, to_yaml
from ssrnn_dist.data import has_new_weights, open_corpora, open_stream
from ssrnn_dist.evaluate import Evaluation, evaluate_checkpoint
from ssrnn_dist.hooks import StepMetrics
from ssrnn_dist.problems import UserError
from ssrnn_dist.runs import changed_keys, prepare_run
from ssrnn_dist.stepping import by_source
from ssrnn_dist.tracking.history import read_history
from ssrnn_dist.tracking.report import build_report
from ssrnn_dist.tracking.report.source import read_run
from ssrnn_dist.tracking.tracker import metric_values
from ssrnn_dist.validation import Validation

LANES, LENGTH, STEPS = 13, 12, 8  # of conftest's Runs
FALLING, RISING = [[0, 3], [1200, 1]], [[0, 0], [1200, 2]]  # over most of the run's 1,248 tokens


@pytest.fixture(scope="session")
def notes(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second corpus of the first one's tokenizer, so small that a run reads it more than once."""
    folder = tmp_path_factory.mktemp("notes")
    for number in range(12):
        (folder / f"{number}.txt").write_text("zero gate flow " * (number + 1))
    tokenizer = corpus / "tokenizer.json"
    return build_corpus([str(folder)], folder / "notes", tokenizer=tokenizer, holdout=0.3, shard_tokens=100).parent


def mixed(path: Path, sources: list[dict[str, Any]], **data: Any) -> Path:
    """A run's YAML with a mixture in the place of its corpus."""
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**values, "data": {"mixture": sources, **data}}))
    return path


def two(corpus: Path, notes: Path, *weights: Any) -> list[dict[str, Any]]:
    first, second = weights or (FALLING, RISING)
    return [{"index": str(corpus), "weight": first, "name": "words"}, {"index": str(notes), "weight": second}]


def rows(folder: Path, after: int = 0) -> list[dict[str, Any]]:
    return [row for row in read_history(folder / "metrics.jsonl") if row["step"] > after]


def losses(folder: Path, after: int = 0) -> list[float]:
    return [row["train_loss"] for row in rows(folder, after)]


def windows_of_an_epoch(index: Path) -> int:
    return (CorpusIndex.load(index).split("train").tokens - 1) // LENGTH


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def from_step_4(runs, name: str, sources: list[dict[str, Any]], **data: Any) -> Path:
    """The config of a run that goes on with what a kill after step 4 would have left of `mixed`."""
    source, folder = runs.folder("mixed"), runs.folder(name)
    shutil.copytree(source / "checkpoints" / "step-00000004", folder / "checkpoints" / "step-00000004")
    shutil.copy(source / "config.yaml", folder / "config.yaml")
    return mixed(runs.config(name), sources, **data)


@pytest.fixture(scope="module")
def trained(runs, corpus: Path, notes: Path):
    """A mixture on two ranks that never stops, and from its step 4 on one rank and on three."""
    sources = two(corpus, notes)
    train_many(2, mixed(runs.config("mixed"), sources))
    later = {world: from_step_4(runs, f"on-{world}", sources) for world in (1, 3)}
    with ThreadPoolExecutor() as pool:
        list(pool.map(train_many, later, later.values()))
    return runs


def test_a_mixture_goes_on_the_same_on_fewer_and_on_more_ranks(trained) -> None:
    whole = trained.folder("mixed")
    assert len(losses(whole)) == STEPS
    assert losses(whole)[-1] < losses(whole)[0] - 0.1
    for name in ("on-1", "on-3"):
        assert losses(trained.folder(name)) == pytest.approx(losses(whole, after=4), rel=2e-6)
        for key in ("valid_loss", "valid_bits_per_byte"):
            assert summary(trained.folder(name))[key] == pytest.approx(summary(whole)[key], rel=2e-6)
        assert [row["sources"]["notes"]["epochs"] for row in rows(trained.folder(name))] == [
            row["sources"]["notes"]["epochs"] for row in rows(whole, after=4)
        ]


def test_epochs_are_the_windows_that_the_shares_come_to(trained, corpus: Path, notes: Path) -> None:
    """The weights' sum is 3 all the way, so the share of notes rises to 2 / 3 at 1,200 tokens, and stays."""
    known = summary(trained.folder("mixed"))["sources"]
    windows = (1200 / 2 + LANES * LENGTH * STEPS - 1200) * 2 / 3 / LENGTH
    assert known["notes"]["epochs"] > 1
    read = known["notes"]["epochs"] * windows_of_an_epoch(notes)
    assert abs(read - windows) < 1
    assert read + known["words"]["epochs"] * windows_of_an_epoch(corpus) == pytest.approx(LANES * STEPS)


def test_each_corpus_has_its_own_validation_and_all_together_the_runs(trained, corpus: Path, notes: Path) -> None:
    folder = trained.folder("mixed")
    told = summary(folder)
    whole = {"nats": 0.0, "tokens": 0}
    for name, index in (("words", corpus), ("notes", notes)):
        alone = evaluate_checkpoint(folder, index, lanes=LANES, sequence_length=LENGTH)
        assert told["sources"][name]["valid_loss"] == pytest.approx(alone["loss"], rel=2e-6)
        assert told["sources"][name]["valid_bits_per_byte"] == pytest.approx(alone["bits_per_byte"], rel=2e-6)
        whole = {key: value + alone[key] for key, value in whole.items()}
    assert told["valid_loss"] == pytest.approx(whole["nats"] / whole["tokens"], rel=2e-6)
    assert told["sources"]["words"]["valid_loss"] != pytest.approx(told["sources"]["notes"]["valid_loss"], rel=1e-3)
    (last,) = rows(folder, after=STEPS - 1)
    assert last["sources"] == told["sources"]


def test_mlflow_and_the_report_know_every_corpus(trained) -> None:
    folder = trained.folder("mixed")
    ask = "select value from metrics where run_uuid = ? and key = ? order by step"
    with closing(sqlite3.connect(folder.parent / "mlflow.db")) as database:
        run = summary(folder)["mlflow_run_id"]
        epochs, valid = (database.execute(ask, (run, key)).fetchall() for key in ("epochs/notes", "valid_loss/words"))
    assert epochs == [(row["sources"]["notes"]["epochs"],) for row in rows(folder)]
    assert valid == [(summary(folder)["sources"]["words"]["valid_loss"],)]
    assert read_run(folder).by_source("epochs")["notes"].steps == list(range(1, STEPS + 1))
    assert {path.stem for path in build_report(folder).pngs} > {"loss", "epochs", "sources"}


@pytest.mark.long
def test_a_run_goes_on_with_new_weights_only_where_that_is_allowed(trained, corpus: Path, notes: Path) -> None:
    """From step 4 on nothing but notes: 13 of its windows a step."""
    path, folder = from_step_4(trained, "reweighed", two(corpus, notes, 0, 1)), trained.folder("reweighed")
    command = [sys.executable, "-m", "ssrnn_dist.train", str(path)]
    given = {k: v for k, v in rank_environment(0, 1, 0).items() if k not in {"RANK", "WORLD_SIZE"}}
    for more, code, said in (
        ([], 2, "error: data.mixture.0.weight: 0.0 now, "),
        (["data.allow_new_weights=true"], 0, "warning: the mixture's weights are new: from step 4 on "),
    ):
        ended = subprocess.run([*command, *more], cwd=ROOT, env=given, capture_output=True, text=True, timeout=200)
        assert ended.returncode == code, ended.stderr
        assert said in ended.stderr
    before, *after = rows(trained.folder("mixed"))[3:4] + rows(folder)
    counts = [row["sources"]["notes"]["epochs"] for row in (before, *after)]
    an_epoch = windows_of_an_epoch(notes)
    assert [(later - earlier) * an_epoch for earlier, later in pairwise(counts)] == pytest.approx([LANES] * 4)
    assert {row["sources"]["words"]["epochs"] for row in after} == {before["sources"]["words"]["epochs"]}


def test_a_single_corpus_counts_its_epochs_and_repeats_no_loss(tmp_path: Path, corpus: Path) -> None:
    run = config(tmp_path, index=str(corpus))
    (opened,) = open_corpora(run)
    with open_stream(run, [opened], rank=0, world_size=1) as stream:
        an_epoch = (opened.split.tokens - 1) // (LANES * LENGTH)
        for _ in range(an_epoch + 1):
            next(stream)
        assert stream.epochs() == {"built": pytest.approx(1 + 1 / an_epoch)}
    found = Validation({"built": Evaluation(nats=10.0, tokens=4, text_bytes=8)})
    assert by_source({"built": 0.5}, found) == {"built": {"epochs": 0.5}}
    assert by_source({"built": 0.5, "b": 1.0}, found)["built"] == {
        "epochs": 0.5,
        "valid_loss": 2.5,
        "valid_bits_per_byte": found.total.bits_per_byte,
    }


def config(folder: Path, sources: list[dict[str, Any]] | None = None, **data: Any) -> RunConfig:
    mixture = {"mixture": sources} if sources else {}
    train = {"tokens_per_batch": LANES * LENGTH, "sequence_length": LENGTH}
    return check_config({"name": "a", "run_root": str(folder), "data": {**mixture, **data}, "train": train})


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({}, "data.index: missing; required: folder of a built corpus"),
        ({"mixture": []}, "data.mixture: []; at least 1 is wanted"),
        ({"mixture": [{"index": "a"}], "index": "a"}, "data.mixture: given beside index; "),
        ({"mixture": [{"index": "a"}], "build": {"sources": ["b"]}}, "data.build: given beside mixture; "),
        ({"mixture": [{"index": "a", "name": "a/b"}]}, "data.mixture.0.name: 'a/b'; "),
        *(
            ({"mixture": [{"index": "b"}, {"index": "a", "weight": weight}]}, "data.mixture.1.weight: ")
            for weight in (-1, True, "x", None, [], math.nan, 1e301, [[0, 1], 3], [[0, 1], [0, 2]], [[3, 1], [2, 1]])
        ),
        ({"mixture": [{"index": "a", "weight": [[0.5, 1]]}]}, "data.mixture.0.weight: [[0.5, 1]]; a number of 0 or"),
    ],
)
def test_a_wrong_mixture_is_one_line(data: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as raised:
        check_config({"name": "a", "data": data})
    (problem,) = raised.value.problems
    assert str(problem).startswith(line), problem


def test_a_mixture_is_the_same_once_written_and_read(tmp_path: Path) -> None:
    given = config(tmp_path, [{"index": "a", "weight": 1}, {"index": "b", "weight": [[0, 1], [10, 0]], "name": "c"}])
    assert check_config(yaml.safe_load(to_yaml(given))) == given
    assert given.data.sources[1].weight == ((0, 1.0), (10, 0.0))


def test_corpora_that_do_not_go_together_are_refused_before_a_step(tmp_path: Path, corpus: Path, notes: Path) -> None:
    (tmp_path / "text.txt").write_text("another tokenizer " * 400)
    other = build_corpus([str(tmp_path / "text.txt")], tmp_path / "other", vocab_size=280, holdout=0).parent
    for sources, message in [
        (two(corpus, other), "words has tokenizer .*other has .*one tokenizer for all is allowed"),
        (two(corpus, notes, 0, [[0, 1], [99, 0]]), "weights: all are 0 at 99 tokens"),
        ([{"index": str(notes)}, {"index": str(notes)}], "2 have the name 'notes'"),
        (two(corpus, tmp_path / "nowhere"), "nowhere: no index there"),
    ]:
        with pytest.raises(DataError, match=message):
            open_corpora(config(tmp_path, sources))


def test_a_run_under_way_keeps_its_mixture_unless_new_weights_are_allowed(tmp_path: Path) -> None:
    was = config(tmp_path, [{"index": "a"}, {"index": "b", "weight": 2}])
    moved = [{"index": "/elsewhere/a", "name": "c"}, {"index": "b", "weight": 2.0}]
    assert changed_keys(was, config(tmp_path, moved)) == []
    heavier = [{"index": "a"}, {"index": "b", "weight": [[0, 2], [9, 3]]}]
    assert [key for key, _, _ in changed_keys(was, config(tmp_path, heavier))] == ["data.mixture.1.weight"]
    assert changed_keys(was, config(tmp_path, heavier, allow_new_weights=True)) == []
    assert changed_keys(was, config(tmp_path, [{"index": "a"}]))
    assert changed_keys(was, config(tmp_path, index="a"))
    prepare_run(was)
    (was.folder / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"data.mixture.1.weight: .*; data.allow_new_weights: true counts by them"):
        prepare_run(config(tmp_path, heavier))
    prepare_run(config(tmp_path, heavier, allow_new_weights=True))


def test_other_corpora_or_weights_than_a_checkpoints_are_refused_by_the_stream(
    tmp_path: Path, corpus: Path, notes: Path
) -> None:
    def stream(sources: list[dict[str, Any]] | None, position: dict[str, Any] | None = None, **data: Any) -> Any:
        run = config(tmp_path, sources, **data)
        return open_stream(run, open_corpora(run), rank=0, world_size=1, position=position)

    both = two(corpus, notes)
    saved = stream(both).position()
    heavier = two(corpus, notes, 1, 1)
    for sources, data in [(both[::-1], {"allow_new_weights": True}), (heavier, {}), (None, {"index": str(corpus)})]:
        with pytest.raises(DataError, match="position: "):
            stream(sources, saved, **data)
    new = stream(heavier, saved, allow_new_weights=True).position()
    assert has_new_weights(saved, new)
    assert not has_new_weights(saved, stream(both, saved).position())
    assert not has_new_weights({}, stream(None, index=str(corpus)).position())


@pytest.mark.parametrize("name", ["räume (2)", "", ".", "..", "a/b", "x" * 300])
def test_any_folders_name_becomes_a_metric_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    names = StepMetrics.__dataclass_fields__
    metrics = StepMetrics(**{**dict.fromkeys(names), "step": 1, "sources": {name: {"epochs": 0.5}}})
    ((key, value),) = metric_values(metrics).items()
    assert value == 0.5
    assert len(key) <= 250
    _validate_metric_name(key)


def test_an_index_that_its_tokenizer_contradicts_is_not_trained_on(tmp_path: Path, corpus: Path) -> None:
    changed = shutil.copytree(corpus, tmp_path / "changed")
    edit(changed, lambda raw: raw.update(vocab_size=9_000))
    with pytest.raises(DataError, match="vocab_size and end_of_text are 9,000 and 0; its tokenizer's are"):
        open_corpora(config(tmp_path, index=str(changed)))
    with pytest.raises(DataError, match="one tokenizer for all is allowed"):
        open_corpora(config(tmp_path, [{"index": str(corpus)}, {"index": str(changed)}]))
