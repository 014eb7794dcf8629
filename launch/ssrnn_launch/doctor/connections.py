"""The checks between nodes: connections in a ring and across it, their speed, and an all-reduce of two workers.

Imports ray (by team.py): only for use inside a command, after ray is connected."""

from collections.abc import Iterator, Mapping
from typing import Any

from ssrnn_dist.config import RunConfig
from ssrnn_launch.doctor.checks import Check
from ssrnn_launch.doctor.facts import Link, Need, Node
from ssrnn_launch.doctor.judge_network import judge_all_reduce, judge_links, more_pairs, ring
from ssrnn_launch.doctor.network_probes import Peer
from ssrnn_launch.doctor.team import Answer, Team

SEND_SECONDS, LINK_SECONDS = 0.5, 30.0
ALL_REDUCE_BYTES = 32 << 20
ALL_REDUCE_SECONDS = 90.0  # torch is imported, NCCL finds its ways


def examine_network(
    config: RunConfig, nodes: Mapping[str, Node], addresses: Mapping[str, str], need: Need
) -> Iterator[Check]:
    """nodes: that answer, by name.  addresses: where they are connected to."""
    peers = Team(Peer, nodes) if len(nodes) > 1 else None
    if peers is None:
        yield from judge_links([])
    else:
        try:
            yield from judge_links(_links(peers, addresses))
        finally:
            peers.end()
    if config.scale.most_workers > 1:
        backend = "nccl" if config.scale.gpus_per_worker else "gloo"
        yield judge_all_reduce(backend, _all_reduce(config, backend, nodes, addresses), need, config.scale.most_workers)


def _links(peers: Team, addresses: Mapping[str, str]) -> list[Link]:
    served = peers.ask("serve", {name: (addresses[name],) for name in peers.names}, LINK_SECONDS)
    around = ring(peers.names)
    measured = _send_all(peers, around, served, addresses, SEND_SECONDS)
    across = _send_all(peers, more_pairs(peers.names), served, addresses, 0.0)
    return [*measured, *(Link(link.source, link.target, link.error) for link in across)]


def _send_all(
    peers: Team,
    pairs: list[tuple[str, str]],
    served: Mapping[str, Answer],
    addresses: Mapping[str, str],
    seconds: float,
) -> list[Link]:
    """A source may stand in several pairs: each pair is a call of its own."""
    links = [
        Link(source, target, f"it can't listen: {error}") for source, target in pairs if (error := served[target].error)
    ]
    able = [(source, target) for source, target in pairs if served[target].error is None]
    answers = peers.ask_pairs(
        "send", {pair: (addresses[pair[1]], served[pair[1]].value, seconds) for pair in able}, LINK_SECONDS
    )
    for (source, target), answer in answers.items():
        found: dict[str, Any] = (
            answer.value if answer.error is None else {"error": answer.error, "bytes_per_second": None}
        )
        links.append(Link(source, target, **found))
    return links


def _all_reduce(
    config: RunConfig, backend: str, nodes: Mapping[str, Node], addresses: Mapping[str, str]
) -> float | str:
    """Bytes per second between two workers, on two nodes where there are two; or why there is none."""
    names = list(nodes)[:2]
    homes = names if len(names) == 2 else names * 2
    pair = Team(Peer, {str(rank): nodes[name] for rank, name in enumerate(homes)}, gpus=config.scale.gpus_per_worker)
    try:
        if pair.silent:
            return f"no worker came up ({next(iter(pair.silent.values()))})"
        hosts = [addresses[name] for name in homes]
        opened = pair.ask("open_store", {"0": (hosts[0],)}, LINK_SECONDS)["0"]
        if opened.error is not None:
            return opened.error
        network = config.cluster.network
        how = {
            "backend": backend,
            "interface": network.interface,
            "env": dict(network.env),
            "size_bytes": ALL_REDUCE_BYTES,
            "timeout_seconds": int(ALL_REDUCE_SECONDS / 2),
        }
        store = (hosts[0], opened.value)
        done = pair.ask_together(
            "all_reduce", {str(rank): (rank, hosts[rank], store, how) for rank in (0, 1)}, ALL_REDUCE_SECONDS
        )
        failed = [answer.error for answer in done.values() if answer.error is not None]
        return failed[0] if failed else min(answer.value for answer in done.values())
    finally:
        pair.end()
