"""Which files a corpus is made of: names, globs, folders, URLs and "stdlib:" become a list of files.

Nothing is read here but names and sizes.
"""

import io
import os
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ssrnn_data.errors import DataError, data_error
from ssrnn_data.remote.urls import is_url, shown
from ssrnn_data.split import SPLITS, Split

STDLIB = "stdlib:"
COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
# What a folder is searched for. No .json: it is data more often than text, and a corpus of ours holds some itself.
_TEXT_NAMES = """
txt text md markdown rst adoc org tex py pyi pyx pxd c h cc cpp cxx hh hpp hxx cu cuh m mm java kt kts scala groovy clj
cs fs vb go rs swift js mjs cjs jsx ts tsx vue svelte html htm css scss less php rb pl pm lua r jl hs ml mli ex exs erl
hrl lisp el scm rkt nim zig d dart f f90 f95 f03 for pas ada adb ads asm s v sv vhd vhdl sh bash zsh fish ps1 bat sql
proto thrift graphql cmake mk toml yaml yml ini cfg
"""
TEXT_SUFFIXES = frozenset(f".{name}" for name in _TEXT_NAMES.split())
_FOLDER_SUFFIXES = TEXT_SUFFIXES | {*JSON_LINES_SUFFIXES, ".parquet"}
_STDLIB_EXCLUDED = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "lib-dynload"})
_GLOB_CHARACTERS = "*?["
_FORMS = f"a file, a glob, a folder, a URL (s3://, gs://, https://) or {STDLIB!r} is allowed"


