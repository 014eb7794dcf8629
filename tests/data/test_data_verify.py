"""`verify_corpus`: a whole corpus has no fault; a damage is named with its file and, where it can be told, its byte."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archives import tar_of
from damage import edit, members_of, npy, replace_shard

from ssrnn_data import CorpusIndex, DataError, Fault, load_tokenizer, verify_corpus

SHARD = "train-000000.tar"


@pytest.fixture
def copy(corpus: CorpusIndex, tmp_path: Path) -> Path:
    """A copy of the small corpus to damage."""
    folder = shutil.copytree(corpus.folder, tmp_path / "copy")
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def only_fault(folder: Path) -> Fault:
    (fault,) = verify_corpus(folder).faults
    return fault


def change_bytes(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def test_a_whole_corpus_is_read_to_the_last_byte(corpus: CorpusIndex) -> None:
    seen: list[tuple[int, int]] = []
    found = verify_corpus(corpus.folder, lambda done, total: seen.append((done, total)))
    shards = [shard for split in corpus.splits.values() for shard in split.shards]
    assert found.faults == ()
    assert (found.shards, found.tokens) == (len(shards), sum(shard.tokens for shard in shards))
    assert seen[-1] == (found.size_bytes, found.size_bytes)
    assert len(seen) == len(shards)


def test_all_that_is_wrong_is_named_in_the_index_s_order(copy: Path) -> None:
    (copy / "train-000002.tar").unlink()
    change_bytes(copy / SHARD, lambda data: data.__delitem__(slice(len(data) - 3_000, None)))
    (copy / "tokenizer.json").write_text("{}")
    faults = verify_corpus(copy).faults
    assert [fault.file for fault in faults] == ["tokenizer.json", SHARD, "train-000002.tar"]
    assert "SHA-256" in faults[0].said
    assert "no such shard" in faults[2].said


def test_a_cut_shard_is_bad_from_the_sample_that_was_cut(copy: Path) -> None:
    """Members are 512 bytes of header and blocks of 512."""
    members = members_of(copy)
    second = 512 + -(-len(members[0][1]) // 512) * 512
    change_bytes(copy / SHARD, lambda data: data.__delitem__(slice(second + 512 + 300, None)))
    fault = only_fault(copy)
    assert fault.offset_bytes == second
    assert str(fault).startswith(f"{SHARD}, from byte {second:,} on: ")


def test_a_broken_header_is_found_where_it_stands(copy: Path) -> None:
    members = members_of(copy)
    second = 512 + -(-len(members[0][1]) // 512) * 512
    change_bytes(copy / SHARD, lambda data: data.__setitem__(slice(second, second + 8), b"\xff" * 8))
    fault = only_fault(copy)
    assert fault.offset_bytes == second
    assert "the header that begins here has another checksum" in fault.said


def test_changed_ids_are_seen_by_the_checksum_alone(copy: Path) -> None:
    first = members_of(copy)[0][1]
    place = 512 + len(first) - 2  # the last id of the first sample
    change_bytes(copy / SHARD, lambda data: data.__setitem__(place, data[place] ^ 1))
    assert "its SHA-256 is not the index's" in only_fault(copy).said


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (npy(np.array([1, 60_000], np.uint16)), "id 60000 came"),
        (npy(np.array([1, 2], np.float64)), "ids.npy begins with"),
        (b"", "ids.npy begins with b''"),
    ],
)
def test_a_sample_that_is_no_ids_is_named_by_key_and_byte(copy: Path, bad: bytes, words: str) -> None:
    members = members_of(copy)
    members[1] = (members[1][0], bad)
    replace_shard(copy, tar_of(members))
    fault = only_fault(copy)
    assert words in fault.said
    assert members[1][0].partition(".")[0] in fault.said
    assert fault.offset_bytes == 512 + -(-len(members[0][1]) // 512) * 512


def test_counts_are_compared(copy: Path) -> None:
    members = members_of(copy)
    replace_shard(copy, tar_of(members[:-1]))
    assert "tokens came; the index says" in only_fault(copy).said
    replace_shard(copy, tar_of(members))
    edit(copy, lambda raw: raw["splits"]["train"].update(samples=raw["splits"]["train"]["samples"] + 1))
    edit(copy, lambda raw: raw["splits"]["train"]["shards"][0].update(samples=len(members) + 1))
    assert only_fault(copy).said == f"{len(members)} samples, the index says {len(members) + 1}"


def test_an_index_that_was_changed_is_seen(copy: Path) -> None:
    text = (copy / "index.json").read_text()
    for old, new in (
        ('"vocab_size": 300', '"vocab_size": 301'),
        ('"seed": 0', '"seed": 1'),
        ("ssrnn-dist ", "ssrnn-disk "),
    ):
        (copy / "index.json").write_text(text.replace(old, new))
        faults = verify_corpus(copy).faults
        assert faults[0].file == "index.json"
    (copy / "index.json").write_text(text.replace('"vocab_size": 300', '"vocab_size": 301'))
    with pytest.raises(DataError, match="vocab_size and end_of_text are 301 and 0; its tokenizer's are 300 and 0"):
        load_tokenizer(copy)


def test_no_index_is_one_line(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(DataError, match="no index there"):
        verify_corpus(tmp_path)
    edit(copy, lambda raw: raw["splits"]["train"].update(tokens=1))
    with pytest.raises(DataError, match="isn't the sum of its shards"):
        verify_corpus(copy)
