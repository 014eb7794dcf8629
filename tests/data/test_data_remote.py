"""Remote files, against a real HTTP server and a real S3 server that stall, cut connections and send wrong bytes."""

import gzip
import hashlib
import io
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from servers import DATA, QUICK, Fault, FaultyProxy, HttpServer, http_server, wait_until

from ssrnn_data.errors import DataError
from ssrnn_data.remote.cache import DiskCache
from ssrnn_data.remote.files import (
    RemoteFile,
    RemoteReader,
    Retry,
    download,
    find,
    read_bytes,
    read_range,
    stat,
)

ROOM = Path(__file__).parents[2] / "data_pipelines"


def fetched(file: RemoteFile, retry: Retry = QUICK, piece_bytes: int = 64 << 10, workers: int = 4) -> bytes:
    out = io.BytesIO()
    download(file, out, retry, piece_bytes, workers)
    return out.getvalue()


# HTTP


def test_http_stat_find_and_reads(http: HttpServer) -> None:
    url = f"{http.url}/data.bin"
    file = RemoteFile(url, len(DATA), '"one"')
    assert stat(url, QUICK) == file
    assert find(url, QUICK) == [file]
    assert read_bytes(url, QUICK) == DATA
    assert read_range(url, 7, 100_007, QUICK) == DATA[7:100_007]
    assert read_range(url, 7, 7, QUICK) == b""
    assert stat(f"{http.url}/empty", QUICK).size_bytes == 0
    assert read_bytes(f"{http.url}/empty", QUICK) == b""


@pytest.mark.parametrize("path", ["/*.bin", "/folder/", ""])
def test_http_lists_nothing(http: HttpServer, path: str) -> None:
    with pytest.raises(DataError, match="plain HTTP lists no files"):
        find(http.url + path, QUICK)


MENDED = {
    "a stall": Fault(stall=True),
    "a cut": Fault(cut_bytes=1_000),
    "a cut before the body": Fault(cut_bytes=0),
    "a trickle": Fault(drip_seconds=0.1),
    "a short range": Fault(short=True),
    "another range": Fault(shifted=True),
    "429": Fault(status=429),
    "500": Fault(status=500),
    "503": Fault(status=503),
}


@pytest.mark.parametrize("name", MENDED)
def test_http_faults_are_mended(http: HttpServer, name: str) -> None:
    url = f"{http.url}/data.bin"
    http.faults.append(MENDED[name])
    assert read_range(url, 1_000, 3_000, QUICK) == DATA[1_000:3_000]
    assert http.requests == [("/data.bin", 1_000, 3_000)] * 2
    assert not http.faults


@pytest.mark.parametrize("name", MENDED)
def test_http_faults_that_stay_are_one_line(http: HttpServer, name: str) -> None:
    http.always = MENDED[name]
    retry = replace(QUICK, attempts=2)
    with pytest.raises(
        DataError, match=r"^http://127[^ ]*/data\.bin: 2 attempts failed, the last one so: .+; "
    ) as caught:
        read_range(f"{http.url}/data.bin?signature=secret", 1_000, 3_000, retry)
    assert len(http.requests) == 2
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_http_final_answers_are_not_tried_again(http: HttpServer, status: int) -> None:
    http.always = Fault(status=status)
    for ask in (stat, find, lambda url, retry: read_range(url, 0, 10, retry)):
        with pytest.raises(DataError, match=r"no such file|HTTP 4"):
            ask(f"{http.url}/data.bin", QUICK)
    assert len(http.requests) == 3


def test_nobody_listens() -> None:
    with http_server() as server:
        url = server.url
    with pytest.raises(DataError, match="3 attempts failed"):
        stat(f"{url}/data.bin", QUICK)


def test_http_a_range_beyond_the_end(http: HttpServer) -> None:
    for start in (0, len(DATA) - 1, len(DATA) + 5):
        with pytest.raises(DataError, match=r"it has 300,000 bytes|HTTP 416"):
            read_range(f"{http.url}/data.bin", start, len(DATA) + 10, QUICK)
    with pytest.raises(DataError, match="0 ≤ start ≤ stop"):
        read_range(f"{http.url}/data.bin", 5, 4, QUICK)


def test_http_a_server_without_ranges_gives_the_right_bytes(http: HttpServer) -> None:
    http.always = Fault(whole=True)
    file = stat(f"{http.url}/data.bin", QUICK)
    assert file.size_bytes == len(DATA)
    assert read_range(file.url, 200_000, 250_000, QUICK) == DATA[200_000:250_000]
    assert fetched(file) == DATA


