"""Corpora and sources behind URLs: the same tokens as from a folder, through a cache, whatever the network does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from servers import QUICK, Fault, FaultyProxy, HttpServer, http_server, wait_until

from ssrnn_data import (
    Batch,
    CacheOptions,
    CorpusIndex,
    DataError,
    EvaluationStream,
    TokenStream,
    as_webdataset,
    build_corpus,
    inspect_corpus,
    verify_corpus,
)

SHAPE = {"lanes": 6, "sequence_length": 50, "epochs": 1}


@pytest.fixture
def web(corpus: CorpusIndex, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """The small corpus on a web server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http_server() as server:
        server.files = {f"/corpus/{path.name}": path.read_bytes() for path in corpus.folder.iterdir()}
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> CacheOptions:
    return CacheOptions(tmp_path / "cache", 10**8, QUICK)


def batches(index: CorpusIndex, **shape: int) -> list[Batch]:
    with TokenStream(index, **{**SHAPE, **shape}) as stream:
        return list(stream)


def assert_equal(found: list[Batch], wanted: list[Batch]) -> None:
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        assert torch.equal(got.tokens_BT, want.tokens_BT)
        assert torch.equal(got.targets_BT, want.targets_BT)
        assert torch.equal(got.reset_BT, want.reset_BT)


def test_a_corpus_on_a_web_server_is_the_corpus(corpus: CorpusIndex, web: HttpServer, cache: CacheOptions) -> None:
    index = CorpusIndex.load(f"{web.url}/corpus", cache=cache)
    assert (index.fingerprint, index.title) == (corpus.fingerprint, "corpus")
    assert_equal(batches(index), batches(corpus))
    shards = corpus.splits["train"].shards
    fetched = [path for path, start, _ in web.requests if "/train-" in path and start == 0]
    assert len(set(fetched)) == len(shards)
    assert {path.name for path in cache.folder.iterdir()} == {shard.sha256 for shard in shards}
    before = len(web.requests)
    again = CorpusIndex.load(f"{web.url}/corpus/index.json", cache=cache)
    assert_equal(batches(again), batches(corpus))
    assert {path for path, _, _ in web.requests[before:]} == {"/corpus/index.json"}  # warm
    valid = [batch.tokens_BT for batch in EvaluationStream(index, lanes=3, sequence_length=50)]
    assert all(map(torch.equal, valid, (b.tokens_BT for b in EvaluationStream(corpus, lanes=3, sequence_length=50))))
    assert inspect_corpus(index)["splits"] == inspect_corpus(corpus)["splits"]
    assert verify_corpus(index).faults == ()


def test_the_network_s_faults_change_no_token(corpus: CorpusIndex, web: HttpServer, cache: CacheOptions) -> None:
    patient = replace(cache, retry=replace(QUICK, attempts=12))
    index = CorpusIndex.load(f"{web.url}/corpus", cache=patient)
    twice = [Fault(stall=True), Fault(cut_bytes=700), Fault(status=503), Fault(status=429), Fault(short=True)]
    web.faults.extend([*twice, Fault(wrong=True), *twice])
    assert_equal(batches(index), batches(corpus))
    assert not web.faults


def test_a_cache_of_a_few_shards_is_enough(corpus: CorpusIndex, web: HttpServer, tmp_path: Path) -> None:
    largest = max(shard.size_bytes for shard in corpus.splits["train"].shards)
    small = CacheOptions(tmp_path / "small", 3 * largest, QUICK)
    index = CorpusIndex.load(f"{web.url}/corpus", cache=small)
    assert_equal(batches(index, lanes=1), batches(corpus, lanes=1))
    assert sum(path.stat().st_size for path in small.folder.iterdir()) <= small.limit_bytes


def test_the_next_shard_comes_before_it_is_needed(corpus: CorpusIndex, web: HttpServer, cache: CacheOptions) -> None:
    index = CorpusIndex.load(f"{web.url}/corpus", cache=cache)
    with TokenStream(index, lanes=1, sequence_length=8) as stream:
        next(stream)
        wait_until(lambda: len([path for path in cache.folder.iterdir() if "." not in path.name]) >= 2)


