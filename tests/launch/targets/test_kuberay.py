"""The manifest for KubeRay: what it asks of Kubernetes, what it carries, and that it is what the CRD allows."""

import base64
import copy
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ray._private.label_utils import parse_node_labels_string

from ssrnn_dist.config import RunConfig, check_config, to_yaml
from ssrnn_dist.config.cost import CostSection
from ssrnn_dist.problems import UserError
from ssrnn_dist.tracking.prices import NodeFacts, Prices
from ssrnn_launch.targets import kuberay, schemas, written
from ssrnn_launch.targets.kubernetes_rules import check_for_kubernetes
from tests.helpers.launching import REPOSITORY, environment, ssrnn, tiny, write_config

CRD = os.environ.get("SSRNN_RAYJOB_CRD")  # KubeRay's own, where you have it: config/crd/bases/ray.io_rayjobs.yaml


def config(**changes: Any) -> RunConfig:
    given = {"run_root": "s3://bucket/runs", "scale__workers": 2, **changes}
    return check_config(tiny(Path("/shared/corpus"), **given))


def rayjob(of: RunConfig, **more: Any) -> dict[str, Any]:
    documents = kuberay.manifest(of, "tiny-1", ("x-1-py3-none-any.whl", b"code"), {}, [], "2.60.0", **more)
    return documents[1]


def groups(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    return cluster["headGroupSpec"]["template"]["spec"], workers


FULL = {
    "scale__workers": [16, 64], "scale__gpus_per_worker": 1, "scale__cpus_per_worker": 4,
    "scale__accelerator_type": "H100", "train__tokens_per_batch": 1024, "cluster__image": "registry/ssrnn:1",
    "cluster__pip": ["s3fs"], "cluster__env": {"NCCL_DEBUG": "WARN"}, "cluster__secrets": {"HF_TOKEN": "hub/token"},
    "cluster__volumes": {"/shared": "claim"}, "cluster__service_account": "trainer", "cluster__namespace": "ml",
    "cluster__nodes": {"workers_each": 8, "spot": True, "zone": "z-1", "region": "r", "instance_type": "big"},
}  # fmt: skip


def schema_checks() -> Iterator[Any]:
    yield pytest.param(schemas.own_schema(), id="own")
    if CRD:
        yield pytest.param(schemas.read_crd(Path(CRD)), id="crd")


@pytest.mark.parametrize("schema", schema_checks())
@pytest.mark.parametrize("changes", [{}, FULL, {"scale__workers": [1, 2]}, {"cluster__nodes": {"spot": True}}])
def test_what_is_written_is_allowed(schema: dict[str, Any], changes: dict[str, Any]) -> None:
    schemas.check_rayjob(rayjob(config(**changes)), schema)


def damaged(job: dict[str, Any], damage: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    changed = copy.deepcopy(job)
    damage(changed["spec"]["rayClusterSpec"])
    return changed


@pytest.mark.parametrize("schema", schema_checks())
@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda of: of.update(workers=3), "RayJob.spec.rayClusterSpec:"),
        (lambda of: of.pop("headGroupSpec"), "RayJob.spec.rayClusterSpec:"),
        (lambda of: of["authOptions"].update(mode="none"), "RayJob.spec.rayClusterSpec.authOptions.mode:"),
        (lambda of: of["workerGroupSpecs"][0].update(replicas="2"), "workerGroupSpecs.0.replicas:"),
        (lambda of: of["workerGroupSpecs"][0].update(replicas=2**31), "workerGroupSpecs.0.replicas:"),
        (lambda of: of["workerGroupSpecs"][0].pop("groupName"), "workerGroupSpecs.0:"),
        (
            lambda of: of["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"].update(
                memory="eight"
            ),
            "resources.limits.memory:",
        ),
        (
            lambda of: of["headGroupSpec"]["template"]["spec"]["containers"][0].update(volumeMount=[]),
            "template.spec.containers.0:",
        ),
    ],
)
def test_what_the_crd_does_not_know_is_refused(
    schema: dict[str, Any], damage: Callable[[dict[str, Any]], Any], where: str
) -> None:
    with pytest.raises(UserError, match=where.replace(".", r"\.")):
        schemas.check_rayjob(damaged(rayjob(config(**FULL)), damage), schema)


@pytest.mark.skipif(not CRD, reason="SSRNN_RAYJOB_CRD names no file of KubeRay's CRD")
def test_our_description_knows_no_field_that_the_crd_does_not() -> None:
    crd, own = schemas.read_crd(Path(CRD or "")), schemas.own_schema()

    def compare(ours: dict[str, Any], theirs: dict[str, Any], where: str) -> None:
        ours = own["$defs"][ours["$ref"].rpartition("/")[2]] if "$ref" in ours else ours
        assert ours.get("type", theirs["type"]) == theirs["type"], where
        for name, each in ours.get("properties", {}).items():
            if where == ".metadata":
                return  # the API server's own, which the CRD leaves open
            assert name in theirs["properties"], f"{where}.{name}"
            compare(each, theirs["properties"][name], f"{where}.{name}")
        if "items" in ours:
            compare(ours["items"], theirs["items"], f"{where}[]")
        assert set(theirs.get("required", ())) <= set(ours.get("required", ())) | {"name"}, where

    compare(own, crd, "")