def test_http_a_large_file_without_ranges_is_refused(http: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssrnn_data.remote.http_store._MOST_DROPPED_BYTES", 1 << 16)
    http.always = Fault(whole=True)
    assert read_range(f"{http.url}/data.bin", 1 << 16, 100_000, QUICK) == DATA[1 << 16 : 100_000]
    with pytest.raises(DataError, match="answers no range requests"):
        read_range(f"{http.url}/data.bin", (1 << 16) + 1, 100_000, QUICK)


def test_http_a_server_that_tells_no_size(http: HttpServer) -> None:
    http.always = Fault(whole=True, no_size=True)
    with pytest.raises(DataError, match="doesn't tell its size"):
        stat(f"{http.url}/data.bin", QUICK)


def test_http_bytes_come_as_they_are_stored(http: HttpServer) -> None:
    """A .gz that is said to be encoded is not unpacked on the way."""
    http.files["/notes.gz"] = gzip.compress(DATA, mtime=0)
    http.always = Fault(gzipped=True)
    assert read_bytes(f"{http.url}/notes.gz", QUICK) == http.files["/notes.gz"]


# Downloads


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("piece_bytes", [7_777, 100_000, 300_000, 1 << 20])
def test_downloads(http: HttpServer, piece_bytes: int, workers: int) -> None:
    assert fetched(stat(f"{http.url}/data.bin", QUICK), QUICK, piece_bytes, workers) == DATA


def test_a_cut_connection_loses_a_piece_and_not_the_file(http: HttpServer) -> None:
    file = stat(f"{http.url}/data.bin", QUICK)
    http.requests.clear()
    http.faults.extend([Fault(), Fault(cut_bytes=5_000), Fault(status=503), Fault(short=True), Fault(stall=True)])
    assert fetched(file, QUICK, 30_000, 3) == DATA
    starts = [start for _, start, _ in http.requests]
    assert len(starts) == 14
    assert set(starts) == set(range(0, 300_000, 30_000))


def test_pieces_come_in_parallel(http: HttpServer) -> None:
    """No answer comes before all four are asked for."""
    file = stat(f"{http.url}/data.bin", QUICK)
    http.requests.clear()
    http.always = Fault(meet=threading.Barrier(4, timeout=20))
    assert fetched(file, Retry(attempts=1), 75_000, 4) == DATA
    assert len(http.requests) == 4


def test_a_full_disk_is_not_taken_for_the_stores_fault(http: HttpServer) -> None:
    file = stat(f"{http.url}/data.bin", QUICK)
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb", buffering=0) as out:  # noqa: PTH123
        download(file, out, QUICK)  # type: ignore[arg-type]


def test_a_change_is_noticed_by_tag_by_time_and_by_size(http: HttpServer) -> None:
    url = f"{http.url}/data.bin"
    file = stat(url, QUICK)
    http.tags["/data.bin"] = '"two"'
    with pytest.raises(DataError, match="changed while it was read"):
        fetched(file)
    http.tags.clear()
    file = stat(url, QUICK)
    http.files["/data.bin"] = DATA[:-1]
    with pytest.raises(DataError, match="changed while it was read"):
        fetched(file)


def test_a_change_of_a_local_file_is_noticed_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    file = stat(f"file://{tmp_path}/a", QUICK)
    reader = RemoteReader(file, QUICK, block_bytes=100_000, ahead=0)
    assert reader.read(10) == DATA[:10]
    (tmp_path / "a").write_bytes(DATA[::-1])
    with pytest.raises(DataError, match="changed while it was read"):
        reader.readall()


# With the cache


def test_wrong_bytes_of_a_server_are_mended_by_the_cache(http: HttpServer, tmp_path: Path) -> None:
    file, cache = stat(f"{http.url}/data.bin", QUICK), DiskCache(tmp_path, 1 << 20)
    name = hashlib.sha256(DATA).hexdigest()
    http.faults.append(Fault(wrong=True))
    with cache.open(name, len(DATA), lambda out: download(file, out, QUICK)) as stream:
        assert stream.read() == DATA
    http.always = Fault(wrong=True)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"twice other bytes came.*{name} are needed"):
        cache.open(name, len(DATA), lambda out: download(file, out, QUICK))


# Any other store of fsspec


def test_a_folder_by_fsspec_alone(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "deep/a.txt", "deep/c.md"):
        (tmp_path / name).write_text(name)
    start = f"file://{tmp_path}"
    assert [file.url for file in find(start, QUICK)] == [
        f"{start}/{name}" for name in ("b.txt", "deep/a.txt", "deep/c.md")
    ]
    assert [file.url for file in find(f"{start}/**/*.txt", QUICK)] == [f"{start}/b.txt", f"{start}/deep/a.txt"]
    assert read_bytes(f"{start}/deep/c.md", QUICK) == b"deep/c.md"
    assert read_range(f"{start}/deep/c.md", 2, 5, QUICK) == b"ep/"
    for url, what in ((f"{start}/none", "no such file"), (f"{start}/*.pdf", "no files found"), (start, "a folder")):
        with pytest.raises(DataError, match=what):
            stat(url, QUICK) if what == "a folder" else find(url, QUICK)


