"""RemoteReader: a file in a store as a file, read ahead, on a real HTTP server."""

import gzip
import hashlib
import io
import random
import tarfile
import threading
import tracemalloc

import pytest
from archives import tar_of
from servers import DATA, QUICK, Fault, HttpServer, wait_until

from ssrnn_data.errors import DataError
from ssrnn_data.remote.files import (
    RemoteReader,
    Retry,
    stat,
)


@pytest.mark.parametrize(("block_bytes", "ahead"), [(7, 0), (999, 2), (100_000, 0), (100_000, 5), (1 << 20, 2)])
def test_the_reader_reads_as_a_file(http: HttpServer, block_bytes: int, ahead: int) -> None:
    data = DATA[: 60 * block_bytes]
    http.files["/data.bin"] = data
    chance, known = random.Random(block_bytes), io.BytesIO(data)
    reader = RemoteReader(stat(f"{http.url}/data.bin", QUICK), QUICK, block_bytes, ahead)
    assert (reader.readable(), reader.seekable(), reader.writable()) == (True, True, False)
    with io.BufferedReader(reader, 100) as buffered:
        for _ in range(8):
            offset, size = chance.randrange(len(data) + 100), chance.randrange(len(data) // 4)
            assert buffered.seek(offset) == known.seek(offset)
            assert buffered.read(size) == known.read(size)
            assert buffered.tell() == known.tell()
        assert buffered.seek(-5, io.SEEK_END) == len(data) - 5
        assert buffered.seek(2, io.SEEK_CUR) == len(data) - 3
        assert buffered.read() == data[-3:]
        assert buffered.read(1) == b""
    assert reader.closed
    for use in (lambda: reader.read(1), lambda: reader.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_seek_before_the_start_is_an_error(http: HttpServer) -> None:
    with (
        RemoteReader(stat(f"{http.url}/data.bin", QUICK), QUICK) as reader,
        pytest.raises(ValueError, match="before the file's start"),
    ):
        reader.seek(-1)


def test_the_reader_reads_ahead_in_order_and_not_after_a_jump(http: HttpServer) -> None:
    file = stat(f"{http.url}/data.bin", QUICK)
    http.requests.clear()
    with RemoteReader(file, QUICK, block_bytes=10_000, ahead=2) as reader:
        assert reader.read(5) == DATA[:5]
        wait_until(lambda: len(http.requests) == 3)
        assert sorted(start for _, start, _ in http.requests) == [0, 10_000, 20_000]
        reader.seek(150_000)
        assert reader.read(5) == DATA[150_000:150_005]
        assert http.requests[3:] == [("/data.bin", 150_000, 160_000)]
        reader.seek(160_000)
        assert reader.read(5) == DATA[160_000:160_005]
        wait_until(lambda: len(http.requests) == 7)
        assert sorted(start for _, start, _ in http.requests[4:]) == [160_000, 170_000, 180_000]


def test_the_reader_holds_few_blocks(http: HttpServer) -> None:
    """64 MiB through blocks of 1 MiB: the peak of Python's memory beyond the server's own stays below 16 MiB."""
    block = random.Random(1).randbytes(1 << 20)
    http.files["/large"] = block * 64
    file = stat(f"{http.url}/large", QUICK)
    tracemalloc.start()
    try:
        digest, before = hashlib.sha256(), tracemalloc.get_traced_memory()[0]
        with RemoteReader(file, QUICK, block_bytes=1 << 20, ahead=2) as reader:
            while part := reader.read(1 << 16):
                digest.update(part)
        assert tracemalloc.get_traced_memory()[1] - before < 16 << 20
    finally:
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(block * 64).digest()


def test_a_reader_that_is_let_go_ends_its_threads(http: HttpServer) -> None:
    file = stat(f"{http.url}/data.bin", QUICK)
    slow = Retry(attempts=100, first_seconds=60, most_seconds=60, stall_seconds=0.4)
    reader = RemoteReader(file, slow, block_bytes=10_000, ahead=3)
    http.always, before = Fault(status=503), reading_ahead()
    http.faults.extend([Fault()] * 4)
    assert reader.read(5) == DATA[:5]
    http.faults.clear()
    reader.seek(10_000)
    assert reader.read(5) == DATA[10_000:10_005]  # and block 4, which fails, is on its way
    wait_until(lambda: any(start == 40_000 for _, start, _ in http.requests))
    reader.close()
    wait_until(lambda: not reading_ahead() - before)


def reading_ahead() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "ssrnn-read-ahead"}


def test_what_reads_files_reads_it(http: HttpServer) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": ["one", "two", "three"] * 1_000})
    out = io.BytesIO()
    parquet.write_table(table, out)
    members = [(f"{number:03d}.txt", DATA[number * 1_000 : number * 1_000 + 900]) for number in range(50)]
    http.files |= {"/a.gz": gzip.compress(DATA), "/a.tar": tar_of(members), "/a.parquet": out.getvalue()}

    def reader(name: str) -> RemoteReader:
        return RemoteReader(stat(f"{http.url}/{name}", QUICK), QUICK, block_bytes=10_000)

    with gzip.open(reader("a.gz")) as stream:
        assert stream.read() == DATA
    for mode in ("r:", "r|"):
        with tarfile.open(fileobj=reader("a.tar"), mode=mode) as tar:  # type: ignore[call-overload]
            assert [(member.name, tar.extractfile(member).read()) for member in tar] == members
    with reader("a.parquet") as stream, parquet.ParquetFile(stream) as found:
        assert found.read() == table


def test_a_fault_within_a_reader_is_its_own_error(http: HttpServer) -> None:
    """Not one of gzip's or tarfile's, which would be taken for a damaged archive."""
    http.files |= {"/a.gz": gzip.compress(DATA), "/a.tar": tar_of([("a.txt", DATA)])}
    gz, tar = (RemoteReader(stat(f"{http.url}/{name}", QUICK), QUICK, 50_000, 0) for name in ("a.gz", "a.tar"))
    gz.read(1)
    tar.read(1)
    http.always = Fault(status=500)
    gz.seek(0)
    tar.seek(0)
    with pytest.raises(DataError, match="HTTP 500"), gzip.open(gz) as unpacked:
        unpacked.read()
    with pytest.raises(DataError, match="HTTP 500"), tarfile.open(fileobj=tar) as opened:
        opened.extractfile("a.txt").read()