def crd_of(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}, "metadata": {}}}
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
    return {"kind": "CustomResourceDefinition", "spec": {"names": {"kind": "RayJob"}, "versions": versions}, **more}


def test_a_crd_is_read_as_strictly_as_the_api_server_reads_it(tmp_path: Path) -> None:
    spec = {
        "n": {"type": "integer", "format": "int32", "description": "d", "default": 1},
        "maybe": {"type": "string", "nullable": True},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": {}}},
        "description": {"type": "string"},
    }
    path = tmp_path / "crd.yaml"
    path.write_text(yaml.safe_dump(crd_of(spec)))
    schema = schemas.read_crd(path)
    job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "x"}}
    schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    schemas.check_rayjob({**job, "spec": {"n": 1, "maybe": None, "open": {"b": 1}, "description": "a field"}}, schema)
    for wrong in ({"n": 2**31}, {"n": None}, {"m": 1}, {"description": 1}):
        with pytest.raises(UserError):
            schemas.check_rayjob({**job, "spec": wrong}, schema)
    with pytest.raises(UserError, match="required"):
        schemas.check_rayjob(job, schema)


@pytest.mark.parametrize("text", ["", "a: [", "kind: Pod", "- 1", yaml.safe_dump(crd_of({}, kind="x"))])
def test_another_file_is_no_crd(tmp_path: Path, text: str) -> None:
    (tmp_path / "crd.yaml").write_text(text)
    with pytest.raises(UserError, match="the CRD of ray.io/v1 RayJobs is wanted"):
        schemas.read_crd(tmp_path / "crd.yaml")


def test_a_range_of_workers_is_a_range_of_nodes_that_the_autoscaler_fills() -> None:
    job = rayjob(config(**FULL))
    head, workers = groups(job)
    assert (workers["minReplicas"], workers["replicas"], workers["maxReplicas"]) == (2, 2, 8)
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "32", "memory": "36G", "nvidia.com/gpu": "8"}
    assert json.loads(json.loads(workers["rayStartParams"]["resources"])) == {"accelerator_type:H100": 1}
    assert "nvidia.com/gpu" not in head["containers"][0]["resources"]["limits"]
    fixed = rayjob(config(scale__workers=5, train__tokens_per_batch=1024, cluster__nodes={"workers_each": 2}))
    _, workers = groups(fixed)
    assert (workers["minReplicas"], workers["maxReplicas"]) == (3, 3)
    assert "enableInTreeAutoscaling" not in fixed["spec"]["rayClusterSpec"]


def test_the_head_stays_off_spot_nodes_and_workers_go_there_only_if_wished() -> None:
    for spot in (False, True):
        head, workers = groups(rayjob(config(cluster__nodes={"spot": spot})))
        expressions = terms(head)
        assert len(expressions) == 1
        assert {each["operator"] for each in expressions[0]} == {"NotIn"}
        pod = workers["template"]["spec"]
        assert ("affinity" in pod) == spot
        assert ("tolerations" in pod) == spot
        assert "tolerations" not in head
    assert [[each["key"] for each in term] for term in terms(pod)] == [[label] for label in kuberay.SPOT_LABELS]


TYPE_LABEL, MARKET_LABEL = "node.kubernetes.io/instance-type", "ray.io/market-type"


