"""Whether storage will do: run_root shared and writable, the corpora readable and the same. Pure decisions.

Imports the checks only."""

from collections.abc import Mapping, Sequence
from typing import Any

from ssrnn_launch.doctor.checks import Check, fail, failures, listed, nodes_, ok


def judge_shared(
    run_root: str, written: Mapping[str, str | None], missing: Mapping[str, Sequence[str] | str]
) -> list[Check]:
    """written: by node, why it could not write its file.  missing: by node, whose files it can't see, or why."""
    remedy = "a run_root that every node can write: a mounted file system, or an fsspec URL (s3://…, gs://…)"
    unwritable = failures(
        "run_root", {node: error and f"not writable ({error})" for node, error in written.items()}, remedy
    )
    if unwritable:
        return unwritable
    unreadable = {node: f"not readable ({found})" for node, found in missing.items() if isinstance(found, str)}
    blind = {node: found for node, found in missing.items() if not isinstance(found, str) and found}
    checks = failures("run_root", unreadable, remedy)
    if blind:
        checks.append(fail("run_root", f"{run_root} is not shared: {_who_is_blind(blind, set(written))}", remedy))
    return checks or [ok("run_root", f"{run_root}: written, read, listed and deleted on {nodes_(len(written))}")]


def _who_is_blind(blind: Mapping[str, Sequence[str]], writers: set[str]) -> str:
    """A node that alone lacks the mount misses all others' files; each of the others misses its one only."""
    alone = [node for node, unseen in blind.items() if set(unseen) == writers - {node}]
    if len(alone) == 1:
        return f"{alone[0]} can't see what {listed(blind[alone[0]])} wrote"
    if alone:
        return f"{listed(alone)} can't see each other's files"
    return f"{listed(blind)} can't see all that the others wrote"


def judge_indexes(here: Mapping[str, Any], states: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Check]:
    """The corpora as each node sees them. here: SHA-256 by index.  states: by index, then by node (index_state)."""
    checks = []
    for index, nodes in states.items():
        wrong = {node: _wrong(state, here[index]) for node, state in nodes.items()}
        remedy = "a corpus that every node can read: on shared storage, or behind a URL"
        checks += failures(f"corpus {index}", wrong, remedy) or [
            ok(f"corpus {index}", f"the same on {nodes_(len(nodes))} and here")
        ]
    return checks


def _wrong(state: Mapping[str, Any], sha256: str) -> str | None:
    if state["error"] is not None:
        return f"not readable ({state['error']})"
    if state["sha256"] != sha256:
        return "another corpus than here (its index.json differs)"
    return f"{state['odd_shards']} shards are missing or cut" if state["odd_shards"] else None


def judge_offload(folder: str, errors: Mapping[str, str | None]) -> list[Check]:
    """scale.offload_folder on each node."""
    remedy = "a writable folder on a fast disk of each node"
    return failures("offload_folder", errors, remedy) or [ok("offload_folder", f"{folder}: writable on every node")]


def judge_mlflow(uri: str, errors: Mapping[str, str | None]) -> list[Check]:
    """The server as each node reaches it; rank 0 may be on any of them."""
    remedy = "tracking.uri, its server, and MLFLOW_TRACKING_USERNAME/PASSWORD or TOKEN in the nodes' environment"
    return failures("mlflow", errors, remedy) or [ok("mlflow", f"{uri}: answers every node")]