# S3


@pytest.fixture(scope="module")
def s3(store: FaultyProxy) -> FaultyProxy:
    """Files in the bucket `corpora`."""
    import s3fs

    files = s3fs.S3FileSystem()
    files.mkdir("corpora")
    for name in ("a.txt", "deep/b.txt", "deep/c.md", "deep/er/d.txt", "what?[1].txt"):
        files.pipe_file(f"corpora/{name}", name.encode())
    files.pipe_file("corpora/data.bin", DATA)
    return store


def test_s3_lists_and_globs(s3: FaultyProxy) -> None:
    def names(url: str) -> list[str]:
        return [file.url.removeprefix("s3://corpora/") for file in find(url, QUICK)]

    assert names("s3://corpora/deep") == names("s3://corpora/deep/") == ["deep/b.txt", "deep/c.md", "deep/er/d.txt"]
    assert names("s3://corpora/deep/*") == ["deep/b.txt", "deep/c.md"]
    assert names("s3://corpora/**/*.txt") == ["a.txt", "deep/b.txt", "deep/er/d.txt", "what?[1].txt"]
    assert names("s3://corpora") == ["a.txt", "data.bin", "deep/b.txt", "deep/c.md", "deep/er/d.txt", "what?[1].txt"]
    (file,) = find("s3://corpora/data.bin", QUICK)
    assert file == stat("s3://corpora/data.bin", QUICK)
    assert (file.size_bytes, file.version) == (len(DATA), f'"{hashlib.md5(DATA).hexdigest()}"')
    assert find("s3://corpora/d*.bin", QUICK) == [file]


def test_s3_reads(s3: FaultyProxy) -> None:
    assert read_bytes("s3://corpora/deep/b.txt", QUICK) == b"deep/b.txt"
    assert read_range("s3://corpora/data.bin", 1_000, 250_000, QUICK) == DATA[1_000:250_000]
    file = stat("s3://corpora/data.bin", QUICK)
    assert fetched(file) == DATA
    with RemoteReader(file, QUICK, block_bytes=50_000) as reader:
        assert reader.readall() == DATA
    with pytest.raises(DataError, match="bytes came|HTTP 416"):
        read_range("s3://corpora/data.bin", 299_000, 301_000, QUICK)


@pytest.mark.parametrize("url", ["s3://corpora/none", "s3://corpora/none/*", "s3://no-bucket/a", "s3://corpora/deep/e"])
def test_s3_what_is_not_there(s3: FaultyProxy, url: str) -> None:
    with pytest.raises(DataError, match="no such file|no files found|HTTP 404"):
        find(url, QUICK)


@pytest.mark.parametrize("answer_bytes", [0, 10, 1_000, 150_000])
@pytest.mark.parametrize("fault", [FaultyProxy.cut_after, FaultyProxy.stall_after])
def test_s3_broken_connections_are_mended(
    s3: FaultyProxy, fault: Callable[[FaultyProxy, int], None], answer_bytes: int
) -> None:
    file, before = stat("s3://corpora/data.bin", QUICK), s3.faults_made
    fault(s3, answer_bytes)
    assert fetched(file, QUICK, 100_000, 2) == DATA
    assert s3.faults_made == before + 1


def test_s3_a_change_is_noticed(s3: FaultyProxy) -> None:
    import s3fs

    store = s3fs.S3FileSystem()
    store.pipe_file("corpora/changing", DATA)
    file = stat("s3://corpora/changing", QUICK)
    with RemoteReader(file, QUICK, block_bytes=50_000, ahead=0) as reader:
        assert reader.read(10) == DATA[:10]
        store.pipe_file("corpora/changing", DATA[::-1])
        assert reader.read(10) == DATA[10:20]
        reader.seek(50_000)
        with pytest.raises(DataError, match="changed while it was read"):
            reader.read(10)
    assert read_bytes("s3://corpora/changing", QUICK) == DATA[::-1]


def test_s3_after_a_fork(s3: FaultyProxy) -> None:
    """Connections and fsspec's thread don't survive a fork; ours are opened anew."""
    assert read_range("s3://corpora/data.bin", 0, 10, QUICK) == DATA[:10]
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if read_range("s3://corpora/data.bin", 0, 10, QUICK) == DATA[:10] else 1)
        finally:
            os._exit(2)
    wait_until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0))