def labels(**changes: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Of the head's group and of the workers'."""
    cluster = rayjob(config(**changes))["spec"]["rayClusterSpec"]
    return cluster["headGroupSpec"]["labels"], cluster["workerGroupSpecs"][0]["labels"]


def test_a_price_file_finds_the_nodes_by_their_labels() -> None:
    head, workers = labels(cluster__nodes={"spot": True, "instance_type": "p5.48xlarge"})
    assert head == {MARKET_LABEL: "on-demand"}
    assert workers == {TYPE_LABEL: "p5.48xlarge", MARKET_LABEL: "spot"}
    assert price_on(workers) == price_on({}, instance_type="p5.48xlarge", market="spot") == 4.0
    assert labels()[1] == {MARKET_LABEL: "on-demand"}
    in_ray = ",".join(f"{key}={value}" for key, value in workers.items())  # as KubeRay gives them to `ray start`
    assert parse_node_labels_string(in_ray) == workers


def price_on(node: dict[str, str], **cost: str) -> float | None:
    """What the example of a price file says of a node with these labels, and nothing of it in the config."""
    file = str(REPOSITORY / "launch/configs/prices/example.yaml")
    prices = Prices.of(CostSection(price_file=file, **cost))  # type: ignore[arg-type]
    return prices.rate(NodeFacts.of(node, 8), 1).usd_per_hour


def test_what_cost_says_of_the_nodes_has_the_first_word_and_what_is_no_label_is_left_to_it() -> None:
    nodes = {"instance_type": "p5.48xlarge"}
    named = {"price_file": "prices.yaml", "instance_type": "our-rack"}
    own = labels(cost={**named, "market": "spot"}, cluster__nodes=nodes)
    assert own == ({MARKET_LABEL: "on-demand"}, {TYPE_LABEL: "our-rack", MARKET_LABEL: "spot"})
    assert labels(cost={**named, "instance_type": "our rack"}, cluster__nodes=nodes)[1] == {MARKET_LABEL: "on-demand"}


def terms(pod: dict[str, Any]) -> list[list[dict[str, Any]]]:
    wanted = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [term["matchExpressions"] for term in wanted["nodeSelectorTerms"]]


def test_secrets_are_references() -> None:
    head, workers = groups(rayjob(config(**FULL)))
    wanted = [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}]
    for pod in (head, workers["template"]["spec"]):
        assert pod["containers"][0]["env"] == wanted


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True))
def test_any_runs_name_becomes_one_that_kubernetes_takes(name: str) -> None:
    made = kuberay.object_name(name, "3f2a91")
    schema = schemas.own_schema()["properties"]["metadata"]["properties"]["name"]
    assert schemas.jsonschema.Draft202012Validator(schema).is_valid(made), made
    assert made.endswith("-3f2a91")


def test_a_run_root_on_this_machine_is_refused(tmp_path: Path) -> None:
    values = tiny(Path("corpora/text"), run_root="runs")
    with pytest.raises(UserError) as caught:
        written.for_kuberay(check_config(values), None, "")
    assert [problem.where for problem in caught.value.problems] == ["run_root", "data.index"]


LARGE = {"scale__workers": [8, 32], "train__tokens_per_batch": 1024}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"cluster__service_account": "x y"}, ["cluster.service_account: 'x y'; small letters"]),
        ({"cluster__service_account": "a" * 254}, ["cluster.service_account: "]),
        ({"cluster__namespace": "Training"}, ["cluster.namespace: 'Training'; small letters"]),
        ({"cluster__volumes": {"/shared": "B_c"}}, ["cluster.volumes./shared: the claim 'B_c'; small letters"]),
        (
            {"cluster__volumes": {"/dev/shm/": "ok", "/a:b": "ok"}},
            ["cluster.volumes: /dev/shm/; ", "cluster.volumes: /a:b; "],
        ),
        ({"cluster__nodes": {"zone": "z 1"}}, ["cluster.nodes.zone: 'z 1'; the value of a node's label"]),
        (
            {**LARGE, "cluster__nodes": {"workers_each": 1000, "memory_gb": 0.001}},
            [
                "cluster.nodes.workers_each: 1000, a pod with room for more than the run's 32 workers; 1 to 32",
                "cluster.nodes.memory_gb: 0.001 for a pod of 1000 workers; at least 1200, ",
            ],
        ),
    ],
)
def test_what_kubernetes_would_turn_down_or_never_place_is_refused(changes: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        written.for_kuberay(config(**changes), None, "")
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == len(lines)
    assert all(line.startswith(begins) for line, begins in zip(told, lines, strict=True)), told


@pytest.mark.parametrize("changes", [FULL, {**LARGE, "cluster__nodes": {"workers_each": 32, "memory_gb": 38.4}}])
def test_what_kubernetes_would_take_is_not_refused(changes: dict[str, Any]) -> None:
    check_for_kubernetes(config(**changes), (kuberay.MOUNT, kuberay.SHARED_MEMORY))


@pytest.mark.parametrize("name", ["hub", "Hub/token", "hub/", "/token", "hub/to/ken", "a..b/token"])
def test_a_secret_is_named_with_its_key(name: str) -> None:
    with pytest.raises(UserError, match=r"cluster\.secrets\.HF_TOKEN: .*; secret/key"):
        rayjob(config(cluster__secrets={"HF_TOKEN": name}))


def test_too_much_code_for_a_config_map_is_refused() -> None:
    with pytest.raises(UserError, match="what a ConfigMap holds"):
        kuberay.check_size(bytes(kuberay.LARGEST_CONFIG_MAP_BYTES), {"run.yaml": "a"})


def test_the_command_prints_a_manifest_whose_wheel_and_config_are_whole(tmp_path: Path) -> None:
    path = write_config(tmp_path, tiny(Path("/shared/corpus"), run_root="s3://bucket/runs"))
    ended = ssrnn("submit", path, "--to", "kuberay", "--dry-run", "--workers", 3, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    code, job = yaml.safe_load_all(ended.stdout)
    (tmp_path / "code.whl").write_bytes(base64.b64decode(code["binaryData"]["code.whl"]))
    names = zipfile.ZipFile(tmp_path / "code.whl").namelist()
    assert "ssrnn_launch/job_entry.py" in names
    assert check_config(yaml.safe_load(code["data"]["run.yaml"])).scale.workers == 3
    (volume,) = [each for each in groups(job)[0]["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] == code["metadata"]["name"] == job["metadata"]["name"]
    runtime = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
    paths = [f"file://{kuberay.MOUNT}/{item['path']}" for item in volume["configMap"]["items"]]
    assert runtime["py_modules"] == paths[:1]
    assert any(each.startswith("torch==") for each in runtime["pip"])
    assert "checked against" in ended.stderr


def written_there(tmp_path: Path, **env: str) -> Any:
    path = write_config(tmp_path, tiny(Path("/shared/corpus"), run_root="/shared/runs", cluster__image="i"))
    words = ["submit", path, "--to", "kuberay", "--out", "job.yaml"]
    return ssrnn(*words, cwd=tmp_path, env=environment(**env))


def test_without_kubectl_the_file_is_written_and_the_command_told(tmp_path: Path) -> None:
    ended = written_there(tmp_path, PATH=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert "kubectl apply --server-side -f job.yaml" in ended.stderr
    assert len(list(yaml.safe_load_all((tmp_path / "job.yaml").read_text()))) == 2
    again = written_there(tmp_path, PATH=str(tmp_path))
    assert again.returncode == 2
    assert again.stderr.startswith("error: job.yaml: is there already; ")


def kubectl(tmp_path: Path, answer: str, code: int = 0) -> str:
    """A PATH whose kubectl notes what it is asked, answers, and ends with the code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "answer").write_text(answer)
    script = folder / "kubectl"
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n/bin/cat {folder}/answer\nexit {code}\n')
    script.chmod(0o755)
    return str(folder)


