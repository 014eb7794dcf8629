"""The command: quick help, one line a problem, exit codes, one JSON object."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tests.helpers.launching import PYTHONPATH, environment, only_json, ssrnn, tiny, write_config

COMMANDS = [
    *(
        "quickstart",
        "data build",
        "data inspect",
        "data verify",
        "data mix",
        "train",
        "submit",
        "jobs list",
        "jobs status",
        "jobs logs",
        "jobs stop",
    ),
    *(
        "eval",
        "generate",
        "report",
        "bench train",
        "bench quality",
        "bench memory",
        "bench generate",
        "bench parallel",
        "bench kernels",
        "bench wavefront",
        "bench data",
        "config show",
        "config validate",
        "config schema",
    ),
]
MEMORY = Path(__file__).parents[2] / "benchmarks" / "memory" / "gru.yaml"
HEAVY = ("torch", "ray", "mlflow", "deepspeed", "matplotlib", "webdataset", "numpy", "tokenizers")


@pytest.mark.parametrize("command", ["", "data", "jobs", "bench", "config", *COMMANDS])
def test_help_has_an_example_and_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom ssrnn_launch.cli.main import main\n"
        f"status = main({[*command.split(), '--help']!r})\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])\n"
        "sys.exit(status)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Example: ssrnn" in ended.stdout
    assert "LOADED []" in ended.stdout
    if command in COMMANDS:
        assert "--json" in ended.stdout
        assert "--debug" in ended.stdout


def _of_a_run(tokens: int) -> list[str]:
    return ["--tokens", str(tokens), "--lanes", "4", "--sequence-length", "16"]


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["trian"], "error: ssrnn: no such command 'trian'"),
        (["train"], "error: ssrnn train: missing argument 'CONFIG'; see `ssrnn train --help`"),
        (["train", "a.yaml", "--workres", "2"], "error: ssrnn train: no such option: --workres"),
        (["train", "a.yaml", "--workers", "two"], "error: ssrnn train: invalid value for '--workers'"),
        (["train", "a.yaml"], "error: a.yaml: no such file; "),
        (["config", "show", "."], "error: .: a folder; "),
        (["data", "inspect", "nowhere"], "error: "),
        (["bench", "train", "--shape", "4x4"], "error: --shape: '4x4'; batch,time,width is wanted"),
        (["bench", "train", "--cell", "ugrnn"], "error: --cell: 'ugrnn'; one of "),
        (["bench", "quality", "a.yaml"], "error: a.yaml: no such file; "),
        (["bench", "kernels", "--dtype", "int8"], "error: --dtype: 'int8'; one of float32, "),
        (["bench", "kernels", "--shape", "1,8,10", "--heads", "3"], "error: --heads: 3; what divides the width 10 "),
        (["bench", "generate", "a.yaml"], "error: a.yaml: no such file; "),
        (["bench", "parallel", "no-run", "a.txt"], "error: no-run: no such folder; "),
        (["bench", "parallel", "no-run", "a.txt", "--tolerance", "0"], "error: --tolerance: 0; more than 0 is allowed"),
        (["bench", "memory", "a.yaml"], "error: a.yaml: no such file; "),
        (["bench", "memory", str(MEMORY), "--task", "chess"], "error: --task: 'chess'; one of copy, recall, "),
        (["data", "build", "nowhere/*.txt", "--out", "corpus"], "error: "),
        (["data", "build", "stdlib:", "--out", "corpus", "--on-invalid", "cry"], "error: --on-invalid: 'cry'; "),
        (["data", "build", "stdlib:", "--out", "corpus", "--holdout", "1.5"], "error: "),
        (["data", "build", "--out", "corpus"], "error: SOURCES: none came; "),
        (["data", "build", "stdlib:"], "error: --out: not given; "),
        (
            ["data", "build", "stdlib:", "--out", "c", "--document-start", "("],
            "error: document_start: '(' is a broken ",
        ),
        (["data", "build", "stdlib:", "--out", "c", "--valid-source", "none"], "error: none: no such file or folder; "),
        (["data", "build", "--recipe", "r.yaml"], "error: r.yaml: no such file; "),
        (["data", "build", "stdlib:", "--recipe", "r.yaml"], "error: --recipe: SOURCES came beside it; "),
        (["data", "build", "--recipe", "r.yaml", "--seed", "0"], "error: --recipe: --seed came beside it; "),
        (["data", "mix"], "error: ssrnn data mix: neither a config nor --source; "),
        (["data", "mix", "run.yaml"], "error: data.mixture: missing; a config with a mixture is wanted"),
        (["data", "mix", "run.yaml", "--lanes", "2"], "error: run.yaml: --lanes is given too; a config alone "),
        (["data", "mix", "--source", "a=1", "--tokens", "9", "--lanes", "1"], "error: --sequence-length: missing; "),
        *(
            (["data", "mix", "--source", word, *_of_a_run(9)], f"error: {begins}")
            for word, begins in (("corpora", "--source: 'corpora'; INDEX=WEIGHT is wanted"), ("a=-1", "data.mixture.0"))
        ),
        (["data", "mix", "--source", "nowhere=1", *_of_a_run(9)], "error: nowhere: no index there "),
        (["data", "mix", "--source", "a=1", *_of_a_run(9), "--picture", "mix.gif"], "error: --picture: 'mix.gif'; "),
        (["report", "nowhere"], "error: nowhere: no config.yaml in it; "),
        (["eval", "nowhere", "nowhere"], "error: nowhere: "),
        (["generate", "nowhere", "--prompt", "x"], "error: nowhere: "),
        (
            ["generate", "nowhere", "--prompt", "x", "--prompt-file", "y"],
            "error: --prompt-file: --prompt is given too; ",
        ),
        (["generate", "nowhere", "--prompt-file", "missing.txt"], "error: missing.txt: No such file or directory; "),
        (["submit", "run.yaml", "--address", "http://127.0.0.1:1"], "error: --address: nothing answers at "),
        (["jobs", "list", "--address", "no address"], "error: --address: "),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(words: list[str], begins: str, tmp_path: Path) -> None:
    write_config(tmp_path, tiny(tmp_path))
    given = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="any")
    ended = ssrnn(*words, cwd=tmp_path, env=given)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(begins), ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_with_json_an_error_is_one_object_too(tmp_path: Path) -> None:
    write_config(tmp_path, {"name": "a", "modle": {}, "data": {"index": "x"}, "train": {"steps": "no"}})
    ended = ssrnn("config", "validate", "run.yaml", "--json", cwd=tmp_path)
    assert ended.returncode == 2
    told = only_json(ended.stdout)
    assert [line.split(":")[0] for line in told["problems"]] == ["train.steps", "modle"]
    assert told["error"] == told["problems"][0]
    assert ended.stderr.splitlines() == [f"error: {line}" for line in told["problems"]]
    usage = ssrnn("train", "--json", "--nonsense", cwd=tmp_path)
    assert only_json(usage.stdout)["error"].startswith("ssrnn train: no such option")


def test_config_commands(tmp_path: Path) -> None:
    write_config(tmp_path, tiny(tmp_path))
    assert ssrnn("config", "validate", "run.yaml", cwd=tmp_path).stdout == "ok: run.yaml\n"
    shown = ssrnn("config", "show", "run.yaml", "--set", "train.steps=7", cwd=tmp_path).stdout
    as_json = only_json(ssrnn("config", "show", "run.yaml", "--set", "train.steps=7", "--json", cwd=tmp_path).stdout)
    assert yaml.safe_load(shown) == as_json
    assert as_json["train"]["steps"] == 7
    schema = json.loads(ssrnn("config", "schema", cwd=tmp_path).stdout)
    assert schema["additionalProperties"] is False
    assert "train" in schema["properties"]


def test_data_build_and_inspect(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"Text number {number}: a few words of it.\n" * 20)
    words = ["data", "build", tmp_path, "--out", tmp_path / "corpus", "--vocab-size", 300, "--holdout", 0.2, "--json"]
    built = only_json(ssrnn(*words, cwd=tmp_path).stdout)
    inspected = ssrnn("data", "inspect", tmp_path / "corpus", "--json", cwd=tmp_path)
    assert only_json(inspected.stdout) == built
    assert set(built["splits"]) == {"train", "valid"}
    table = ssrnn("data", "inspect", tmp_path / "corpus", cwd=tmp_path).stdout
    assert "tokens of a document" in table


def test_data_build_from_a_recipe_with_splits_of_their_own(tmp_path: Path) -> None:
    chapters = [f"# Chapter {number}\n" + f"some words of chapter {number}\n" * 30 for number in range(9)]
    for name, text in (("train", chapters[:6]), ("valid", chapters[5:8]), ("test", chapters[8:])):
        (tmp_path / f"{name}.txt").write_text("".join(text))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "index: corpora/book\nbuild: {sources: [train.txt], valid_sources: [valid.txt], test_sources: [test.txt],\n"
        "  document_start: '# ', vocab_size: 300}\n"
    )
    built = only_json(ssrnn("data", "build", "--recipe", "recipe.yaml", "--json", cwd=tmp_path).stdout)
    assert {name: split["documents"] for name, split in built["splits"].items()} == {"train": 5, "valid": 3, "test": 1}
    assert built["skipped"] == {"held_out": 1}
    options = [
        "--valid-source",
        "valid.txt",
        "--test-source",
        "test.txt",
        "--document-start",
        "# ",
        "--vocab-size",
        300,
    ]
    same = only_json(ssrnn("data", "build", "train.txt", "--out", "c", *options, "--json", cwd=tmp_path).stdout)
    assert {**same, "index": None} == {**built, "index": None}
    assert (tmp_path / "corpora" / "book" / "index.json").is_file()


def test_data_mix_says_what_a_mixture_comes_to(corpus: Path, tmp_path: Path) -> None:
    """From options and from a config alike: a share that rises from 0 to 3 / 4 of 6,400 tokens is 3 / 8 of them."""
    (tmp_path / "more.txt").write_text("word word and " * 400)
    tokenizer = ["--tokenizer", corpus / "tokenizer.json", "--holdout", 0]
    ssrnn("data", "build", tmp_path / "more.txt", "--out", tmp_path / "more", *tokenizer, cwd=tmp_path)
    weights = {str(corpus): [[0, 4], [6400, 1]], "more": [[0, 0], [6400, 3]]}
    sources = [word for index, weight in weights.items() for word in ("--source", f"{index}={weight}")]
    ended = ssrnn("data", "mix", *sources, *_of_a_run(6400), "--picture", "mix.svg", "--json", cwd=tmp_path)
    found = only_json(ended.stdout)
    assert (found["steps"], found["tokens"], found["windows_counted"]) == (100, 6400, 400)
    first, second = found["sources"]
    assert (first["name"], second["name"]) == ("built", "more")
    assert second["share_wanted"] == pytest.approx(3 / 8)
    assert second["tokens"] == second["epochs"] * ((second["corpus_tokens"] - 1) // 16) * 16
    assert abs(second["tokens"] / 16 - 150) <= found["largest_error_windows"] < 1
    assert len(second["epoch_ends_at_steps"]) == int(second["epochs"])
    assert second["lanes"] == pytest.approx({"at_first": 0, "in_the_middle": 1.5, "at_last": 3})
    assert "<svg" in (tmp_path / "mix.svg").read_text()

    values = tiny(tmp_path, train__steps=100, train__tokens_per_batch=64)
    values["data"] = {"mixture": [{"index": index, "weight": weight} for index, weight in weights.items()]}
    write_config(tmp_path, values)
    assert only_json(ssrnn("data", "mix", "run.yaml", "--json", cwd=tmp_path).stdout) == found
    table = ssrnn("data", "mix", "run.yaml", "--set", "train.steps=50", cwd=tmp_path).stdout
    assert "3,200 tokens in 50 steps" in table
    assert "an epoch ends at steps" in table


def test_a_run_folder_that_cannot_be_written_is_one_line(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    ended = ssrnn("train", write_config(tmp_path, tiny(corpus)), cwd=tmp_path)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended.stderr
    assert ended.stderr.startswith("error: ")
    assert "starting Ray" not in ended.stdout


def test_a_missing_corpus_is_told_before_ray_starts(tmp_path: Path) -> None:
    ended = ssrnn("train", write_config(tmp_path, tiny(tmp_path / "no-corpus")), cwd=tmp_path)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended.stderr
    assert "no-corpus" in ended.stderr
    assert "starting Ray" not in ended.stdout


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    ended = ssrnn("config", "show", "none.yaml", "--debug", cwd=tmp_path)
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr


def test_a_full_disk_is_one_line_and_exit_1(tmp_path: Path) -> None:
    write_config(tmp_path, tiny(tmp_path))
    with Path("/dev/full").open("w") as full:
        ended = ssrnn(
            "config", "show", "run.yaml", cwd=tmp_path, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    code = f"{sys.executable} -c 'from ssrnn_launch.cli.main import run; run()' config schema | head -c 5"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={**environment(), "PYTHONPATH": PYTHONPATH},
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_server_that_hangs_up_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        given = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="any")
        ended = ssrnn("jobs", "list", "--address", address, cwd=tmp_path, env=given)
        server.shutdown(socket.SHUT_RDWR)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: --address: nothing answers at {address}; ")
    assert len(ended.stderr.splitlines()) == 1
