"""Damaged corpora: every fault is one line that names the shard, the key and what is allowed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives import Members, tar_of
from damage import edit, members_of, npy, replace_shard

from ssrnn_data import IGNORED_TARGET, CorpusIndex, DataError, EvaluationStream, TokenStream, inspect_corpus
from ssrnn_data.index import VERSION
from ssrnn_data.lanes import ShardSequence, shard_order
from ssrnn_data.shards import NPY_HEADER_BYTES


@pytest.fixture
def copy(corpus: CorpusIndex, tmp_path: Path) -> Path:
    """A copy of the small corpus to damage."""
    shutil.copytree(corpus.folder, tmp_path / "copy")
    return tmp_path / "copy"


def read_all(folder: Path) -> None:
    for _ in EvaluationStream(folder, split="train", lanes=1, sequence_length=100):
        pass


def read_lanes(folder: Path) -> None:
    for _ in TokenStream(folder, lanes=1, sequence_length=50, epochs=1):
        pass


DAMAGES: dict[str, tuple[Callable[[Members], bytes], str]] = {
    "a truncated tar": (lambda members: tar_of(members)[: len(tar_of(members)) // 2], "not a whole tar|tokens came"),
    "a tar cut between members": (lambda members: tar_of(members)[: 512 * 4], "not a whole tar|tokens came"),
    "no tar": (lambda members: b"hello world" * 1_000, "not a whole tar"),
    "an empty file": (lambda members: b"", "not a whole tar|tokens came"),
    "an empty tar": (lambda members: tar_of([]), "0 tokens came"),
    "a foreign tar": (lambda members: tar_of([("a/cat.jpg", b"meow")]), r"no member ids\.npy \(there is: jpg\)"),
    "a missing member": (
        lambda members: tar_of([(members[0][0].replace("ids.npy", "json"), b"{}"), *members[1:]]),
        "no member",
    ),
    "a missing sample": (lambda members: tar_of(members[1:]), "tokens came; the index says"),
    "a sample twice": (lambda members: tar_of([members[0], *members]), "tokens came; the index says"),
    "another dtype": (lambda members: tar_of([(members[0][0], npy(np.zeros(9, "<u4")))]), "ids are uint32"),
    "signed ids": (lambda members: tar_of([(members[0][0], npy(np.zeros(9, "<i2")))]), "begins with"),
    "two dimensions": (lambda members: tar_of([(members[0][0], npy(np.zeros((3, 3), "<u2")))]), "begins with"),
    "a pickle": (lambda members: tar_of([(members[0][0], npy(np.array([{}], object)))]), "never a pickle"),
    "ids outside the vocabulary": (
        lambda members: tar_of([(members[0][0], npy(np.full(9, 300, "<u2")))]),
        "id 300 came; ids below",
    ),
    "a cut array": (lambda members: tar_of([(members[0][0], members[0][1][:-2])]), "bytes of ids for"),
    "no ids": (lambda members: tar_of([(members[0][0], npy(np.zeros(0, "<u2")))]), "at least one token"),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("read", [read_all, read_lanes])
def test_damaged_shards_are_named(copy: Path, name: str, read: Callable[[Path], None]) -> None:
    damage, what = DAMAGES[name]
    replace_shard(copy, damage(members_of(copy)))
    with pytest.raises(DataError, match=what) as caught:
        read(copy)
    assert "train-000000.tar" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stream_stays_before_a_bad_shard_and_goes_on_when_it_is_mended(copy: Path) -> None:
    good = (copy / "train-000000.tar").read_bytes()
    wanted = [batch.tokens_BT for batch in TokenStream(copy, lanes=2, sequence_length=50, epochs=1)]
    index = CorpusIndex.load(copy)
    stream = TokenStream(index, lanes=2, sequence_length=50, epochs=1)
    (copy / "train-000000.tar").write_bytes(b"x")
    found = []
    with pytest.raises(DataError):
        found += list(iter(lambda: found.append(next(stream).tokens_BT), 1))
    assert stream.position()["window"] + 1 > 0
    assert stream.position()["window"] == len(found)
    (copy / "train-000000.tar").write_bytes(good)
    found += [batch.tokens_BT for batch in stream]
    assert len(found) == len(wanted)
    assert all((a == b).all() for a, b in zip(found, wanted, strict=True))


def test_a_missing_or_cut_shard_is_found_when_loading(copy: Path) -> None:
    shard = copy / "train-000001.tar"
    data = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(data[:-512])
    with pytest.raises(DataError, match=r"the shard train-000001\.tar has"):
        CorpusIndex.load(copy)
    shard.unlink()
    with pytest.raises(DataError, match=r"lists the shard train-000001\.tar, which is missing"):
        TokenStream(copy, lanes=1, sequence_length=8)


@pytest.mark.parametrize(
    "name",
    ["pipe:touch owned", "../copy/train-000000.tar", "/etc/passwd", "http://host/a.tar", "", ".x.tar", "a\n.tar"],
)
def test_shards_outside_the_folder_and_commands_are_refused(copy: Path, name: str) -> None:
    edit(copy, lambda raw: raw["splits"]["train"]["shards"][0].update(file=name))
    with pytest.raises(DataError, match=r"splits\.train\.shards\.0\.file") as caught:
        CorpusIndex.load(copy)
    assert "\n" not in str(caught.value)
    edit(copy, lambda raw: raw["splits"]["train"]["shards"][0].update(file="train-000000.tar"))
    edit(copy, lambda raw: raw["tokenizer"].update(file=name))
    with pytest.raises(DataError, match=r"tokenizer\.file"):
        inspect_corpus(copy)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "no index there"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not the index of a corpus"),
        (b'{"a": 1}', "not the index of a corpus"),
        (b'{"format": "ssrnn-corpus"}', "version None"),
        (b'{"format": "ssrnn-corpus", "version": 99}', f"version 99; this release reads version {VERSION}"),
        (b'{"format": "ssrnn-corpus", "version": 1}', "Field required"),
    ],
)
def test_what_is_no_index_is_refused(tmp_path: Path, content: bytes | None, what: str) -> None:
    if content is not None:
        (tmp_path / "index.json").write_bytes(content)
    for path in (tmp_path, tmp_path / "index.json"):
        with pytest.raises(DataError, match=what) as caught:
            CorpusIndex.load(path)
        assert str(caught.value).startswith(str(tmp_path / "index.json"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(dtype="float32"),
        lambda raw: raw.update(surprise=1),
        lambda raw: raw.update(vocab_size=-1),
        lambda raw: raw["splits"].update(other=raw["splits"]["train"]),
        lambda raw: raw["splits"].pop("train"),
        lambda raw: raw["splits"]["train"].update(tokens=1),
        lambda raw: raw["splits"]["train"]["shards"].pop(),
        lambda raw: raw.update(end_of_text=10**6),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit(copy, change)
    with pytest.raises(DataError) as caught:
        CorpusIndex.load(copy)
    assert "\n" not in str(caught.value)


def first_tokens(members: Members) -> int:
    return (len(members[0][1]) - NPY_HEADER_BYTES) // 2


def cut_in_the_second(members: Members) -> bytes:
    return tar_of(members)[: 512 + -(-len(members[0][1]) // 512) * 512 + 512 + 100]


def of_the_first(members: Members) -> slice:
    return slice(0, first_tokens(members))


def not_the_first(members: Members) -> slice:
    return slice(first_tokens(members), None)


def everything(members: Members) -> slice:
    return slice(None)


# What is done to the first training shard, and which of its tokens are then bad.
SKIPPED: dict[str, tuple[Callable[[Members], bytes], Callable[[Members], slice]]] = {
    "ids outside the vocabulary": (
        lambda members: tar_of([(members[0][0], npy(np.full(first_tokens(members), 9_999, "<u2"))), *members[1:]]),
        of_the_first,
    ),
    "a pickle": (
        lambda members: tar_of([(members[0][0], b"x" * len(members[0][1])), *members[1:]]),
        of_the_first,
    ),
    "another member": (
        lambda members: tar_of([(members[0][0][: -len("ids.npy")] + "jpg", members[0][1]), *members[1:]]),
        of_the_first,
    ),
    "a missing sample": (lambda members: tar_of(members[:1]), not_the_first),
    "a truncated tar": (cut_in_the_second, not_the_first),
    "no tar": (lambda members: b"hello world" * 1_000, everything),
    "an empty file": (lambda members: b"", everything),
}


@pytest.mark.parametrize("name", SKIPPED)
@pytest.mark.parametrize("lanes", [1, 5])
def test_skipped_samples_move_no_other_token(copy: Path, name: str, lanes: int) -> None:
    shape = {"lanes": lanes, "sequence_length": 50, "epochs": 1}
    wanted = list(TokenStream(copy, **shape))
    index, members = CorpusIndex.load(copy), members_of(copy)
    shards = index.splits["train"].shards
    sequence = ShardSequence.of([shard.tokens for shard in shards], shard_order(len(shards), 0, 0))
    is_bad = np.zeros(sequence.tokens, bool)
    damage, which = SKIPPED[name]
    place = int(np.flatnonzero(sequence.order == 0)[0])
    is_bad[sequence.starts[place] : sequence.starts[place + 1]][which(members)] = True
    replace_shard(copy, damage(members))

    stream = TokenStream(copy, **shape, on_bad_sample="skip", max_bad_fraction=1)
    found = list(stream)
    assert len(found) == len(wanted)
    for window, (got, want) in enumerate(zip(found, wanted, strict=True)):
        at = (np.arange(lanes)[:, None] * len(wanted) + window) * 50 + np.arange(50)
        bad_input, bad_target = torch.from_numpy(is_bad[at]), torch.from_numpy(is_bad[at + 1])
        assert torch.equal(got.tokens_BT, want.tokens_BT.where(~bad_input, torch.tensor(index.end_of_text)))
        ignored = bad_input | bad_target
        assert torch.equal(got.targets_BT, want.targets_BT.where(~ignored, torch.tensor(IGNORED_TARGET)))
        assert torch.equal(got.reset_BT, want.reset_BT | bad_input)
    taken = stream.bad.take()
    assert {bad.shard for bad in taken} == {str(copy / "train-000000.tar")}
    assert stream.bad.count == len(taken)
    assert stream.bad.tokens == sum(bad.tokens for bad in taken) == is_bad.sum()
    assert stream.bad.take() == []


def test_more_bad_samples_than_allowed_are_an_error(copy: Path) -> None:
    replace_shard(copy, b"")
    stream = TokenStream(copy, lanes=1, sequence_length=50, epochs=1, on_bad_sample="skip", max_bad_fraction=0.001)
    with pytest.raises(DataError, match=r"train-000000\.tar.*tokens are bad; allowed are 0\.001 of .*max_bad_fraction"):
        list(stream)


def test_wrong_policies_are_named(copy: Path) -> None:
    with pytest.raises(DataError, match="on_bad_sample: 'ignore' came; error or skip is allowed"):
        TokenStream(copy, lanes=1, sequence_length=50, on_bad_sample="ignore")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="max_bad_fraction"):
        TokenStream(copy, lanes=1, sequence_length=50, on_bad_sample="skip", max_bad_fraction=2)
