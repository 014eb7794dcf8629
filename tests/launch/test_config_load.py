"""From YAML to a RunConfig or to every problem in it: the contract's words, all at once, no traceback."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ssrnn_dist.config import RunConfig, check_config, load_config, to_yaml
from ssrnn_dist.problems import UserError

SMALLEST = {"name": "a", "data": {"index": "corpus"}}


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as raised:
        load_config(path, overrides)
    return [str(problem) for problem in raised.value.problems]


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems_of(**sections: Any) -> list[str]:
    with pytest.raises(UserError) as raised:
        check_config({**SMALLEST, **sections})
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("", "{path}: an empty file; "),
        ("# nothing\n", "{path}: an empty file; "),
        ("[1, 2]", "{path}: a list; a mapping"),
        ("hello", "{path}: a text; a mapping"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "{path}: not UTF-8 text (byte 8); "),
        (b"\x00\x01\x02", "{path}: unacceptable character"),
        ("name: a\nname: b\n", "{path}:2: the key 'name' stands twice; "),
        ("data: {index: x, index: y}\n", "{path}:1: the key 'index' stands twice; "),
        ("name: a\n\tdata: b\n", "{path}:2: found character '\\t'"),
        ("? [a]\n: b\n", "{path}:1: a key must be a plain name; "),
        ("a: &a [*a]\n", "{path}: an alias that contains itself; "),
        ("a: &a {b: {c: *a}}\n", "{path}: an alias that contains itself; "),
        ("a: !!python/object/apply:os.system [ls]\n", "{path}:1: could not determine a constructor"),
        ("[" * 5000, "{path}: nested too deeply; "),
        ("x" * 2_000_000, "{path}: a larger file; at most 1000000 bytes"),
    ],
)
def test_what_is_no_config_is_one_line(tmp_path: Path, text: str | bytes, begins: str) -> None:
    path = written(tmp_path, text)
    (line,) = problems(path)
    assert line.startswith(begins.format(path=path)), line


def test_aliases_may_not_stand_for_millions_of_values(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (line,) = problems(written(tmp_path, "\n".join([*lines, "name: *a11"])))
    assert "aliases that stand for too many values" in line


def test_no_file_a_folder_and_an_endless_device(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml")[0].startswith(f"{tmp_path}/none.yaml: no such file; ")
    assert problems(tmp_path)[0].startswith(f"{tmp_path}: a folder; ")
    assert problems(Path("/dev/zero"))[0].startswith("/dev/zero: a larger file; ")


def test_anchors_and_merges_are_allowed(tmp_path: Path) -> None:
    text = "name: a\ndata: {index: x}\nmodel: &m {d_model: 8, n_layers: 3}\n"
    assert load_config(written(tmp_path, text)).model.d_model == 8
    text += "train: {<<: {steps: 7}, seed: 2}\n"
    assert load_config(written(tmp_path, text)).train.steps == 7


def test_every_problem_is_told_at_once() -> None:
    lines = problems_of(
        modle={"d_model": 3},
        model={"d_modell": 3, "n_layers": 0},
        train={"steps": 1.5, "learning_rate": "fast", "schedule": "cosin"},
        scale={"workers": "many", "zero_stage": 4},
    )
    assert [line.split(";")[0] for line in lines] == [
        "model.n_layers: 0",
        "model.d_modell: unknown key",
        "train.steps: 1.5",
        "train.learning_rate: 'fast'",
        "train.schedule: 'cosin'",
        "scale.workers: 'many'",
        "scale.zero_stage: 4",
        "modle: unknown key",
    ]
    assert "did you mean d_model?" in lines[1]
    assert "did you mean cosine?" in lines[4]
    assert "did you mean model?" in lines[7]


@pytest.mark.parametrize("workers", ["many", 0, -1, 1.5, [0, 2], [1], [1, 2, 3], ["a", 2], {}, None, True])
def test_a_value_of_several_kinds_gives_one_line(workers: Any) -> None:
    (line,) = problems_of(scale={"workers": workers})
    assert line.startswith("scale.workers: ")


@pytest.mark.parametrize(
    ("sections", "begins"),
    [
        ({"scale": {"workers": [4, 2]}}, "scale.workers: [4, 2]; "),
        ({"scale": {"workers": 33}}, "scale.workers: 33 workers for 32 lanes; "),
        ({"train": {"tokens_per_batch": 1000}}, "train.tokens_per_batch: 1000 is not a multiple"),
        ({"train": {"micro_batch_lanes": 99}}, "train.micro_batch_lanes: 99, but"),
        ({"train": {"steps": 10**400}}, "train.steps: 1000"),
        ({"feedback": {"kind": "exact", "refinements": 2}}, "feedback.refinements: 2 with kind: exact; "),
        ({"feedback": {"kind": "truncated", "refinements": 2}}, "feedback.refinements: 2 with kind: truncated; "),
        ({"feedback": {"kind": "selective", "decay": "linspace"}}, "feedback.decay: linspace with"),
        ({"checkpoint": {"keep": True}}, "checkpoint.keep: true; "),
        ({"cost": {"usd_per_worker_hour": float("inf")}}, "cost.usd_per_worker_hour: inf; a finite number"),
        ({"name": "../up"}, "name: '../up'; a run's name is a folder's name"),
        ({"name": None}, "name: null; text is wanted"),
        ({"data": None}, "data: null; a mapping is wanted; allowed keys: allow_new_weights, build, "),
        ({"data": {}}, "data.index: missing; required: folder of a built corpus"),
        (
            {"data": {"mixture": [{"index": "a", "wieght": 1}]}},
            "data.mixture.0.wieght: unknown key; did you mean",
        ),
        ({"data": {"mixture": [{"weight": 1}]}}, "data.mixture.0.index: missing; required: folder of a built corpus"),
        ({"data": {"mixture": ["a"]}}, "data.mixture.0: 'a'; a mapping is wanted; allowed keys: index, name, weight"),
        ({"data": {"index": "x", "build": {"sources": []}}}, "data.build.sources: []; at least 1"),
        ({7: 1}, "7: unknown key; "),
        (
            {"tracking": {"uri": "http://"}},
            "tracking.uri: a server's address without a host or a port that can be; such",
        ),
        ({"tracking": {"uri": "https://:5000"}}, "tracking.uri: a server's address without a host or"),
        ({"tracking": {"uri": "http:///mlflow:5000"}}, "tracking.uri: a server's address without a host or"),
        ({"tracking": {"uri": "http://me:hidden@"}}, "tracking.uri: a server's address without a host or"),
        ({"tracking": {"uri": "http://mlflow:http"}}, "tracking.uri: a server's address without a host or"),
        ({"tracking": {"uri": "http://[::1"}}, "tracking.uri: a server's address without a host or"),
        ({"cluster": {"image": "a b"}}, "cluster.image: 'a b'; a container image is wanted: "),
        ({"cluster": {"image": "https://registry/a"}}, "cluster.image: 'https://registry/a'; a container image"),
        ({"run_root": "memory://x"}, "run_root: 'memory://x'; gone with its process; a folder, or a store's URL"),
        ({"checkpoint": {"uri": "Memory://x"}}, "checkpoint.uri: Memory://x, which is gone with its process; s3://"),
    ],
)
def test_a_wrong_value_says_where_and_what_is_allowed(sections: dict[Any, Any], begins: str) -> None:
    with pytest.raises(UserError) as raised:
        check_config({**SMALLEST, **sections})
    (line,) = [str(problem) for problem in raised.value.problems]
    assert line.startswith(begins), line


@pytest.mark.parametrize(
    "image",
    ["i", "localhost:5000/team/my_run:v1.2-cu12", "rayproject/ray:2.60.0-py311", f"ghcr.io/a/b@sha256:{'0' * 64}"],
)
def test_an_images_name_is_taken_as_it_is(image: str) -> None:
    assert check_config({**SMALLEST, "cluster": {"image": image}}).cluster.image == image


def test_overrides_set_values_and_the_last_one_wins(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(SMALLEST))
    overrides = ["train.steps=5", "scale.workers=[1, 4]", "train.steps=6", "data.build.sources=[a b, c]"]
    config = load_config(path, overrides)
    assert (config.train.steps, config.scale.workers) == (6, (1, 4))
    assert config.data.build is not None
    assert config.data.build.sources == ["a b", "c"]


@pytest.mark.parametrize("override", ["train.steps", "=3", "train..steps=3", "train.steps=[", "a=&a [*a]"])
def test_an_override_of_another_form_is_one_line(tmp_path: Path, override: str) -> None:
    (line,) = problems(written(tmp_path, yaml.safe_dump(SMALLEST)), override)
    assert line.startswith("--set")


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    length = draw(st.integers(1, 512))
    lanes = draw(st.integers(1, 64))
    low = draw(st.integers(1, lanes))
    text = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20)
    return {
        "name": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)),
        "run_root": draw(text),
        "data": {
            "index": draw(text),
            "build": draw(st.none() | st.fixed_dictionaries({"sources": st.lists(text, min_size=1)})),
        },
        "train": {
            "sequence_length": length,
            "tokens_per_batch": length * lanes,
            "learning_rate": draw(st.floats(1e-9, 1.0)),
            "precision": draw(st.sampled_from(["fp32", "bf16"])),
        },
        "scale": {"workers": draw(st.just(low) | st.tuples(st.just(low), st.integers(low, lanes)).map(list))},
        "cost": {"usd_per_worker_hour": draw(st.none() | st.floats(0, 1e6))},
        "tracking": {"uri": draw(st.none() | text)},
    }


@given(configs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_resolved_config_loads_to_itself(values: dict[str, Any]) -> None:
    config = check_config(values)
    assert check_config(yaml.safe_load(to_yaml(config))) == config


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text() | st.sampled_from(list(RunConfig.model_fields)), each),
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_is_a_config_or_told_in_lines(values: Any) -> None:
    assume(isinstance(values, dict))
    try:
        check_config(values)
    except UserError as error:
        lines = [str(problem) for problem in error.problems]
        assert lines
        assert all("\n" not in line and ": " in line and "; " in line for line in lines)
