"""Fixtures of the data tests: texts, a small corpus with many shards, and its tokens read without our own reader."""

import io
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import DATA, FaultyProxy, HttpServer, http_server, s3_environment, s3_server

from ssrnn_data import CorpusIndex, build_corpus

ODD = (
    "\ufeffBOM, CRLF\r\n, NUL \x00, joiner \U0001f469\u200d\U0001f4bb, combining e\u0301, "
    "\u2028\u00a0\u3000 <|endoftext|> \U0010ffff"
)


def make_text(seed: int, words: int) -> str:
    """Words, line ends and odd characters, the same for the same seed."""
    chance = random.Random(seed)
    stems = ["alpha", "beta", "γάμμα", "delta", "eins", "zwei", "日本", "x1", "<|endoftext|>", "👩‍💻"]
    return "".join(chance.choice(stems) + chance.choice([" ", " ", "\n", ", "]) for _ in range(words))


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 documents of 1 to 900 words, in two folders."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "deep").mkdir()
    for number in range(60):
        name = f"deep/{number:02d}.md" if number % 3 else f"{number:02d}.txt"
        (folder / name).write_text(make_text(number, 1 + (number * 15) % 900), encoding="utf-8", newline="")
    (folder / "odd.txt").write_text(ODD.replace("\0", ""), encoding="utf-8", newline="")
    return folder


@pytest.fixture(scope="session")
def corpus(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CorpusIndex:
    """A corpus of several splits, many shards, and documents cut into chunks and across shards."""
    out = tmp_path_factory.mktemp("corpus") / "small"
    path = build_corpus(text_folder, out, vocab_size=300, holdout=0.25, shard_tokens=3_000, chunk_tokens=700)
    return CorpusIndex.load(path)


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """A server with /data.bin and /empty."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http_server() as server:
        server.files = {"/data.bin": DATA, "/empty": b""}
        server.tags = {"/data.bin": '"one"'}
        yield server


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real S3 server, started once."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server.port


@pytest.fixture(scope="module")
def store(s3_port: int) -> Iterator[FaultyProxy]:
    """Where s3:// URLs lead: to the server, through a proxy that breaks connections when told to."""
    proxy = FaultyProxy(s3_port)
    with s3_environment(proxy.port):
        yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def stored_ids() -> Callable[[CorpusIndex, str], list[np.ndarray]]:
    """Reads a split with tarfile and numpy alone: one array a shard."""

    def read(index: CorpusIndex, split: str) -> list[np.ndarray]:
        shards = []
        for shard in index.split(split).shards:
            with tarfile.open(index.shard_path(shard)) as tar:
                members = [tar.extractfile(member) for member in tar]
                arrays = [np.load(io.BytesIO(member.read()), allow_pickle=False) for member in members if member]
            shards.append(np.concatenate(arrays).astype(np.int64))
        return shards

    return read


@pytest.fixture(scope="session")
def texts_of(
    stored_ids: Callable[[CorpusIndex, str], list[np.ndarray]],
) -> Callable[[CorpusIndex], dict[str, list[str]]]:
    """All documents of a corpus as text, by split, decoded from what is stored."""
    from ssrnn_data import load_tokenizer

    def read(index: CorpusIndex) -> dict[str, list[str]]:
        tokenizer = load_tokenizer(index)
        texts: dict[str, list[str]] = {}
        for split in index.splits:
            ids = np.concatenate(stored_ids(index, split))
            starts = np.flatnonzero(ids == index.end_of_text)
            assert starts[0] == 0
            texts[split] = [tokenizer.decode(part.tolist()) for part in np.split(ids, starts[1:])]
        return texts

    return read
