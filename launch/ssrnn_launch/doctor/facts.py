"""What the probes found out, as the judges read it. Plain data; imports the standard library only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """A node as Ray has it.

    cpus, gpus: what Ray may give away.  accelerators: Ray's names of its GPUs."""

    id: str
    name: str
    address: str
    cpus: float
    gpus: float = 0.0
    accelerators: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NodeFacts:
    """What a node has. Sizes in bytes, None where they can't be read.

    versions: by package, None where it is missing.  code: a hash of our packages.  free_bytes: of disks, by what for.
    interfaces: IPv4 addresses by name.  gpus: nvidia-smi's words, with processes (pids) and slowed (a bit mask)."""

    versions: Mapping[str, str | None]
    code: str | None
    cores: int
    memory_free_bytes: float
    shm_bytes: int | None
    open_files: int
    free_bytes: Mapping[str, int | None]
    interfaces: Mapping[str, Sequence[str]]
    missing_secrets: Sequence[str] = ()
    gpus: Sequence[Mapping[str, Any]] = field(default_factory=list)
    gpu_error: str | None = None


@dataclass(frozen=True)
class Offset:
    """How far a node's clock is ahead of the driver's, known to within the error."""

    seconds: float
    error_seconds: float


@dataclass(frozen=True)
class Link:
    """A TCP connection that one node tried to another. bytes_per_second: None where it was not measured."""

    source: str
    target: str
    error: str | None = None
    bytes_per_second: float | None = None


@dataclass(frozen=True)
class Need:
    """What the run takes, as far as it is known before it runs.

    checkpoint_bytes: one checkpoint.  gradient_bytes: what a step reduces over the workers."""

    checkpoint_bytes: int
    checkpoints: int
    gradient_bytes: int


def offset_of(sent: float, there: float, received: float) -> Offset:
    """From the driver's clock before and after a node told its own: half of the round trip is the error.

    All in seconds."""
    half = (received - sent) / 2
    return Offset(there - (sent + half), half)
