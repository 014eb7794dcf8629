"""Which nodes a run's workers go to now: what the cluster has, less those that are lost or about to go.

Asks Ray (nodes.py, roll_call.py), decides by placing.py, books by renting.py. Imports ray: only inside a command."""

import time
from collections.abc import Callable, Iterable, Mapping

from ssrnn_dist.config import RunConfig
from ssrnn_launch import nodes, placing
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.renting import Renting
from ssrnn_launch.roll_call import RollCall

POLL_SECONDS = 0.25
SETTLE_SECONDS = 2.0  # a cluster that is still growing is waited for so long
FREE_SECONDS = 10.0  # until Ray knows that what a group held is free again


class Seating:
    """The cluster as the run sees it."""

    def __init__(
        self, config: RunConfig, wanted: Mapping[str, float], renting: Renting, warn: Callable[[str], None]
    ) -> None:
        """wanted: what a worker asks of Ray.  warn: told once where the run has to wait for room."""
        self._config, self._wanted, self._renting, self._warn = config, wanted, renting, warn
        self._avoided: set[str] = set()
        self.avoid_unpriced = False  # before the first group is hired, the start is refused
        self._roll_call = RollCall()
        self._found: list[placing.Node] = []

    def wait(self, poll: Callable[[], None]) -> list[placing.Seat]:
        """Seats for as many workers as there is room for, once there is for the fewest.

        poll: called again and again; may raise.  LaunchFailed: a Ray of our own has no room, and never will."""
        told, since, best = False, time.monotonic(), 0
        while True:
            rooms = self.rooms({})
            size = placing.choose_size(rooms, self._config.scale) or 0
            waited = time.monotonic() - since
            if size > best:
                best, since = size, time.monotonic()
            elif size and (size == self._config.scale.most_workers or waited > SETTLE_SECONDS):
                return placing.seats_of(rooms, size)
            elif not size and not told and waited > FREE_SECONDS:
                told = True
                self._tell_no_room(sum(room.places for room in rooms))
            poll()
            time.sleep(POLL_SECONDS)

    def _tell_no_room(self, places: int) -> None:
        message = f"no room for {self._config.scale.fewest_workers} workers (there is for {places})"
        if not self._config.cluster.address:
            raise LaunchFailed(message, str(self._config.folder / "logs"))
        self._warn(f"{message}; waiting for it")

    def rooms(self, held: Mapping[str, int]) -> list[placing.Room]:
        """Where there is room now, our own workers' places included. held: workers of ours by node."""
        self._found = nodes.read_nodes()
        self._renting.look(self._found)
        self._avoided &= {node.id for node in self._found}  # those that are gone need not be avoided any more
        avoided = self._avoided | self._roll_call.silent()
        if self.avoid_unpriced:
            avoided |= self._renting.unpriced
        return placing.rooms_of(self._found, self._wanted, held, avoided, self._config.scale.accelerator_type)

    def possible_size(self, held: Mapping[str, int]) -> int | None:
        """How many workers the run could have now."""
        return placing.choose_size(self.rooms(held), self._config.scale)

    def going(self, held: Mapping[str, int], noticed: Mapping[str, str]) -> dict[str, str]:
        """Nodes of ours that will be taken away, and why; each is told once, and avoided from then on.

        noticed: what workers were told on their nodes."""
        drained = {node.id: f"{node.address} is drained" for node in self._found if node.draining and node.id in held}
        found = {node: why for node, why in {**drained, **noticed}.items() if node not in self._avoided}
        self._avoided |= found.keys()
        return found

    def ask(self, silent: Iterable[str]) -> None:
        """Workers on these nodes were not heard of for a while: should they be lost, the answer is there by then."""
        self._roll_call.ask(silent)

    def suspect(self, lost: Iterable[str]) -> None:
        """Workers were lost on these nodes: those that don't answer are avoided until they do."""
        self._roll_call.ask(lost)
        self._roll_call.wait()
