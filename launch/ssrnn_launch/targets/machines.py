"""Virtual machines of AWS and GCP as a cluster file for `ray up`: a head and workers that come and go. Pure.

Ray's token stays on, the dashboard listens on the head's loopback (`ray dashboard` leads there), and secrets are
fetched by the nodes themselves from the cloud's own secret manager, by name."""

import shlex
from typing import Any, Literal

from ssrnn_dist.config import RunConfig
from ssrnn_dist.problems import Problem, UserError
from ssrnn_launch.targets.nodes import Nodes, nodes_of, price_labels, worker_labels

Provider = Literal["aws", "gcp"]
TOKEN_FILE = "~/.ray/auth_token"
SECRETS_FILE = "$HOME/.ssrnn-secrets"  # of a node with a container, which does not see the node's environment
ENVIRONMENT = "$HOME/ssrnn"  # of a node without
HEAD_NEEDS = {"aws": "boto3>=1.34", "gcp": "google-api-python-client>=2"}  # for the autoscaler
GCP_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
WANTED = {
    "aws": ("region", "instance_type", "head_instance_type", "machine_image"),
    "gcp": ("project", "region", "zone", "instance_type", "head_instance_type", "machine_image"),
}


def cluster_file(config: RunConfig, provider: Provider, packages: list[str]) -> dict[str, Any]:
    """What `ray up` reads.

    packages: what nodes without a container image install.  UserError where the config does not say what to rent."""
    check_given(config, provider)
    nodes, cluster = nodes_of(config), config.cluster
    kinds = {"head": _head(config, provider), "worker": _worker(config, provider, nodes)}
    return {
        "cluster_name": f"ssrnn-{config.name}"[:60].lower().replace("_", "-").replace(".", "-").rstrip("-"),
        "max_workers": nodes.most,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": cluster.idle_minutes,
        "provider": _provider(config, provider),
        "auth": {"ssh_user": "ubuntu"},
        **({"docker": _container(config)} if cluster.image else {}),
        "available_node_types": kinds,
        "head_node_type": "head",
        "file_mounts": {TOKEN_FILE: TOKEN_FILE},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [*_mount_commands(config), *(_secrets_file(config, provider))],
        "setup_commands": [] if cluster.image else _install_commands([*packages, *cluster.pip]),
        "head_setup_commands": [f"{_enter(config)}pip install {shlex.quote(HEAD_NEEDS[provider])}"],
        "worker_setup_commands": [],
        "head_start_ray_commands": _start(
            config,
            provider,
            "ray start --head --port=6379 --object-manager-port=8076 --autoscaling-config=~/ray_bootstrap_config.yaml"
            " --dashboard-host=127.0.0.1 --disable-usage-stats",
        ),
        "worker_start_ray_commands": _start(
            config, provider, "ray start --address=$RAY_HEAD_IP:6379 --object-manager-port=8076 --disable-usage-stats"
        ),
    }


def check_given(config: RunConfig, provider: Provider) -> None:
    """Nothing that costs money is guessed."""
    nodes = config.cluster.nodes
    problems = [
        Problem(f"cluster.nodes.{name}", "null", f"a value is wanted for --to {provider}: it is never guessed")
        for name in WANTED[provider]
        if getattr(nodes, name) is None
    ]
    if config.cluster.secrets and config.cluster.service_account is None:
        allowed = "the account of nodes that may read the secrets is wanted (AWS: an instance profile; GCP: an e-mail)"
        problems.append(Problem("cluster.service_account", "null with cluster.secrets", allowed))
    if problems:
        raise UserError(*problems)


def _provider(config: RunConfig, provider: Provider) -> dict[str, Any]:
    nodes = config.cluster.nodes
    made: dict[str, Any] = {"type": provider, "region": nodes.region}
    if nodes.zone is not None:
        made["availability_zone"] = nodes.zone
    return {**made, **({"project_id": nodes.project} if provider == "gcp" else {"cache_stopped_nodes": False})}


def _container(config: RunConfig) -> dict[str, Any]:
    secrets = [f"--env-file {SECRETS_FILE}"] if config.cluster.secrets else []
    volumes = [f"-v {shlex.quote(f'{folder}:{folder}')}" for folder in config.cluster.volumes]
    options = ["--ulimit nofile=65536:65536", *volumes, *secrets]
    return {
        "image": config.cluster.image,
        "container_name": "ssrnn",
        "pull_before_run": True,
        "run_options": options,
    }


def _head(config: RunConfig, provider: Provider) -> dict[str, Any]:
    """The driver's place, where no worker runs; never on spot."""
    kind = config.cluster.nodes.head_instance_type
    return {
        "resources": {"CPU": 0, "GPU": 0},
        "labels": price_labels(kind, spot=False),
        "node_config": _node(config, provider, kind, spot=False, gpus=0),
    }


