"""The section of a run that says where it runs: the Ray cluster, its nodes, their network and their notices.

Each field is read somewhere; its unit is in its name; imports pydantic only."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ssrnn_dist.config.base import NonNegativeInt, PositiveInt, Section

# Of a variable's last or middle word: MLFLOW_TRACKING_PASSWORD and AWS_ACCESS_KEY_ID, but not TOKENIZERS_PARALLELISM.
_SECRET_WORD = re.compile(r"(TOKEN|SECRET|KEY|PASSWORD|PASSWD|CREDENTIAL)S?(_|$)", re.IGNORECASE)
# [REGISTRY/]NAME[:TAG][@DIGEST], as Docker and Kubernetes read it.
_IMAGE = re.compile(
    r"([\w.-]+(:\d+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:\w[\w.-]{0,127})?(@[A-Za-z0-9+._-]+:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_LOGIN_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


def _is_a_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("the name of an environment variable is wanted")
    return name


def _is_an_image(name: str) -> str:
    if not _IMAGE.fullmatch(name):
        raise ValueError(
            "a container image is wanted: [REGISTRY/]NAME[:TAG], in lower case, without spaces or a scheme"
        )
    return name


def _is_no_secret(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if _SECRET_WORD.search(name) or holds_login(value):
            raise ValueError(f"{name} looks like a secret, whose value would be sent; name it in cluster.secrets")
    return env


def holds_login(text: str) -> bool:
    """Whether a text holds a URL with a password in it."""
    return _LOGIN_IN_URL.search(text) is not None


Image = Annotated[str, AfterValidator(_is_an_image)]
Variable = Annotated[str, AfterValidator(_is_a_variable)]
PlainVariables = Annotated[dict[Variable, str], AfterValidator(_is_no_secret)]


class NetworkSection(Section):
    """How workers talk to each other."""

    interface: str | None = Field(
        None, min_length=1, description="network interface of NCCL and gloo; null: the node's"
    )
    env: PlainVariables = Field({}, description="NCCL's and the network's variables, such as NCCL_IB_HCA: mlx5")
    collective_timeout_seconds: PositiveInt = Field(300, description="after which a collective gives up")


class NoticeSection(Section):
    """How a node tells that it will be taken away. SIGTERM and Ray's own drain are always listened to."""

    file: str | None = Field(None, min_length=1, description="a path on the node; once it exists the node will go")
    metadata: Literal["none", "aws", "gcp"] = Field("none", description="ask the cloud's metadata service on the node")
    every_seconds: float = Field(2.0, gt=0, le=60, description="how often both are looked at")


class NodesSection(Section):
    """The nodes of a cluster that `submit --to kuberay|aws|gcp` asks for."""

    instance_type: str | None = Field(
        None, min_length=1, description="of the workers' nodes; wanted for aws and gcp, null on KubeRay: any"
    )
    head_instance_type: str | None = Field(
        None, min_length=1, description="of the head, which needs no GPU; wanted for aws and gcp"
    )
    machine_image: str | None = Field(
        None, min_length=1, description="AMI, or GCP's source image, with the GPU's driver; wanted for aws and gcp"
    )
    project: str | None = Field(None, min_length=1, description="of GCP; wanted there")
    region: str | None = Field(None, min_length=1, description="wanted for aws and gcp, null on KubeRay: any")
    zone: str | None = Field(None, min_length=1, description="wanted for gcp, null elsewhere: any")
    workers_each: PositiveInt = Field(1, description="workers that a node holds: its GPUs, where a worker has one")
    cpus: PositiveInt | None = Field(None, description="of a node; null: what its workers ask for")
    memory_gb: float | None = Field(None, gt=0, description="of a pod; null: 4 for each of its workers and 4 more")
    disk_gb: PositiveInt = Field(200, description="of a virtual machine's root disk")
    spot: bool = Field(False, description="workers on nodes that may be taken away, at a lower price")


class ClusterSection(Section):
    """Which Ray cluster, and what its nodes bring along; a local one where nothing is given."""

    address: str | None = Field(None, description="Ray address to train on; null: start Ray here, on loopback")
    image: Image | None = Field(
        None, description="container image with the dependencies, for `submit --to kuberay|aws|gcp`"
    )
    pip: list[str] = Field([], description="packages that Ray installs for the job; an image is quicker")
    env: PlainVariables = Field({}, description="environment of a job's driver and workers; no secrets")
    secrets: dict[Variable, str] = Field(
        {}, description="variable: a secret's name, never its value (KubeRay: secret/key; AWS, GCP: of the manager)"
    )
    volumes: dict[str, str] = Field(
        {}, description="folder: what every node has mounted there (KubeRay: a volume claim; AWS, GCP: NFS's HOST:/DIR)"
    )
    namespace: str = Field("default", min_length=1, description="of Kubernetes")
    service_account: str | None = Field(
        None, min_length=1, description="the nodes' rights: Kubernetes' or GCP's account, AWS's instance profile"
    )
    idle_minutes: NonNegativeInt = Field(5, description="after which a cluster made for the run lets idle nodes go")
    network: NetworkSection = NetworkSection()
    notice: NoticeSection = NoticeSection()
    nodes: NodesSection = NodesSection()

    @model_validator(mode="after")
    def secrets_are_not_values(self) -> "ClusterSection":
        both = sorted(self.env.keys() & self.secrets.keys())
        if both:
            raise ValueError(f"secrets: {both[0]} stands in env as well; one of them is allowed")
        return self

    @model_validator(mode="after")
    def volumes_have_folders(self) -> "ClusterSection":
        relative = sorted(folder for folder in self.volumes if not folder.startswith("/"))
        if relative:
            raise ValueError(f"volumes: {relative[0]}; absolute paths are allowed, such as /shared: my-claim")
        return self
