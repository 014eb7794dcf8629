"""Whether the nodes will do: room, versions, code, clocks, memory, disks, limits, secrets. Pure decisions.

Imports the config, the facts and the checks only."""

from collections.abc import Mapping, Sequence

from ssrnn_dist.config.scale import ScaleSection
from ssrnn_launch.doctor.checks import Check, fail, failures, gigabytes, grouped, listed, nodes_, ok, warn
from ssrnn_launch.doctor.facts import Need, Node, NodeFacts, Offset
from ssrnn_launch.machine import WORKER_BYTES

CLOCK_WARN_SECONDS, CLOCK_FAIL_SECONDS = 1.0, 30.0
MUST_BE_EQUAL = ("python", "torch", "deepspeed", "ray")
MAY_BE_MISSING = {"nccl": "gpu", "triton": "gpu"}  # a worker without a GPU needs neither
LEAST_SHM_BYTES = 1 << 30
LEAST_OPEN_FILES = 4096
LEAST_DISK_BYTES = 1 << 30  # logs, MLflow's database, a report
SAME = "install the same on every node: one image, or constraints.txt"


def room_on(node: Node, scale: ScaleSection) -> int:
    """How many of the run's workers a node holds when it is empty."""
    if scale.accelerator_type is not None and scale.accelerator_type not in node.accelerators:
        return 0
    by_cpus = int(node.cpus // (scale.cpus_per_worker or 1))
    return min(by_cpus, int(node.gpus // scale.gpus_per_worker)) if scale.gpus_per_worker else by_cpus


def judge_room(nodes: Sequence[Node], scale: ScaleSection) -> Check:
    """Are there places for the fewest, for the most workers?"""
    room = {node.name: room_on(node, scale) for node in nodes}
    places, fewest, most = sum(room.values()), scale.fewest_workers, scale.most_workers
    each = f"{scale.cpus_per_worker or 1} CPU" + (f" and {scale.gpus_per_worker} GPU" if scale.gpus_per_worker else "")
    kind = f" on nodes with {scale.accelerator_type}" if scale.accelerator_type else ""
    wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
    detail = f"{places} places of {each}{kind} on {nodes_(len(nodes))}, {wanted} workers"
    if places < fewest:
        found = sorted({name for node in nodes for name in node.accelerators})
        types = f" (this cluster has: {', '.join(found) or 'no GPUs that Ray knows'})" if kind else ""
        return fail("room", detail + types, "add nodes (an autoscaler's must be up), or lower scale.workers")
    if places < most:
        return warn("room", detail, f"the run starts with {places} and grows as nodes come")
    return ok("room", detail)


def judge_lost(dead: Sequence[str], silent: Mapping[str, str]) -> list[Check]:
    """A line for each node that does not answer. silent: by name, why."""
    lines = [
        fail(f"node {name}", why, "look at its raylet's log, or take it out of the cluster")
        for name, why in sorted(silent.items())
    ]
    if dead:
        lines.append(warn("nodes", f"{len(dead)} have left the cluster ({listed(dead)})", "fine, if you know of it"))
    return lines


def judge_versions(facts: Mapping[str, NodeFacts], here: NodeFacts, uses_gpu: bool) -> list[Check]:
    """Every package the same on all nodes as here; a line for each that is not."""
    checks = []
    for name, own in here.versions.items():
        if MAY_BE_MISSING.get(name) == "gpu" and not uses_gpu:
            continue
        there = {node: found.versions.get(name) for node, found in facts.items()}
        missing = [node for node, version in there.items() if version is None and name != "nccl"]
        odd = {node: version for node, version in there.items() if version != own}
        if not odd and not missing:
            continue
        detail = f"{_words(own)} here, " + ", ".join(
            f"{_words(version)} on {listed(nodes)}" for version, nodes in grouped(odd or there).items()
        )
        is_grave = missing or name in MUST_BE_EQUAL
        checks.append((fail if is_grave else warn)(f"version of {name}", detail, SAME))
    if checks:
        return checks
    told = ", ".join(f"{name} {here.versions[name]}" for name in MUST_BE_EQUAL)
    return [ok("versions", f"{told}: the same on {nodes_(len(facts))} and here")]


def _words(version: object) -> str:
    return "none" if version is None else str(version)


def judge_code(facts: Mapping[str, NodeFacts], here: NodeFacts) -> Check:
    """Our own packages the same everywhere."""
    odd = {node: found.code for node, found in facts.items() if found.code != here.code}
    if not odd:
        return ok("code", f"{here.code} on {nodes_(len(facts))} and here")
    there = ", ".join(f"{code or 'none'} on {listed(nodes)}" for code, nodes in grouped(odd).items())
    remedy = "`ssrnn submit` (or --address http://HEAD:8265) sends this code along; or install its wheel on every node"
    return fail("code", f"{here.code} here, {there}", remedy)


def judge_clocks(offsets: Mapping[str, Offset]) -> Check:
    """Clocks against the driver's, each by what is certain of its offset."""
    certain = {name: max(0.0, abs(each.seconds) - each.error_seconds) for name, each in offsets.items()}
    worst = max(certain, key=lambda name: certain[name], default=None)
    if worst is None:
        return fail("clocks", "no node told its time", "see the nodes that do not answer")
    if certain[worst] <= CLOCK_WARN_SECONDS:
        largest = max(abs(each.seconds) + each.error_seconds for each in offsets.values())
        return ok("clocks", f"within {largest:.3f} s of this one")
    bad = [name for name, seconds in certain.items() if seconds > CLOCK_WARN_SECONDS]
    detail = f"{listed(bad)}: up to {offsets[worst].seconds:+.1f} s from this one"
    judged = fail if certain[worst] > CLOCK_FAIL_SECONDS else warn
    return judged("clocks", detail, "set them by NTP (chrony): books and tokens that expire go by them")


def judge_memory(facts: Mapping[str, NodeFacts], workers: Mapping[str, int]) -> list[Check]:
    """Free memory and /dev/shm. workers: how many a node would hold."""
    short = {
        node: f"{gigabytes(found.memory_free_bytes)} free for {workers[node]} workers"
        for node, found in facts.items()
        if found.memory_free_bytes < workers[node] * WORKER_BYTES
    }
    remedy = f"even a small worker takes {gigabytes(WORKER_BYTES)}; end what else runs there, or fewer workers a node"
    checks = [warn("memory", f"{listed(nodes)}: {said}", remedy) for said, nodes in grouped(short).items()]
    if not checks:
        least = min(found.memory_free_bytes for found in facts.values())
        checks.append(ok("memory", f"at least {gigabytes(least)} free on each node"))
    small = {
        node: f"{gigabytes(found.shm_bytes or 0)}"
        for node, found in facts.items()
        if found.shm_bytes is not None and found.shm_bytes < LEAST_SHM_BYTES
    }
    advice = "Ray and NCCL want more: docker --shm-size=8g, in Kubernetes an emptyDir of medium Memory"
    checks += [warn("/dev/shm", f"{listed(nodes)}: {said}", advice) for said, nodes in grouped(small).items()]
    return checks


def judge_limits(facts: Mapping[str, NodeFacts]) -> Check:
    """Open files."""
    low = {node: found.open_files for node, found in facts.items() if 0 <= found.open_files < LEAST_OPEN_FILES}
    if low:
        said = ", ".join(f"{files} on {listed(nodes)}" for files, nodes in grouped(low).items())
        return warn("open files", said, f"ulimit -n {LEAST_OPEN_FILES * 16} before `ray start`")
    return ok("open files", f"at least {min(found.open_files for found in facts.values()):,} on each node")


def judge_disks(facts: Mapping[str, NodeFacts], need: Need) -> list[Check]:
    """Free space where checkpoints go, and in each node's other folders. need: zeros where it is not known."""
    all_bytes = need.checkpoint_bytes * (need.checkpoints + 1)  # a new one is written before an old one goes
    checks = []
    for what in sorted({what for found in facts.values() for what in found.free_bytes}):
        free = {node: size for node, found in facts.items() if (size := found.free_bytes.get(what)) is not None}
        if not free:
            continue
        least = min(free, key=lambda node: free[node])
        holds_checkpoints = what == "run_root"
        wanted = max(LEAST_DISK_BYTES, all_bytes if holds_checkpoints else 0)
        detail = f"{gigabytes(free[least])} free on {least}, {gigabytes(wanted)} wanted"
        if holds_checkpoints and free[least] < need.checkpoint_bytes:
            checks.append(fail(f"disk of {what}", detail, "make room: not one checkpoint fits"))
        elif free[least] < wanted:
            checks.append(warn(f"disk of {what}", detail, "make room, or a smaller checkpoint.keep"))
        else:
            unknown = " (what checkpoints take is known once the corpus stands)"
            more = unknown if holds_checkpoints and not need.checkpoint_bytes else ""
            checks.append(ok(f"disk of {what}", f"at least {gigabytes(free[least])} free{more}"))
    return checks


def judge_secrets(facts: Mapping[str, NodeFacts], secrets: Sequence[str]) -> list[Check]:
    """The variables of cluster.secrets; only their names are ever looked at."""
    if not secrets:
        return []
    missing = {node: f"no {', '.join(found.missing_secrets)}" for node, found in facts.items() if found.missing_secrets}
    remedy = "put them into the node's environment before `ray start` (KubeRay: `ssrnn submit` names the secret)"
    return failures("secrets", missing, remedy) or [ok("secrets", f"{', '.join(secrets)}: there on every node")]
