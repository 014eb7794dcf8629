"""What a build is made of: units of work, parts of JSON lines, runs on disk, keys and buckets, what is held out."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssrnn_data import CorpusIndex, DataError, build_corpus
from ssrnn_data.building import units
from ssrnn_data.building.gather import bucket_keys
from ssrnn_data.building.held_out import HeldOut, held_out_file, sort_held_out
from ssrnn_data.building.runs import RunReader, RunWriter
from ssrnn_data.building.work_folder import WorkFolder
from ssrnn_data.documents import Tally, read_documents
from ssrnn_data.sources import SourceFile
from ssrnn_data.split import order_key


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 60))
def test_units_cover_the_files_once(sizes: list[int], unit_bytes: int) -> None:
    files = [SourceFile(f"{place}.txt", False, size, "") for place, size in enumerate(sizes)]
    cut = units.cut_units(files, unit_bytes)
    assert [place for unit in cut for place in unit] == list(range(len(files)))
    assert all(sum(sizes[place] for place in unit) <= unit_bytes or len(unit) == 1 for unit in cut)
    assert all(quota >= 1 for quota in units.sample_quotas(files, cut, 1_000))


@given(st.integers(1, 5_000), st.binary(min_size=32, max_size=32), st.integers(0, 2**63 - 1))
def test_every_key_has_one_bucket(buckets: int, digest: bytes, seed: int) -> None:
    key = order_key(digest, seed)
    bucket = key * buckets >> 64
    low, high = bucket_keys(bucket, buckets)
    assert low <= key < high
    assert bucket_keys(0, buckets)[0] == 0
    assert bucket_keys(buckets - 1, buckets)[1] == 1 << 64


@settings(deadline=None, max_examples=30)  # they bring files to the disk
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 40)), max_size=30), st.integers(1, 60))
def test_runs_give_back_every_document_in_order(documents: list[tuple[int, int, int]], run_tokens: int) -> None:
    """documents: split, key, tokens. Long ones are runs of their own."""
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "unit"
        writer = RunWriter(stem, "uint16", run_tokens)
        for number, (split, key, tokens) in enumerate(documents):
            writer.open_document((split, key, (number, 0, 0, 0), 0, number))
            for start in range(0, tokens, 7):
                writer.add(np.arange(start, min(start + 7, tokens)) + 100 * number)
            writer.end_document()
        counts = writer.close()
        assert not [path for path in Path(folder).iterdir() if path.suffix not in (".npy", ".ids")]
        found = []
        for run in range(len(counts)):
            reader = RunReader(stem, run, "uint16")
            for split in range(3):
                inside = reader.between(split, 3, 7)
                assert [int(each) for each in inside["key"]] == sorted(int(each) for each in inside["key"])
                for document in inside:
                    number = int(document["number"])
                    assert reader.ids(document).tolist() == [100 * number + at for at in range(documents[number][2])]
                    found.append(number)
        assert sorted(found) == [number for number, (_, key, _) in enumerate(documents) if 3 <= key < 7]


@given(
    st.lists(st.lists(st.binary(min_size=32, max_size=32), max_size=9), max_size=4), st.binary(min_size=32, max_size=32)
)
def test_held_out_digests_are_found_and_no_others(units: list[list[bytes]], other: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = WorkFolder(Path(folder))
        parts = [Path(folder, f"{number}.digests") for number in range(len(units))]
        for part, digests in zip(parts, units, strict=True):
            part.write_bytes(b"".join(digests))
        held_out = HeldOut(held_out_file(work))
        sort_held_out(work, parts)
        everything = [digest for digests in units for digest in digests]
        assert all(digest in held_out for digest in everything)
        neighbours = [digest[:-1] + bytes([digest[-1] ^ 1]) for digest in everything]
        for digest in [other, b"\0" * 32, b"\xff" * 32, *neighbours]:
            assert (digest in held_out) == (digest in everything)


LINE = st.one_of(st.just(""), st.text(max_size=12).map(lambda text: json.dumps({"text": text + "."})))


@given(st.lists(LINE, max_size=12), st.booleans(), st.integers(1, 60))
@settings(deadline=None)
def test_parts_of_json_lines_have_every_line_once(lines: list[str], ends: bool, part_bytes: int) -> None:
    content = "\n".join(lines) + "\n" * ends
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text(content, encoding="utf-8", newline="")
        whole = SourceFile(str(path), True, path.stat().st_size, "")
        parts = units.cut_large([whole], part_bytes)
        assert sum(part.part_bytes for part in parts) == whole.size_bytes

        def texts(files: list[SourceFile]) -> list[str]:
            return ["".join(each.pieces()) for file in files for each in read_documents(file, "text", "error", Tally())]

        assert texts(parts) == texts([whole]) == [json.loads(line)["text"] for line in lines if line]


def test_a_line_of_a_part_is_named_from_its_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units.cut_large, "__defaults__", (100,))
    lines = [json.dumps({"text": f"line {number:03d}"}) for number in range(40)]  # 20 bytes and a newline
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    index = CorpusIndex.load(build_corpus(tmp_path / "a.jsonl", tmp_path / "out", holdout=0, vocab_size=257))
    assert (index.splits["train"].documents, index.origins[0].files) == (40, 1)
    lines[25] = '{"text": 3}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.jsonl:\d+ from byte 500 on: the field 'text' holds a int"):
        build_corpus(tmp_path / "a.jsonl", tmp_path / "again", holdout=0, vocab_size=257)
