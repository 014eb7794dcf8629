"""The checks that need the nodes of a cluster: probes sent, what they say handed to the judges.

Imports ray (by team.py): only for use inside a command, after ray is connected."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssrnn_dist.config import RunConfig
from ssrnn_launch.doctor import storage_probes
from ssrnn_launch.doctor.before import check_node_prices, index_file
from ssrnn_launch.doctor.checks import Check, fail, nodes_, ok, warn
from ssrnn_launch.doctor.connections import examine_network
from ssrnn_launch.doctor.facts import Need, Node, NodeFacts, Offset, offset_of
from ssrnn_launch.doctor.judge_network import judge_gpus, judge_interface
from ssrnn_launch.doctor.judge_nodes import (
    judge_clocks,
    judge_code,
    judge_disks,
    judge_limits,
    judge_lost,
    judge_memory,
    judge_room,
    judge_secrets,
    judge_versions,
    room_on,
)
from ssrnn_launch.doctor.judge_storage import judge_indexes, judge_mlflow, judge_offload, judge_shared
from ssrnn_launch.doctor.network_probes import mlflow_error
from ssrnn_launch.doctor.probes import Agent, node_facts, now
from ssrnn_launch.doctor.team import Answer, Team, cluster_nodes
from ssrnn_launch.nodes import read_nodes

if TYPE_CHECKING:
    from ssrnn_data.mixture.sources import OpenedSource

FACTS_SECONDS, STORAGE_SECONDS, CLOCK_SECONDS = 60.0, 60.0, 5.0
CLOCK_ROUNDS = 3
HERE = "this machine"


def examine_nodes(
    config: RunConfig, corpora: "Sequence[OpenedSource]", need: Need, doing: Callable[[str], None]
) -> Iterator[Check]:
    """Every check of the cluster that we are connected to, but the trial."""
    alive, dead = cluster_nodes()
    yield ok("ray", f"{config.cluster.address or 'started here on 127.0.0.1'}: {nodes_(len(alive))}")
    yield judge_room(alive, config.scale)
    used = [node for node in alive if room_on(node, config.scale)] or alive
    yield from check_node_prices(config, read_nodes(), {node.id for node in used})
    doing(f"asking {nodes_(len(used))}")
    team = Team(Agent, {node.name: node for node in used})
    try:
        yield from judge_lost(dead, team.silent)
        if team.names:
            ward = _Ward(config, team, {node.name: node for node in used if node.name in team.names})
            yield from ward.facts_checks(need)
            doing("writing to and reading from the shared storage")
            yield from ward.storage_checks(corpora)
            doing("connecting nodes with each other")
            yield from examine_network(config, ward.nodes, ward.addresses, need)
    finally:
        team.end()


@dataclass
class _Ward:
    """The nodes that answer, by name, and what they are asked."""

    config: RunConfig
    team: Team
    nodes: Mapping[str, Node]
    addresses: dict[str, str] = field(default_factory=dict)  # where the others connect to

    def facts_checks(self, need: Need) -> Iterator[Check]:
        config, scale = self.config, self.config.scale
        names = list(config.cluster.secrets)
        answers = self.team.ask_all(
            node_facts, names, _folders(config), scale.gpus_per_worker > 0, seconds=FACTS_SECONDS
        )
        yield from judge_lost([], _errors(answers))
        facts = {name: NodeFacts(**answer.value) for name, answer in answers.items() if answer.error is None}
        self.addresses = {name: self._address(name, facts.get(name)) for name in self.nodes}
        if not facts:
            return
        here = NodeFacts(**node_facts([], {}, False))
        yield from judge_versions(facts, here, scale.gpus_per_worker > 0)
        yield judge_code(facts, here)
        yield judge_clocks(self._offsets())
        held = {name: min(room_on(self.nodes[name], scale), scale.most_workers) for name in facts}
        yield from judge_memory(facts, held)
        yield from judge_disks(facts, need)
        yield judge_limits(facts)
        yield from judge_secrets(facts, names)
        yield from judge_interface(facts, config.cluster.network.interface)
        if scale.gpus_per_worker:
            yield from judge_gpus(facts, {name: node.gpus for name, node in self.nodes.items()})

    def _address(self, name: str, facts: NodeFacts | None) -> str:
        """Where the other workers would connect to: the interface of the config, else what Ray has."""
        interface = self.config.cluster.network.interface
        found = facts.interfaces.get(interface, ()) if facts and interface else ()
        return found[0] if found else self.nodes[name].address

    def _offsets(self) -> dict[str, Offset]:
        """One node after the other, so that none waits for another's answer; the shortest round trip counts."""
        offsets: dict[str, Offset] = {}
        for name in [name for name in self.nodes for _ in range(CLOCK_ROUNDS)]:
            sent = time.time()
            answer = self.team.ask("call", {name: (now,)}, CLOCK_SECONDS)[name]
            if answer.error is None:
                found = offset_of(sent, answer.value, time.time())
                offsets[name] = min(offsets.get(name, found), found, key=lambda each: each.error_seconds)
        return offsets

    def storage_checks(self, corpora: "Sequence[OpenedSource]") -> Iterator[Check]:
        yield from self._shared()
        yield from self._indexes(corpora)
        if folder := self.config.scale.offload_folder:
            found = self.team.ask_all(storage_probes.offload_error, folder, seconds=STORAGE_SECONDS)
            yield from judge_offload(folder, _said(found))
        yield from self._mlflow()

    def _shared(self) -> list[Check]:
        """Every node writes a file of its own, then looks for the others', then deletes its own."""
        tokens = {name: secrets.token_hex(16) for name in self.team.names}
        files = {name: f"{at}.txt" for at, name in enumerate(tokens)}
        folder = f"{self.config.run_root.rstrip('/')}/.ssrnn-doctor-{secrets.token_hex(4)}"
        write = {name: (storage_probes.write_token, folder, files[name], tokens[name]) for name in tokens}
        written = _said(self.team.ask("call", write, STORAGE_SECONDS))
        there = {files[name]: tokens[name] for name, error in written.items() if error is None}
        seen = _said(self.team.ask_all(storage_probes.read_tokens, folder, there, seconds=STORAGE_SECONDS))
        seen[HERE] = storage_probes.read_tokens(folder, there)  # the driver writes config.yaml and shows the logs
        remove = {name: (storage_probes.remove_token, folder, files[name]) for name in tokens}
        removed = _said(self.team.ask("call", remove, STORAGE_SECONDS))
        owners = {file: name for name, file in files.items()}
        missing = {
            name: found if isinstance(found, str) else [owners[file] for file in found] for name, found in seen.items()
        }
        checks = judge_shared(self.config.run_root, written, missing)
        left = {name for name, error in removed.items() if error is not None}
        if left and all(check.state == "ok" for check in checks):
            return [fail("run_root", f"{min(left)}: can't delete ({removed[min(left)]})", "old checkpoints must go")]
        return checks

    def _indexes(self, corpora: "Sequence[OpenedSource]") -> list[Check]:
        here, states = {}, {}
        for source, opened in zip(self.config.data.sources, corpora, strict=False):
            index = index_file(source.index)
            shards = _shard_sizes(index, opened) if self.config.data.on_bad_sample == "error" else {}
            here[index] = storage_probes.index_state(index, {})["sha256"]
            answers = self.team.ask_all(storage_probes.index_state, index, shards, seconds=STORAGE_SECONDS)
            silent: dict[str, Any] = {"sha256": None, "odd_shards": 0}
            states[index] = {
                name: answer.value if answer.error is None else {**silent, "error": answer.error}
                for name, answer in answers.items()
            }
        return judge_indexes(here, states)

    def _mlflow(self) -> list[Check]:
        uri, experiment = self.config.tracking.uri, self.config.tracking.experiment
        if uri is None:
            return [ok("mlflow", "no server: SQLite beside the run")]
        if uri.startswith(("http://", "https://")):
            return judge_mlflow(uri, _said(self.team.ask_all(mlflow_error, uri, experiment, seconds=30.0)))
        return [warn("mlflow", "not looked at: only servers (http, https) are", "see that every node reaches it")]


def _folders(config: RunConfig) -> dict[str, str]:
    """What each node needs room in."""
    folders = {"run_root": str(config.folder.parent), "/tmp": "/tmp"}
    if config.scale.offload_folder:
        folders["offload_folder"] = config.scale.offload_folder
    return folders


def _shard_sizes(index: str, opened: "OpenedSource") -> dict[str, int]:
    if "://" in index:
        return {}
    folder = Path(index).parent
    return {
        str(folder / shard.file): shard.size_bytes for split in opened.index.splits.values() for shard in split.shards
    }


def _errors(answers: Mapping[str, Answer]) -> dict[str, str]:
    return {name: answer.error for name, answer in answers.items() if answer.error is not None}


def _said(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """What each node said; where it said nothing, that."""
    return {name: answer.value if answer.error is None else answer.error for name, answer in answers.items()}