@pytest.mark.parametrize(
    ("always", "what"),
    [
        (Fault(wrong=True), "twice other bytes came"),
        (Fault(status=404), "no such file|HTTP 404"),
        (Fault(status=500), "3 attempts failed, the last one so: HTTP 500"),
        (Fault(stall=True), "3 attempts failed, the last one so: no answer in time"),
    ],
)
def test_what_never_gets_better_is_one_line(web: HttpServer, cache: CacheOptions, always: Fault, what: str) -> None:
    index = CorpusIndex.load(f"{web.url}/corpus", cache=cache)
    web.always = always
    with pytest.raises(DataError, match=what) as caught:
        batches(index)
    assert "\n" not in str(caught.value)


def test_a_shard_of_another_size_and_a_missing_index(web: HttpServer, cache: CacheOptions) -> None:
    index = CorpusIndex.load(f"{web.url}/corpus", cache=cache)
    for name in [name for name in web.files if "/train-" in name]:
        web.files[name] += b"more"
    with pytest.raises(DataError, match=r"train-\d+\.tar: the shard has .* bytes; the index says"):
        batches(index)
    with pytest.raises(DataError, match=r"no-corpus/index\.json: can't be read \((no such file|HTTP 404)\)"):
        CorpusIndex.load(f"{web.url}/no-corpus", cache=cache)
    with pytest.raises(DataError, match="a corpus in a folder is needed here"):
        as_webdataset(index)


def test_a_corpus_in_an_s3_bucket(corpus: CorpusIndex, store: FaultyProxy, cache: CacheOptions) -> None:
    import s3fs

    bucket = s3fs.S3FileSystem()
    bucket.mkdir("built")
    bucket.put(str(corpus.folder) + "/", "built/small/", recursive=True)
    index = CorpusIndex.load("s3://built/small", cache=cache)
    store.cut_after(20_000)
    assert_equal(batches(index), batches(corpus))
    assert store.faults_made == 1


def test_sources_behind_urls(
    text_folder: Path, web: HttpServer, store: FaultyProxy, tmp_path: Path, corpus: CorpusIndex
) -> None:
    """A bucket's folder; a glob on it with single files of a web server: the very shards of the local folder."""
    import s3fs

    bucket = s3fs.S3FileSystem()
    bucket.mkdir("texts")
    bucket.put(str(text_folder) + "/", "texts/all/", recursive=True)
    bucket.pipe_file("texts/all/picture.png", b"\0")
    files = sorted(path for path in text_folder.rglob("*") if path.is_file())
    web.files = {f"/{path.name}": path.read_bytes() for path in files}
    shape = {"vocab_size": 300, "holdout": 0.25, "shard_tokens": 3_000, "chunk_tokens": 700}
    wanted = corpus.splits
    for name, sources in {
        "folder": ["s3://texts/all"],
        "mixed": ["s3://texts/all/deep/*.md", *(f"{web.url}/{path.name}" for path in files if path.suffix == ".txt")],
    }.items():
        index = CorpusIndex.load(build_corpus(sources, tmp_path / name, tokenizer=corpus.folder, **shape))
        assert index.splits == wanted, name
        assert sum(origin.documents for origin in index.origins) == len(files)


def test_the_cache_s_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SSRNN_CACHE", "SSRNN_CACHE_GB", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CacheOptions.default() == CacheOptions(tmp_path / ".cache" / "ssrnn", 50 * 10**9)
    monkeypatch.setenv("SSRNN_CACHE", str(tmp_path / "fast"))
    monkeypatch.setenv("SSRNN_CACHE_GB", "0.5")
    assert CacheOptions.default() == CacheOptions(tmp_path / "fast", 500_000_000)
    assert CacheOptions.default("/scratch", 2) == CacheOptions(Path("/scratch"), 2 * 10**9)
    monkeypatch.setenv("SSRNN_CACHE_GB", "much")
    with pytest.raises(DataError, match="a number of gigabytes is allowed"):
        CacheOptions.default()
