"""Whether the network and the GPUs will do: connections, bandwidth, idle and healthy GPUs. Pure decisions.

Imports the facts and the checks only."""

import random
import statistics
from collections.abc import Mapping, Sequence

from ssrnn_launch.doctor.checks import Check, fail, failures, grouped, listed, ok, warn
from ssrnn_launch.doctor.facts import Link, Need, NodeFacts

RANDOM_PAIRS = 8
SLOW_FRACTION = 0.5
BUSY_MEGABYTES = 1000.0  # a display or a monitor takes less
SLOWED_BITS = 0x8 | 0x20 | 0x40 | 0x80  # hardware slowdown, software and hardware heat, power brake
SLOW_STEP_SECONDS = 5.0


def ring(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each node to the next; none where there is only one."""
    return [(name, names[(at + 1) % len(names)]) for at, name in enumerate(names)] if len(names) > 1 else []


def more_pairs(names: Sequence[str], seed: int = 0) -> list[tuple[str, str]]:
    """A few other pairs: a ring may follow a cluster's racks, and miss the way across."""
    draw, known = random.Random(seed), set(ring(names))
    drawn = [(draw.choice(names), draw.choice(names)) for _ in range(4 * RANDOM_PAIRS)]
    fresh = dict.fromkeys(pair for pair in drawn if pair[0] != pair[1] and pair not in known)
    return list(fresh)[:RANDOM_PAIRS]


def judge_interface(facts: Mapping[str, NodeFacts], interface: str | None) -> list[Check]:
    """cluster.network.interface on each node."""
    if interface is None:
        return []
    errors = {
        node: None
        if found.interfaces.get(interface)
        else f"no {interface} with an IPv4 address (it has: {_names(found)})"
        for node, found in facts.items()
    }
    return failures("interface", errors, "cluster.network.interface: a name that every node has, or null") or [
        ok("interface", f"{interface} on every node")
    ]


def _names(found: NodeFacts) -> str:
    return ", ".join(sorted(name for name, addresses in found.interfaces.items() if addresses)) or "none"


def judge_links(links: Sequence[Link]) -> list[Check]:
    """Connections between nodes, and the slowest of them against the others."""
    if not links:
        return [ok("connections", "one node: none are needed")]
    broken = [link for link in links if link.error is not None]
    if broken:
        remedy = "open all TCP ports between the nodes (security group, firewall, NetworkPolicy)"
        checks = [
            fail("connections", f"{source} can't reach {listed(targets)} ({error})", remedy)
            for (source, error), targets in _by_source(broken).items()
        ]
        return checks
    checks = [ok("connections", f"{len(links)} pairs of nodes reach each other on any port")]
    rates = {f"{link.source} → {link.target}": link.bytes_per_second for link in links if link.bytes_per_second}
    if not rates:
        return checks
    middle = statistics.median(rate for rate in rates.values() if rate)
    slow = [pair for pair, rate in rates.items() if rate and rate < SLOW_FRACTION * middle]
    detail = f"{middle / 1e9:.2f} GB/s by TCP in the middle, {min(filter(None, rates.values())) / 1e9:.2f} the slowest"
    if slow:
        return [*checks, warn("bandwidth", f"{detail}: {listed(slow)}", "every step waits for the slowest: look there")]
    return [*checks, ok("bandwidth", detail)]


def _by_source(broken: Sequence[Link]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for link in broken:
        found.setdefault((link.source, str(link.error)), []).append(link.target)
    return found


def judge_all_reduce(backend: str, rate: float | str, need: Need, workers: int) -> Check:
    """rate: bytes per second between two workers, or why there is none."""
    if isinstance(rate, str):
        remedy = "cluster.network (interface, env: NCCL_DEBUG=INFO tells more); free GPUs and places"
        return fail("all-reduce", f"{backend}: {rate}", remedy)
    seconds = 2 * (workers - 1) / workers * need.gradient_bytes / rate
    detail = f"{backend}: {rate / 1e9:.2f} GB/s between two workers"
    if need.gradient_bytes >= 1e6:
        detail += f": {need.gradient_bytes / 1e6:,.0f} MB of gradients take {seconds:.2g} s a step"
    if seconds > SLOW_STEP_SECONDS:
        return warn("all-reduce", detail, "a faster network (cluster.network), or larger batches")
    return ok("all-reduce", detail)


def judge_gpus(facts: Mapping[str, NodeFacts], ray_gpus: Mapping[str, float]) -> list[Check]:
    """GPUs that are there, idle, whole and not slowed down. ray_gpus: how many Ray would give away, by node."""
    checks = failures("GPUs", {node: found.gpu_error for node, found in facts.items()}, "install NVIDIA's driver there")
    seen = {node: found for node, found in facts.items() if found.gpu_error is None}
    fewer = {
        node: f"Ray gives {ray_gpus[node]:g} GPUs away, nvidia-smi sees {len(found.gpus)}"
        for node, found in seen.items()
        if len(found.gpus) < ray_gpus[node]
    }
    checks += failures("GPUs", fewer, "a GPU fell off the bus (dmesg), or `ray start --num-gpus` is wrong")
    busy, broken, slowed = [], [], []
    for node, found in seen.items():
        for gpu in found.gpus:
            name = f"{node}/{gpu['index']}"
            busy += [name] if gpu["processes"] or _number(gpu["memory.used"]) > BUSY_MEGABYTES else []
            broken += [name] if _number(gpu["ecc.errors.uncorrected.volatile.total"]) else []
            slowed += [name] if int(_number(gpu["slowed"])) & SLOWED_BITS else []
    if broken:
        checks.append(
            fail("GPU memory", f"uncorrected ECC errors on {listed(broken)}", "drain and reset, or replace it")
        )
    if busy:
        checks.append(warn("GPUs", f"in use by others: {listed(busy)}", "end those processes (nvidia-smi shows them)"))
    if slowed:
        checks.append(
            warn("GPU clocks", f"slowed by heat or power: {listed(slowed)}", "look at cooling and power caps")
        )
    kinds = grouped(
        {node: (found.gpus[0]["name"], found.gpus[0]["driver_version"]) for node, found in seen.items() if found.gpus}
    )
    if len(kinds) > 1:
        told = ", ".join(f"{' '.join(kind)} on {listed(nodes)}" for kind, nodes in kinds.items())
        checks.append(warn("GPU types", told, "scale.accelerator_type picks one; the slowest sets the pace"))
    return checks or [ok("GPUs", f"{sum(len(found.gpus) for found in seen.values())} there, idle and healthy")]


def _number(text: object) -> float:
    """nvidia-smi's number, 0 for [N/A]."""
    try:
        return float(int(str(text), 0)) if str(text).startswith("0x") else float(str(text))
    except ValueError:
        return 0.0