def _worker(config: RunConfig, provider: Provider, nodes: Nodes) -> dict[str, Any]:
    given = config.cluster.nodes
    cpus = {"CPU": nodes.cpus} if provider == "gcp" or given.cpus else {}  # of AWS's types Ray knows them
    gpus = {"GPU": nodes.gpus} if nodes.gpus else {}
    return {
        "min_workers": nodes.fewest,
        "max_workers": nodes.most,
        "resources": {**cpus, **gpus, **nodes.resources},
        "labels": worker_labels(config),
        "node_config": _node(config, provider, given.instance_type, given.spot, nodes.gpus),
    }


def _node(config: RunConfig, provider: Provider, kind: str | None, spot: bool, gpus: int) -> dict[str, Any]:
    """A node as its cloud's own API takes it."""
    nodes, account = config.cluster.nodes, config.cluster.service_account
    if provider == "aws":
        disk = {"VolumeSize": nodes.disk_gb, "VolumeType": "gp3"}
        return {
            "InstanceType": kind,
            "ImageId": nodes.machine_image,
            "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
            **({"IamInstanceProfile": {"Name": account}} if account else {}),
            **({"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}),
        }
    disk = {"diskSizeGb": nodes.disk_gb, "sourceImage": nodes.machine_image}
    scheduling: dict[str, Any] = {"onHostMaintenance": "TERMINATE"} if gpus or spot else {}
    if spot:
        scheduling |= {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE", "automaticRestart": False}
    return {
        "machineType": kind,
        "disks": [{"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": disk}],
        **({"scheduling": scheduling} if scheduling else {}),
        **({"serviceAccounts": [{"email": account, "scopes": [GCP_SCOPE]}]} if account else {}),
    }


def _mount_commands(config: RunConfig) -> list[str]:
    """On the node itself, before any container: its NFS folders."""
    if not config.cluster.volumes:
        return []
    mounts = [
        f"sudo mkdir -p {shlex.quote(folder)} && (mountpoint -q {shlex.quote(folder)} || "
        f"sudo mount -t nfs4 {shlex.quote(source)} {shlex.quote(folder)})"
        for folder, source in config.cluster.volumes.items()
    ]
    return ["command -v mount.nfs4 || (sudo apt-get update && sudo apt-get install -y nfs-common)", *mounts]


def secret_command(config: RunConfig, provider: Provider, name: str) -> str:
    """The command by which a node reads a secret's value."""
    if provider == "gcp":
        project = shlex.quote(config.cluster.nodes.project or "")
        return f"gcloud secrets versions access latest --project={project} --secret={shlex.quote(name)}"
    region = shlex.quote(config.cluster.nodes.region or "")
    return (
        f"aws secretsmanager get-secret-value --region {region} --secret-id {shlex.quote(name)}"
        " --query SecretString --output text"
    )


def _secrets_file(config: RunConfig, provider: Provider) -> list[str]:
    """For a container: a file that only the node's user can read."""
    secrets = config.cluster.secrets
    if not (secrets and config.cluster.image):
        return []
    write = " && ".join(
        f'value="$({secret_command(config, provider, name)})" && printf \'{variable}=%s\\n\' "$value" >> {SECRETS_FILE}'
        for variable, name in secrets.items()
    )
    return [f"umask 077 && : > {SECRETS_FILE} && {write}"]


def _install_commands(packages: list[str]) -> list[str]:
    """An environment of its own for what the wheel needs, with the node's own Python (3.11 or newer)."""
    return [
        f"test -x {ENVIRONMENT}/bin/python || python3 -m venv {ENVIRONMENT}",
        f"{ENVIRONMENT}/bin/pip install {' '.join(map(shlex.quote, packages))}",
        f"grep -qs ssrnn/bin ~/.bashrc || echo 'export PATH={ENVIRONMENT}/bin:$PATH' >> ~/.bashrc",
    ]


def _enter(config: RunConfig) -> str:
    return "" if config.cluster.image else f"export PATH={ENVIRONMENT}/bin:$PATH; "


def _start(config: RunConfig, provider: Provider, command: str) -> list[str]:
    """Ray's start, its token on, secrets in its environment; a secret that can't be read stops it."""
    secrets = (
        ""
        if config.cluster.image
        else "".join(
            f'{variable}="$({secret_command(config, provider, name)})" && export {variable} && '
            for variable, name in config.cluster.secrets.items()
        )
    )
    enter = _enter(config)
    return [f"{enter}ray stop", f"{enter}export RAY_AUTH_MODE=token; ulimit -n 65536; {secrets}{command}"]
