"""The parts of `ssrnn bench launch`, one after the other, each with its results as JSON-able values.

Imports the parts only; a part whose results are wrong raises LaunchFailed, and nothing is told of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssrnn_launch.bench import control_plane, overhead, recovery, starting, workshop
from ssrnn_launch.bench.workshop import Workshop
from ssrnn_launch.machine import available_cores
from ssrnn_launch.problems import LaunchFailed

PARTS = ("overhead", "start", "scaling", "control", "recovery")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is measured. control_*: of the simulated workers, on Ray and without it."""

    parts: tuple[str, ...] = PARTS
    threads: int = 0  # of the loops whose overhead is measured; 0: all cores
    target_seconds: float = overhead.TARGET_SECONDS
    steps: int = 60
    overhead_rounds: int = 3
    scaling_rounds: int = 2
    control_workers: int = 1024
    control_senders: int = 4
    control_seconds: int = 20
    control_without_ray: int = 10_000
    recovery_events: tuple[str, ...] = recovery.EVENTS


QUICK = Plan(
    target_seconds=0.05,
    steps=30,
    overhead_rounds=1,
    scaling_rounds=1,
    control_workers=64,
    control_senders=2,
    control_seconds=3,
    control_without_ray=1000,
    recovery_events=("kill",),
)


def measure(plan: Plan, folder: Path, told: Tell, done: Callable[[str, dict[str, Any]], None]) -> None:
    """All parts of the plan, done(part, results) after each.

    folder: for all that is written meanwhile.  told: hears what goes on.  LaunchFailed: something is wrong."""
    shop, cores = _Shop(folder, told), available_cores()
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "overhead": lambda: _overhead(plan, shop, told),
        "start": lambda: starting.measure_starting(shop.open(), shop.width(cores, plan.target_seconds), told),
        "scaling": lambda: overhead.measure_scaling(
            shop.open(), shop.width(cores, plan.target_seconds), plan.steps, plan.scaling_rounds, told
        ),
        "control": lambda: measure_control(plan, folder, told),
        "recovery": lambda: recovery.measure_recovery(shop.open(), plan.recovery_events, told),
    }
    for part in plan.parts:
        done(part, measures[part]())


class _Shop:
    """The workshop, made when the first part wants it, and what was found out about sizes."""

    def __init__(self, folder: Path, told: Tell) -> None:
        self._folder, self._told = folder, told
        self._shop: Workshop | None = None
        self._widths: dict[tuple[int, float], int] = {}

    def open(self) -> Workshop:
        if self._shop is None:
            self._told("building a small corpus")
            self._shop = workshop.open_workshop(self._folder)
        return self._shop

    def width(self, threads: int, target_seconds: float) -> int:
        if (threads, target_seconds) not in self._widths:
            shop = self.open()
            self._told(f"finding the model whose step takes {target_seconds * 1000:.0f} ms with {threads} threads")
            self._widths[threads, target_seconds] = workshop.width_for(shop, threads, target_seconds)
        return self._widths[threads, target_seconds]


def _overhead(plan: Plan, shop: _Shop, told: Tell) -> dict[str, Any]:
    threads = plan.threads or available_cores()
    width = shop.width(threads, plan.target_seconds)
    return overhead.measure_overhead(shop.open(), threads, width, plan.steps, plan.overhead_rounds, told)


def measure_control(plan: Plan, folder: Path, told: Tell) -> dict[str, Any]:
    """Simulated workers on a real Ray, more of them without it, and the ledger's size. LaunchFailed: some is lost."""
    told(f"a control plane of {plan.control_workers:,} workers on Ray")
    task = {
        "workers": plan.control_workers, "senders": plan.control_senders, "seconds": plan.control_seconds,
        "folder": str(folder),
    }  # fmt: skip
    path = folder / "control.json"
    path.write_text(json.dumps(task))
    Workshop(folder, folder).run("control", [["-m", "ssrnn_launch.bench.control_on_ray", str(path)]], {}, "the board")
    found = json.loads(Path(f"{path}.out").read_text())
    check_nothing_lost(found["lost"])
    told(f"{plan.control_without_ray:,} workers without Ray")
    return {
        "on_ray": found,
        "without_ray": control_plane.without_ray(plan.control_without_ray, 4, folder),
        "ledger_bytes_of_an_hour": control_plane.ledger_bytes_of_an_hour(folder),
    }


def check_nothing_lost(lost: dict[str, float]) -> None:
    """LaunchFailed names what the control plane lost."""
    gone = {what: count for what, count in lost.items() if count}
    if gone:
        raise LaunchFailed(
            f"control plane: lost {', '.join(f'{count} {what}' for what, count in gone.items())}; nothing is told"
        )


def chosen(parts: Sequence[str]) -> tuple[str, ...]:
    """In their own order; none means all."""
    return tuple(part for part in PARTS if not parts or part in parts)