@dataclass(frozen=True)
class SourceFile:
    """One file to read.

    location: a path or a URL. named: the user named this very file, so neither suffix nor a NUL byte excludes it.
    version: changes when the file does (time of change, a store's tag). source: which of the sources it is of.
    split: the one that all it holds belongs to; None where each document's hash decides.
    first_byte, last_byte: of a part of JSON lines, which has the lines that begin between them; last_byte None: whole.
    """

    location: str
    named: bool
    size_bytes: int
    version: str
    source: int = 0
    split: Split | None = None
    first_byte: int = 0
    last_byte: int | None = None

    @property
    def part_bytes(self) -> int:
        """The size of what is read of it."""
        return (self.size_bytes if self.last_byte is None else self.last_byte) - self.first_byte

    @property
    def is_remote(self) -> bool:
        """Whether it is a URL."""
        return is_url(self.location)

    @property
    def path(self) -> Path:
        """The location as a path; of a URL, only its name and suffix mean something."""
        return Path(urlsplit(self.location).path if self.is_remote else self.location)

    @property
    def real_location(self) -> str:
        """Where it is, links followed."""
        return self.location if self.is_remote else str(self.path.resolve())

    @property
    def name(self) -> str:
        """The location as messages and any JSON hold it: bytes that are no UTF-8 become U+FFFD."""
        return shown(self.location) if self.is_remote else os.fsencode(self.path).decode("utf-8", errors="replace")

    @property
    def compression(self) -> str | None:
        """One of COMPRESSED_SUFFIXES, or None."""
        suffix = self.path.suffix.lower()
        return suffix if suffix in COMPRESSED_SUFFIXES else None

    def open(self) -> BinaryIO:
        """Its bytes as they are, seekable; OSError or DataError where it can't be read."""
        if not self.is_remote:
            return self.path.open("rb")
        from ssrnn_data.remote.files import RemoteFile, RemoteReader

        return io.BufferedReader(RemoteReader(RemoteFile(self.location, self.size_bytes, self.version)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; SourceFile(**values) is the same file."""
        return asdict(self)

    @property
    def is_json_lines(self) -> bool:
        """Whether each line is a JSON object that holds one document."""
        return inner_suffix(self.path) in JSON_LINES_SUFFIXES

    @property
    def is_parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    @property
    def has_records(self) -> bool:
        """Whether it holds many documents, read by records.py."""
        return self.is_parquet or inner_suffix(self.path) == ".tar"


def inner_suffix(path: PurePath) -> str:
    """The suffix without the compression's: notes.md.gz gives .md; lower case."""
    name = PurePath(path.stem) if path.suffix.lower() in COMPRESSED_SUFFIXES else path
    return name.suffix.lower()


def as_source_list(
    sources: str | Path | Sequence[str | Path], argument: str = "sources", *, needed: bool = True
) -> list[str]:
    """One source or many, as a list of strings; DataError, naming the argument, for none where one is needed."""
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    names = [str(source) for source in listed]
    if not all(names) or (needed and not names):
        raise data_error(argument, f"{names!r} came", _FORMS)
    return names


def find_sources(sources: Sequence[str]) -> list[SourceFile]:
    """The files behind the sources, in the order given and sorted within each; a file found twice counts once.

    Raises DataError naming a source that doesn't exist, holds nothing that can be read as text, or is of no known form.
    """
    found: dict[str, SourceFile] = {}
    for place, source in enumerate(sources):
        count = 0
        for file in _expand(source):
            count += 1
            real = file.real_location
            known = found.get(real)
            if known is None:
                found[real] = replace(file, source=place)
            elif file.named and not known.named:
                found[real] = replace(known, named=True)
        if count == 0:
            raise data_error(
                source,
                "no documents found",
                "a folder is searched for .txt, .md, .rst, .py and other source code, .jsonl, each plain, .gz, .zst, "
                ".bz2 or .xz, and for .parquet; name a file itself to take it whatever its suffix",
            )
    return list(found.values())


def find_split_sources(
    sources: Sequence[str], valid_sources: Sequence[str], test_sources: Sequence[str]
) -> list[SourceFile]:
    """The files of all three, numbered as one list of sources, each file once: where a split names it, in that split.

    Raises DataError as find_sources does, and for a file that two splits name.
    """
    found: dict[str, SourceFile] = {}
    before, splits = 0, (None, *SPLITS[1:])
    for split, names in zip(splits, (sources, valid_sources, test_sources), strict=True):
        for file in find_sources(names):
            known = found.pop(file.real_location, None)
            if known is not None and known.split is not None:
                raise data_error(file.name, f"in the {known.split} and in the {split} split", "one of both is allowed")
            found[file.real_location] = replace(file, source=before + file.source, split=split)
        before += len(names)
    return list(found.values())


def _expand(source: str) -> Iterator[SourceFile]:
    if source == STDLIB:
        yield from _files(_walk(Path(sysconfig.get_path("stdlib")), {".py"}, _STDLIB_EXCLUDED), named=False)
        return
    if "://" in source or "::" in source or source.startswith("pipe:"):
        yield from _remote_files(source)
        return
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            yield from _files(_walk(path, _FOLDER_SUFFIXES, frozenset()), named=False)
        elif path.exists():
            if not path.is_file():
                raise data_error(
                    source, "not a regular file", "it is read more than once, so a pipe or device won't do"
                )
            yield from _files([path], named=True)
        elif any(character in source for character in _GLOB_CHARACTERS):
            yield from _files(_glob(path), named=False)
        else:
            raise data_error(source, "no such file or folder", _FORMS)
    except DataError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:  # a folder that can't be read, a pattern that is none
        raise data_error(source, f"can't be read ({error})", _FORMS) from error


def _files(paths: Iterable[Path], named: bool) -> Iterator[SourceFile]:
    for path in paths:
        stat = path.stat()
        yield SourceFile(str(path), named, stat.st_size, str(stat.st_mtime_ns))


def _remote_files(url: str) -> Iterator[SourceFile]:
    """What a URL names, a glob on it matches, or the text files below it."""
    from ssrnn_data.remote.files import check_url, find

    check_url(url)
    for file in find(url):
        named = file.url == url
        path = PurePosixPath(urlsplit(file.url).path)
        is_hidden = any(part.startswith((".", "__pycache__")) for part in path.parts)
        if named or any(character in url for character in _GLOB_CHARACTERS):
            yield SourceFile(file.url, named, file.size_bytes, file.version)
        elif inner_suffix(path) in _FOLDER_SUFFIXES and not is_hidden:
            yield SourceFile(file.url, False, file.size_bytes, file.version)


def _glob(pattern: Path) -> list[Path]:
    """Files that a pattern matches, sorted; hidden ones only where the pattern itself names them."""
    base = Path(pattern.anchor or ".")
    relative = pattern.relative_to(base) if pattern.anchor else pattern
    dotted = {part for part in relative.parts if part.startswith(".")}

    def is_open(path: Path) -> bool:
        parts = path.relative_to(base).parts
        return all(not part.startswith(".") or part in dotted for part in parts) and "__pycache__" not in parts

    return sorted(path for path in base.glob(str(relative)) if path.is_file() and is_open(path))


def _walk(root: Path, suffixes: set[str] | frozenset[str], excluded: frozenset[str]) -> list[Path]:
    """Text-like files under a folder, sorted; links are followed, each real folder is entered once."""
    entered: set[tuple[int, int]] = set()
    files: list[Path] = []
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        stat = Path(folder).stat()
        if (stat.st_dev, stat.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith((".", "__pycache__")) and name not in excluded
        )
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and inner_suffix(path) in suffixes and path.is_file():
                files.append(path)
    return sorted(files)


def _raise(error: OSError) -> None:
    raise error