def test_with_kubectl_the_clusters_own_crd_decides_before_anything_is_made(tmp_path: Path) -> None:
    of_own = {"kind": "CustomResourceDefinition", "spec": {"names": {"kind": "RayJob"}, "versions": []}}
    of_own["spec"]["versions"] = [{"name": "v1", "schema": {"openAPIV3Schema": schemas.own_schema()}}]
    ended = written_there(tmp_path, PATH=kubectl(tmp_path, json.dumps(of_own)))
    assert ended.returncode == 0, ended.stderr
    asked = (tmp_path / "bin/asked").read_text().splitlines()
    assert asked == ["get crd rayjobs.ray.io -o json", "apply --server-side -f job.yaml"]
    assert "apply" not in ended.stderr
    (tmp_path / "job.yaml").unlink()
    (tmp_path / "bin/answer").write_text(json.dumps(crd_of({"entrypoint": {"type": "string"}})))
    refused = written_there(tmp_path, PATH=str(tmp_path / "bin"))
    assert refused.returncode == 2
    assert "error: RayJob.spec: " in refused.stderr
    assert (tmp_path / "bin/asked").read_text().count("apply") == 1


def test_a_kubectl_without_a_cluster_is_one_line(tmp_path: Path) -> None:
    ended = written_there(tmp_path, PATH=kubectl(tmp_path, "no route to the server", code=1))
    assert ended.returncode == 1
    *told, last = ended.stderr.splitlines()
    assert last.startswith("error: `kubectl get crd rayjobs.ray.io -o json` failed: no route")
    assert (tmp_path / "job.yaml").exists()
    for command in ("kubectl apply --server-side -f job.yaml", "kubectl delete -f job.yaml"):
        assert any(line.strip().startswith(command) for line in told), ended.stderr


def test_a_run_that_has_trained_otherwise_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = tiny(Path("/shared/corpus"), run_root=str(tmp_path / "runs"))
    folder = tmp_path / "runs/tiny"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(check_config(run)))
    (folder / "metrics.jsonl").write_text("")
    for words, code in (("train.steps=31", 2), ("train.log_every_steps=3", 0)):
        path = write_config(tmp_path, run)
        ended = ssrnn("submit", path, "--to", "kuberay", "--dry-run", "--set", words, cwd=tmp_path)
        assert ended.returncode == code, ended.stderr
        refused = f"error: train.steps: 31 now, 30 in {folder}/config.yaml; go on with the old values"
        assert ended.stderr.startswith(refused) == (code == 2)
    again = ssrnn("submit", path, "--to", "kuberay", "--dry-run", "--set", "train.steps=31", "--fresh", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
