"""The cluster files for `ray up`: Ray's own check takes them, what costs money is never guessed, secrets stay away."""

import os
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from ssrnn_dist.config import RunConfig, check_config
from ssrnn_dist.problems import UserError
from ssrnn_launch.targets import machines, schemas, written
from tests.helpers.launching import REPOSITORY, ssrnn, tiny, write_config

NODES = {
    "instance_type": "gpu-machine", "head_instance_type": "small", "machine_image": "image-1", "region": "r-1",
    "zone": "r-1-a", "project": "p", "workers_each": 4,
}  # fmt: skip
PROVIDERS = get_args(machines.Provider)


def config(**changes: Any) -> RunConfig:
    given = {"run_root": "gs://bucket/runs", "scale__workers": [4, 8], "cluster__nodes": NODES, **changes}
    return check_config(tiny(Path("/shared/corpus"), **given))


def made(provider: machines.Provider, **changes: Any) -> dict[str, Any]:
    cluster = machines.cluster_file(config(**changes), provider, ["torch==2.13.0"])
    schemas.check_cluster_file(cluster)
    return cluster


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("image", [None, "registry/ssrnn:1"])
def test_rays_own_check_takes_it(provider: machines.Provider, image: str | None) -> None:
    cluster = made(
        provider,
        cluster__image=image,
        cluster__secrets={"HF_TOKEN": "hub"},
        cluster__service_account="trainer",
        cluster__volumes={"/shared": "nfs:/export"},
        scale__gpus_per_worker=1,
        scale__accelerator_type="H100",
        cluster__nodes={**NODES, "spot": True},
    )
    worker = cluster["available_node_types"]["worker"]
    assert (worker["min_workers"], worker["max_workers"], cluster["max_workers"]) == (1, 2, 2)
    assert worker["resources"] | {"GPU": 4, "accelerator_type:H100": 1} == worker["resources"]
    assert ("docker" in cluster) == (image is not None)
    assert any("torch==2.13.0" in each for each in cluster["setup_commands"]) == (image is None)


def test_ray_refuses_what_it_does_not_know() -> None:
    cluster = made("aws")
    for wrong in ({"max_workres": 2}, {"max_workers": 0}, {"head_node_type": "nobody"}):
        with pytest.raises(UserError, match="cluster file"):
            schemas.check_cluster_file({**cluster, **wrong})


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_workers_are_on_spot_and_only_if_wished(provider: machines.Provider) -> None:
    for spot in (False, True):
        kinds = made(provider, cluster__nodes={**NODES, "spot": spot})["available_node_types"]
        assert ("spot" in str(kinds["worker"]["node_config"]).lower()) == spot
        assert "spot" not in str(kinds["head"]).lower()
        assert kinds["head"]["resources"]["CPU"] == 0


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nodes_carry_the_labels_that_prices_go_by(provider: machines.Provider) -> None:
    for spot, market in ((False, "on-demand"), (True, "spot")):
        kinds = made(provider, cluster__nodes={**NODES, "spot": spot})["available_node_types"]
        worker, head = kinds["worker"]["labels"], kinds["head"]["labels"]
        assert worker == {"node.kubernetes.io/instance-type": "gpu-machine", "ray.io/market-type": market}
        assert head == {"node.kubernetes.io/instance-type": "small", "ray.io/market-type": "on-demand"}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nothing_that_costs_money_is_guessed(provider: machines.Provider) -> None:
    with pytest.raises(UserError) as caught:
        machines.cluster_file(config(cluster__nodes={}), provider, [])
    wanted = [f"cluster.nodes.{name}" for name in machines.WANTED[provider]]
    assert [problem.where for problem in caught.value.problems] == wanted


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_token_stays_on_and_the_dashboard_on_loopback(provider: machines.Provider) -> None:
    cluster = made(provider)
    starts = [cluster[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]
    assert all("export RAY_AUTH_MODE=token;" in each for each in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in str(cluster)
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def shell(commands: list[str], folder: Path, secret_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a node's commands with an `aws` and a `ray` that say what they were given."""
    stands = {
        "aws": f"echo value-of-$6; exit {secret_code}",
        "ray": 'echo "ray $1 $HF_TOKEN $RAY_AUTH_MODE"',
        "sudo": "exit 3",
    }
    for name, script in stands.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(folder)}
    script = "\n".join(f"{{ {command}\n}} || exit 1" for command in commands)
    words = ["/bin/bash", "-c", script]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=30)


def test_a_node_reads_its_secrets_by_name_and_does_not_start_without_them(tmp_path: Path) -> None:
    secrets = {"cluster__secrets": {"HF_TOKEN": "hub"}, "cluster__service_account": "trainer"}
    cluster = made("aws", **secrets)
    ended = shell(cluster["worker_start_ray_commands"], tmp_path)
    assert ended.stdout.splitlines() == ["ray stop  ", "ray start value-of-hub token"], ended.stderr
    failed = shell(cluster["worker_start_ray_commands"], tmp_path, secret_code=1)
    assert failed.stdout.splitlines() == ["ray stop  "]
    assert failed.returncode == 1


def test_a_container_gets_its_secrets_from_a_file_of_the_nodes_user(tmp_path: Path) -> None:
    secrets = {"cluster__secrets": {"HF_TOKEN": "hub", "B": "b"}, "cluster__service_account": "trainer"}
    cluster = made("aws", cluster__image="i", **secrets)
    ended = shell(cluster["initialization_commands"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    file = tmp_path / ".ssrnn-secrets"
    assert file.read_text() == "HF_TOKEN=value-of-hub\nB=value-of-b\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "--env-file $HOME/.ssrnn-secrets" in cluster["docker"]["run_options"]
    assert shell(cluster["initialization_commands"], tmp_path, secret_code=1).returncode == 1


def test_secrets_without_an_account_that_may_read_them_are_refused() -> None:
    with pytest.raises(UserError, match=r"cluster\.service_account: null with cluster\.secrets"):
        machines.cluster_file(config(cluster__secrets={"HF_TOKEN": "hub"}), "gcp", [])


def test_names_are_quoted_for_the_shell() -> None:
    command = machines.secret_command(config(), "aws", "a b; rm -rf /")
    assert "--secret-id 'a b; rm -rf /'" in command


@pytest.mark.parametrize("name", ["kuberay", "aws", "gcp"])
def test_the_example_sections_make_what_they_are_for(name: str) -> None:
    example = yaml.safe_load((REPOSITORY / f"launch/clusters/{name}.yaml").read_text())
    of = check_config(tiny(Path("unset"), train__tokens_per_batch=131072, train__sequence_length=1024) | example)
    assert of.scale.gpus_per_worker == 1
    if name == "kuberay":
        assert written.for_kuberay(of, None, "").text
    else:
        assert written.for_machines(of, name).text  # type: ignore[arg-type]


def test_the_command_writes_the_file_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = write_config(tmp_path, tiny(Path("/shared/c"), run_root="s3://b/runs", cluster__nodes=NODES))
    ended = ssrnn("submit", path, "--to", "gcp", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert yaml.safe_load((tmp_path / "tiny-gcp.yaml").read_text())["provider"]["project_id"] == "p"
    for command in ("ray up tiny-gcp.yaml", "ray dashboard tiny-gcp.yaml", f"ssrnn submit {path} --follow"):
        assert command in ended.stderr
    for words in (["--follow"], ["--fresh"], ["--crd", "x"]):
        refused = ssrnn("submit", path, "--to", "gcp", "--dry-run", *words, cwd=tmp_path)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
