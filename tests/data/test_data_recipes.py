"""The recipes: each says all of a corpus, is valid, and is built as a person would.

Those of the Hugging Face Hub by its own client, huggingface_hub, from a server here that answers as the Hub does:
paths, columns and rows are as the datasets' pages show them, the texts are made up.
"""

import hashlib
import http.server
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow
import pytest
from launching import environment
from pyarrow import parquet

from ssrnn_data import CorpusIndex
from ssrnn_data.remote.urls import check_url
from ssrnn_dist.config import check_config, read_yaml
from ssrnn_dist.problems import UserError
from ssrnn_launch.corpus import load_recipe

RECIPES = Path(__file__).parents[2] / "data_pipelines" / "recipes"
NAMES = ["fineweb-edu-10bt", "python-stdlib", "the-stack-dedup-python", "wikitext-103"]


def test_all_are_there() -> None:
    assert sorted(path.stem for path in RECIPES.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_valid_data_section_and_says_what_it_is(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    data = load_recipe(path)
    assert data.build is not None
    assert data.index == f"corpora/{name}"
    assert data.build.licence
    assert data.build.provenance
    assert check_config({"name": "pasted", "data": read_yaml(path)}).data == data
    head = path.read_text().partition("\nindex:")[0]
    assert f"ssrnn data build --recipe data_pipelines/recipes/{name}.yaml" in head
    assert all(f"# {word}:" in head for word in ("Size", "Licence", "Needs", "Run here"))
    urls = [
        each for each in (*data.build.sources, *data.build.valid_sources, *data.build.test_sources) if "://" in each
    ]
    for url in urls:
        check_url(url)  # hf:// is one that is read
    assert ("Run here: no" in head) == bool(urls) == ("ssrnn-dist[hf,parquet]" in head)


def build(recipe: str, out: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ssrnn_launch.cli.main import run; run()", "data", "build", "--json"]
    command += ["--recipe", str(RECIPES / f"{recipe}.yaml"), "--out", str(out), "--processes", "1"]
    return subprocess.run(command, env=environment(**settings), check=False, capture_output=True, text=True)


def test_the_one_that_needs_no_network(tmp_path: Path) -> None:
    done = build("python-stdlib", tmp_path / "corpus")
    assert done.returncode == 0, done.stderr
    index, section = CorpusIndex.load(tmp_path / "corpus"), load_recipe(RECIPES / "python-stdlib.yaml").build
    assert section is not None
    assert index.vocab_size == section.vocab_size
    assert (index.licence, index.holdout) == (section.licence, section.holdout)
    assert index.splits["train"].documents > 300
    assert index.splits["valid"].documents > 0


def article(title: str, words: str) -> list[str]:
    """Rows as WikiText's: empty ones, titles and sections between spaces, a line of text each."""
    return [f" = {title} = \n", "", f" {words} \n" * 3, "", " = = Notes = = \n", "", f" {words} = more \n", ""]


ARTICLES = [article(f"Subject {number} = {number}", f"words of subject {number} ,") for number in range(30)]
VALID, TEST = [article("É", "valid words"), ARTICLES[4]], [article("X", "test words")]
PAGES = [f"page {number} of the web, with é" for number in range(3_000)]
CODE = [f"def f{number}():\n    return {number}\n" for number in range(3_000)]


def table(column: str, rows: list[str]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.table({"id": range(len(rows)), column: rows}), out, row_group_size=1_000)
    return out.getvalue()


def rows_of(articles: list[list[str]]) -> list[str]:
    return ["", *(row for article in articles for row in article)]


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    """The address of a server with the datasets' files, as far as the recipes read them; one is for a token only."""
    files = {
        "Salesforce/wikitext": {
            "wikitext-103-raw-v1/train-00000-of-00002.parquet": table("text", rows_of(ARTICLES[:20])),
            "wikitext-103-raw-v1/train-00001-of-00002.parquet": table("text", rows_of(ARTICLES[20:])),
            "wikitext-103-raw-v1/validation-00000-of-00001.parquet": table("text", rows_of(VALID)),
            "wikitext-103-raw-v1/test-00000-of-00001.parquet": table("text", rows_of(TEST)),
            "wikitext-2-raw-v1/train-00000-of-00001.parquet": table("text", ["not asked for"]),
        },
        "HuggingFaceFW/fineweb-edu": {
            "sample/10BT/000_00000.parquet": table("text", PAGES[:2_000]),
            "sample/10BT/001_00000.parquet": table("text", PAGES[2_000:]),
        },
        "bigcode/the-stack-dedup": {
            "data/python/data-00000-of-00002.parquet": table("content", CODE[:1_500]),
            "data/python/data-00001-of-00002.parquet": table("content", CODE[1_500:]),
            "data/c/data-00000-of-00001.parquet": table("content", ["not asked for"]),
        },
    }

    class Hub(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            found = re.fullmatch(r"(?:/api)?/datasets/([^/]+/[^/]+)(?:/(tree|resolve)/main/?(.*))?", path)
            repository, kind, name = found.groups() if found else ("", None, None)
            is_known = repository in files
            if not is_known or ("stack" in repository and self.headers["Authorization"] != "Bearer hf_allowed"):
                self.answer(401, b"{}", X_Error_Code="RepoNotFound")
            elif kind is None:
                self.answer(200, json.dumps({"id": repository, "sha": "0" * 40}).encode())
            elif kind == "tree":
                self.answer(200, json.dumps(self.listing(files[repository], name)).encode())
            elif name in files[repository]:
                data, asked = files[repository][name], re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
                assert asked is not None
                first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
                self.answer(206, data[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}")
            else:
                self.answer(404, b"{}", X_Error_Code="EntryNotFound")

        def listing(self, of: dict[str, bytes], folder: str) -> list[dict[str, object]]:
            inside = {
                name: name.removeprefix(f"{folder}/") for name in of if not folder or name.startswith(f"{folder}/")
            }
            below = {name[: -len(rest)] + rest.partition("/")[0] for name, rest in inside.items() if "/" in rest}
            here = [
                {"type": "file", "path": name, "size": len(of[name]), "oid": hashlib.sha1(of[name]).hexdigest()}
                for name, rest in inside.items()
                if "/" not in rest
            ]
            return [*here, *({"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(below))]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "python-stdlib"])
def test_those_of_the_hub(hub: str, tmp_path: Path, texts_of: Callable, name: str) -> None:
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    if name == "the-stack-dedup-python":
        refused = build(name, tmp_path / "corpus", **settings, HF_TOKEN="hf_other")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert refused.stderr.startswith(
            "error: hf://datasets/bigcode/the-stack-dedup/data/python/*.parquet: can't be "
        )
    done = build(name, tmp_path / "corpus", **settings, HF_TOKEN="hf_allowed")
    assert done.returncode == 0, done.stderr
    index = CorpusIndex.load(tmp_path / "corpus")
    found = texts_of(index)
    if name == "wikitext-103":
        joined = ["".join(rows) for rows in ARTICLES if rows is not ARTICLES[4]]
        assert sorted(found["train"]) == sorted(joined)
        assert sorted(found["valid"]) == sorted("".join(rows) for rows in VALID)
        assert found["test"] == ["".join(rows) for rows in TEST]
        assert index.skipped["held_out"].count == 1
    else:
        assert sorted(found["train"] + found["valid"]) == sorted(PAGES if name == "fineweb-edu-10bt" else CODE)
        assert found["valid"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("index: a\n", ["{path}: no corpus to build; `index:`, its folder, and `build:`, from what, are wanted"]),
        (
            "index: a\nbuild: {sources: [], vocab: 3}\n",
            [
                "data.build.sources: []; at least 1 is wanted",
                "data.build.vocab: unknown key; did you mean vocab_size? allowed: ",
            ],
        ),
        (
            "index: a\nbuild: {sources: [a], holdout: 0.1, valid_sources: [b]}\n",
            ["data.build.holdout: 0.1 with valid_sources; 0, or a fraction without valid_sources, is allowed"],
        ),
        (
            "index: a\nbuild: {sources: [a], document_start: '['}\n",
            ["data.build.document_start: a broken pattern (unterminated character set at position 0); "],
        ),
    ],
)
def test_what_is_wrong_in_a_recipe_is_told_as_of_a_config(tmp_path: Path, text: str, lines: list[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        load_recipe(path)
    told = [str(problem) for problem in raised.value.problems]
    assert len(told) == len(lines)
    assert all(line.startswith(begin.format(path=path)) for line, begin in zip(told, lines, strict=True)), told
