"""Which files a source stands for."""

import os
from pathlib import Path

import pytest

from ssrnn_data import DataError
from ssrnn_data.sources import as_source_list, find_sources, find_split_sources

TEXT = "a.txt b.md c.rst d.py e.rs f.jsonl g.txt.gz h.py.zst sub/i.cpp sub/deeper/j.TXT"
LEFT_OUT = "k.png l.json m noext.bin .hidden.txt .git/n.txt __pycache__/o.py p.tar.gz"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with text, code, archives, and everything that should be left out."""
    for name in f"{TEXT} {LEFT_OUT}".split():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def names(files: list, root: Path) -> list[str]:
    return [str(file.path.relative_to(root)) for file in files]


def test_a_folder_gives_its_text_files_sorted(tree: Path) -> None:
    found = names(find_sources([str(tree)]), tree)
    assert found == sorted(found, key=Path)
    assert set(found) == set(TEXT.split())


def test_globs_files_and_no_file_twice(tree: Path) -> None:
    assert names(find_sources([f"{tree}/**/*.[ct][px]?"]), tree) == ["a.txt", "sub/i.cpp"]
    assert names(find_sources([f"{tree}/**/*"]), tree).count("a.txt") == 1
    assert ".git/n.txt" not in names(find_sources([f"{tree}/**/*.txt"]), tree)
    both = find_sources([str(tree), f"{tree}/k.png", f"{tree}/a.txt"])
    assert names(both, tree)[-1] == "k.png"
    assert [file.named for file in both if file.path.name in ("a.txt", "b.md")] == [True, False]


def test_a_relative_glob_and_a_file_named_like_a_glob(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    (tree / "odd[1].txt").write_text("x")
    assert [file.path.name for file in find_sources(["sub/**/*.cpp"])] == ["i.cpp"]
    assert [file.path.name for file in find_sources(["odd[1].txt"])] == ["odd[1].txt"]


def test_links_that_go_round_end(tree: Path) -> None:
    (tree / "sub" / "round").symlink_to(tree)
    (tree / "broken.txt").symlink_to(tree / "nowhere")
    (tree / "again.txt").symlink_to(tree / "a.txt")
    found = names(find_sources([str(tree)]), tree)
    assert len(found) == 10


def test_the_standard_library_without_its_tests() -> None:
    found = find_sources(["stdlib:"])
    parts = {part for file in found for part in file.path.parts}
    assert len(found) > 300
    assert all(file.path.suffix == ".py" for file in found)
    assert not parts & {"site-packages", "test", "tests", "__pycache__"}
    assert find_sources(["stdlib:"]) == found


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{tree}/none.txt", "no such file or folder"),
        ("{tree}/*.none", "no documents found"),
        ("{tree}/empty", "no documents found"),
        ("{tree}/a**b", "can't be read"),
        ("{tree}/pipe", "not a regular file"),
        ("x" * 5_000, "can't be read"),
        ("a\0b", "no such file"),
        ("pipe:cat /etc/passwd", "commands such as pipe: are never run"),
        ("gopher://host/x", "the scheme 'gopher' is unknown"),
        ("zip://a.txt::https://host/b.zip", "a chain of URLs"),
        ("stdlib", "no such file"),
    ],
)
def test_wrong_sources_are_named(tree: Path, source: str, what: str) -> None:
    (tree / "empty").mkdir()
    os.mkfifo(tree / "pipe")
    source = source.format(tree=tree)
    with pytest.raises(DataError, match=what) as caught:
        find_sources([source])
    assert str(caught.value).startswith(source.replace("\0", "\\x00"))
    assert "\n" not in str(caught.value)


def test_no_source_at_all() -> None:
    with pytest.raises(DataError, match="sources"):
        as_source_list([])
    assert as_source_list(Path("a")) == ["a"]


def test_a_file_that_a_split_names_is_only_there(tree: Path) -> None:
    found = find_split_sources([str(tree)], [f"{tree}/b.md", f"{tree}/sub"], [f"{tree}/a.txt"])
    splits = {str(file.path.relative_to(tree)): (file.split, file.source) for file in found}
    assert len(found) == len(splits) == len(TEXT.split())
    assert {name: place for name, place in splits.items() if place[0]} == {
        "b.md": ("valid", 1),
        "sub/i.cpp": ("valid", 2),
        "sub/deeper/j.TXT": ("valid", 2),
        "a.txt": ("test", 3),
    }
    with pytest.raises(DataError, match=r"sub/i\.cpp: in the valid and in the test split; one of both is allowed"):
        find_split_sources([str(tree)], [f"{tree}/sub"], [f"{tree}/sub/i.cpp"])


def test_no_sources_of_a_split_are_fine_and_an_empty_name_is_not() -> None:
    assert as_source_list((), "valid_sources", needed=False) == []
    with pytest.raises(DataError, match="^valid_sources: "):
        as_source_list([""], "valid_sources", needed=False)
