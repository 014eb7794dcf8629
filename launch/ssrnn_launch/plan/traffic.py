"""What workers send each other in a step, by ZeRO stage, and how long rings take for it: pure.

As DeepSpeed 0.19.8 does it with our settings (its calls were counted). Imports workload.py and devices.py."""

from dataclasses import dataclass
from typing import Literal

from ssrnn_dist.engine import REDUCE_BUCKET_NUMBERS
from ssrnn_launch.plan.devices import Gpu
from ssrnn_launch.plan.memory import LIVE_NUMBERS, Split
from ssrnn_launch.plan.workload import Workload

Kind = Literal["all_reduce", "all_gather", "reduce_scatter"]
SMALL_SUMS = 3  # a step's: is the gradient finite, its norm, does anybody stop
# The latency of one hop of a ring by NCCL's own cost model (src/graph/tuning.cc, ring, Simple), and of a call.
NVLINK_SECONDS, PCI_SECONDS, NETWORK_SECONDS, CALL_SECONDS = 3.4e-6, 5.7e-6, 14.0e-6, 8.4e-6


@dataclass(frozen=True)
class Collective:
    """So many calls of one kind a step, on tensors of so many bytes (whole) each, among so many ranks."""

    kind: Kind
    calls: int
    bytes_each: float
    ranks: int

    @property
    def sent_bytes(self) -> float:
        """By each rank in a step, over a ring."""
        passes = 2 if self.kind == "all_reduce" else 1
        return self.calls * passes * (self.ranks - 1) / self.ranks * self.bytes_each


@dataclass(frozen=True)
class Rate:
    """Of one kind of collective over a ring: a hop's latency, a call's, and bytes a second of each rank."""

    bytes_per_second: float
    hop_seconds: float
    call_seconds: float = 0.0


@dataclass(frozen=True)
class Network:
    """How workers are joined. between: nodes; None: not known.  overlaps: does ZeRO 3 send while it computes?"""

    within: dict[Kind, Rate]
    between: dict[Kind, Rate] | None
    workers_a_node: int
    overlaps: bool
    source: str


def collectives_of(work: Workload, split: Split) -> list[Collective]:
    """A step's collectives; none of one worker."""
    n, number, micro = split.workers, work.number_bytes, work.micro_batches(split.workers)
    if n == 1:
        return []
    buckets = -(-work.parameters // REDUCE_BUCKET_NUMBERS)
    a_bucket = number * work.parameters / buckets
    small = Collective("all_reduce", SMALL_SUMS, 8, n)
    if split.zero_stage < 3:
        times = 1 if split.zero_stage == 1 else micro  # ZeRO 2 reduces after each micro-batch
        reduce = Collective("all_reduce", times * buckets, a_bucket, n)
        return [reduce, Collective("all_gather", 2, number * work.parameters / 2, n), small]  # two groups of weights
    scatter = Collective("reduce_scatter", micro * buckets, a_bucket, n)
    small_whole = Collective("all_gather", work.small_tensors, number * work.small_parameters / work.small_tensors, n)
    return [scatter, *_gathers(work, split, micro), small_whole, small]


def _gathers(work: Workload, split: Split, micro: int) -> list[Collective]:
    """ZeRO 3 gathers weights for each micro-batch, and again for its backward what is too much to keep.

    hpZ gathers over all ranks once a step, then among neighbours that hold a copy together."""
    large = work.number_bytes * (work.parameters - work.small_parameters)
    if not large:
        return []
    passes = micro * (1 if work.parameters <= LIVE_NUMBERS else 2)
    if split.partition_ranks is None:
        return [Collective("all_gather", 2 * passes, large / 2, split.workers)]
    first = Collective("all_gather", 2, large / 2, split.workers)
    return [first, Collective("all_gather", 2 * (passes - 1), large / 2, split.partition_ranks)]


def seconds_of(collective: Collective, network: Network) -> float | None:
    """How long a step's calls take by themselves; None: over nodes whose network is not known."""
    n = collective.ranks
    if n == 1 or collective.calls == 0:
        return 0.0
    passes = 2 if collective.kind == "all_reduce" else 1
    rate, nodes = network.within[collective.kind], -(-n // network.workers_a_node)
    hops, slowest, hop_seconds = (n - 1), rate.bytes_per_second, 0.0
    if nodes > 1:
        if network.between is None:
            return None
        across = network.between[collective.kind]
        slowest = min(slowest, across.bytes_per_second)
        hop_seconds = passes * (nodes - 1) * across.hop_seconds
        hops = min(n, network.workers_a_node) - 1  # a ring within each node, and one over nodes
    each = rate.call_seconds + passes * hops * rate.hop_seconds + hop_seconds
    return collective.calls * each + collective.sent_bytes / slowest


def communication_seconds(work: Workload, split: Split, network: Network) -> float | None:
    """A step's collectives one after another; None where a network is not known."""
    times = [seconds_of(each, network) for each in collectives_of(work, split)]
    known = [each for each in times if each is not None]
    return sum(known) if len(known) == len(times) else None


def exposed_seconds(sends: float, computes: float, split: Split, network: Network) -> float:
    """What communication adds to a step. DeepSpeed overlaps ZeRO 3's on GPUs: there, what computing does not hide."""
    return max(0.0, sends - computes) if network.overlaps and split.zero_stage == 3 else sends


def sheet_network(gpu: Gpu, workers_a_node: int, node_gigabits: float | None) -> Network:
    """A node's GPUs on NVLink or PCI, nodes on a network; each rank's ring uses the adapters of all of its node.

    node_gigabits: of a whole node; None: the maker's own machine has 8 GPUs' adapters."""
    hop = NVLINK_SECONDS if gpu.over_nvlink else PCI_SECONDS
    within = Rate(gpu.peer_gb_per_second * 1e9, hop, CALL_SECONDS)
    per_gpu = gpu.node_gigabits
    gigabits = node_gigabits or (None if per_gpu is None else per_gpu * workers_a_node)
    across = None if gigabits is None else Rate(gigabits / 8 * 1e9, NETWORK_SECONDS)
    return Network(_for_all(within), None if across is None else _for_all(across), workers_a_node, True, gpu.source)


def _for_all(rate: Rate) -> dict[Kind, Rate]:
    return {"all_reduce": rate, "all_gather": rate, "reduce_scatter": rate}
