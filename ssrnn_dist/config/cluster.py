"""The section of a run that says where it runs: the Ray cluster, its nodes, their network and their notices.

Each field is read somewhere; its unit is in its name; imports pydantic only."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ssrnn_dist.config.base import NonNegativeInt, PositiveInt, Section


def _is_a_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("the name of an environment variable is wanted")
    return name


Variable = Annotated[str, AfterValidator(_is_a_variable)]


class NetworkSection(Section):
    """How workers talk to each other."""

    interface: str | None = Field(
        None, min_length=1, description="network interface of NCCL and gloo; null: the node's"
    )
    env: dict[Variable, str] = Field({}, description="NCCL's and the network's variables, such as NCCL_IB_HCA: mlx5")
    collective_timeout_seconds: PositiveInt = Field(300, description="after which a collective gives up")


class NoticeSection(Section):
    """How a node tells that it will be taken away. SIGTERM and Ray's own drain are always listened to."""

    file: str | None = Field(None, min_length=1, description="a path on the node; once it exists the node will go")
    metadata: Literal["none", "aws", "gcp"] = Field("none", description="ask the cloud's metadata service on the node")
    every_seconds: float = Field(2.0, gt=0, le=60, description="how often both are looked at")


class NodesSection(Section):
    """The nodes of a cluster that `submit --to kuberay|aws|gcp` asks for."""

    instance_type: str | None = Field(None, min_length=1, description="of AWS or GCP; null: an example, to be changed")
    head_instance_type: str | None = Field(None, min_length=1, description="null: a small one without GPUs")
    region: str | None = Field(None, min_length=1)
    zone: str | None = Field(None, min_length=1)
    workers_each: PositiveInt = Field(1, description="workers that a node holds: its GPUs, where a worker has one")
    cpus: PositiveInt | None = Field(None, description="of a node; null: what its workers ask for")
    memory_gb: float | None = Field(None, gt=0, description="of a pod; null: 4 for each of its workers and 4 more")
    disk_gb: PositiveInt = Field(200, description="of a node's root disk")
    spot: bool = Field(False, description="nodes that may be taken away, at a lower price")


class ClusterSection(Section):
    """Which Ray cluster, and what its nodes bring along; a local one where nothing is given."""

    address: str | None = Field(None, description="Ray address to train on; null: start Ray here, on loopback")
    image: str | None = Field(None, min_length=1, description="container image with the dependencies (KubeRay, VMs)")
    pip: list[str] = Field([], description="packages that Ray installs for the job; an image is quicker")
    env: dict[Variable, str] = Field({}, description="environment of every worker; no secrets")
    secrets: dict[Variable, str] = Field(
        {}, description="variable: the name of a secret (KubeRay: secret/key), never its value"
    )
    namespace: str = Field("default", min_length=1, description="of Kubernetes")
    service_account: str | None = Field(None, min_length=1, description="of Kubernetes; null: the namespace's default")
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
