"""Run by `ssrnn bench launch`: a real board on a real Ray, fed by processes that stand for very many workers.

python -m ssrnn_launch.bench.control_on_ray TASK.json. Imports ray inside, once its environment is set."""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from ssrnn_dist.tracking.lives import SECONDS_PER_HOUR
from ssrnn_launch.bench.control_plane import TAKES_A_SECOND, WATTS, Stopwatch, book, hired, names_of, pulse_of
from ssrnn_launch.board import Board, News, Orders, Pulse
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.watch import Vitals

SETTLE_SECONDS = 1.0
PROBED_POST = "probe"
BOOKING_SLACK_SECONDS = 0.2


class CountedBoard(Board):
    """The board, which says what it was told and what that cost."""

    def __init__(self) -> None:
        super().__init__()
        self.pulses = 0

    def pulse(self, pulse: Pulse) -> Orders:
        self.pulses += 1
        return super().pulse(pulse)

    def spent(self) -> tuple[float, int]:
        """Processor seconds of its process, and pulses so far."""
        return time.process_time(), self.pulses


class SimulatedWorkers:
    """A process that pulses for many workers, each every second, spread over it; the first one posts, too.

    None of them waits for another's answer."""

    def __init__(self, board: Any, names: list[str]) -> None:
        self._board, self._names = board, names
        self._latencies: list[float] = []

    async def arrive(self) -> None:
        return None

    async def run(self, begin: float, seconds: int) -> tuple[list[float], float, int]:
        """Seconds from each pulse to its answer; how late the last one was sent; posts.  begin: Unix seconds."""
        sent, late = [], 0.0
        for second in range(seconds):
            self._board.post.remote(PROBED_POST, {"from": self._names[0], "number": second})
            for at, name in enumerate(self._names):
                due = begin + second + at / len(self._names)
                await asyncio.sleep(max(0.0, due - time.time()))
                late = max(0.0, time.time() - due)
                sent.append(asyncio.create_task(self._pulse(name, second + 1.0)))
        await asyncio.gather(*sent)
        return self._latencies, late, seconds

    async def _pulse(self, name: str, age_seconds: float) -> None:
        began = time.perf_counter()
        await self._board.pulse.remote(pulse_of(name, age_seconds))
        self._latencies.append(time.perf_counter() - began)


def main(task_path: str) -> None:
    """A task: workers, senders (processes), seconds, folder."""
    from ssrnn_launch.ray_session import local_ray, worker_environment

    task = json.loads(Path(task_path).read_text())
    with local_ray(2, worker_environment(0), Path(task["folder"]) / "logs" / "control-ray"):
        found = _drive(task)
    Path(f"{task_path}.out").write_text(json.dumps(found))


def _drive(task: dict[str, Any]) -> dict[str, Any]:
    import ray

    names = names_of(task["workers"])
    board = ray.remote(num_cpus=0)(CountedBoard).remote()
    shares = [names[at :: task["senders"]] for at in range(task["senders"])]
    senders = [ray.remote(num_cpus=0)(SimulatedWorkers).remote(board, share) for share in shares]
    ray.get([sender.arrive.remote() for sender in senders])
    path = Path(task["folder"]) / "ledger-ray.jsonl"
    hired_at = time.monotonic()
    ledger, vitals = hired(path, names), Vitals(names, hired_at)
    before, watch, posts = _spent(board), Stopwatch(), 0
    began, begin = time.monotonic(), time.time() + SETTLE_SECONDS
    work = [sender.run.remote(begin, task["seconds"]) for sender in senders]
    ready: list[Any] = []
    while len(ready) < len(work):
        ready, _ = ray.wait(work, num_returns=len(work), timeout=1 / TAKES_A_SECOND)
        with watch.on("driver"):
            posts += _take(board, vitals, ledger)
    posts += _take(board, vitals, ledger)
    wall, after = time.monotonic() - began, _spent(board)
    held = time.monotonic() - hired_at
    ledger.close()
    sent = [ray.get(each) for each in work]
    latencies = sorted(each for of_sender, _, _ in sent for each in of_sender)
    totals = ledger.totals()
    off = abs(totals.worker_hours * SECONDS_PER_HOUR - len(names) * held)
    expected_joules = len(names) * WATTS * task["seconds"]
    lost = {
        "pulses": len(latencies) - after["pulses"],
        "posts": sum(count for *_, count in sent) - posts,
        "workers_unheard_at_the_end": sum(vitals.last[n].step != pulse_of(n, task["seconds"]).step for n in names),
        "joules": round(expected_joules - (totals.energy_kwh or 0.0) * 3.6e6, 3),
        "worker_seconds": round(off, 3) if off > BOOKING_SLACK_SECONDS * len(names) else 0,  # hiring them takes a while
    }
    return {
        "workers": len(names),
        "seconds": task["seconds"],
        "pulses_per_second": len(latencies) / (wall - SETTLE_SECONDS),
        "latency_p50_seconds": statistics.median(latencies),
        "latency_p99_seconds": latencies[int(0.99 * len(latencies))],
        "last_pulse_late_seconds": max(late for _, late, _ in sent),
        "cores": {name: (after[name] - before[name]) / wall for name in ("board", "driver", "ray")},
        "booking_cores": watch.seconds["driver"] / wall,
        "ledger_bytes": path.stat().st_size,
        "lost": lost,
    }


def _take(board: Any, vitals: Vitals, ledger: Any) -> int:
    """As the supervisor's tick; how many posts came."""
    import ray

    from ssrnn_launch.board_actor import TAKE_SECONDS

    try:
        news: News = ray.get(board.take.remote(), timeout=TAKE_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise LaunchFailed(
            f"no answer for {TAKE_SECONDS:.0f} s: it and {len(vitals.names):,} simulated workers are more than "
            "this machine's cores can do"
        ) from error
    book(news, vitals, ledger, time.monotonic())
    return sum(kind == PROBED_POST for kind, _ in news.posts)


def _spent(board: Any) -> dict[str, float]:
    """Processor seconds so far: of the board's process, of this one, of Ray's own."""
    import ray

    of_board, pulses = ray.get(board.spent.remote())
    own = [each for each in psutil.Process().children() if each.name() in ("gcs_server", "raylet")]
    of_ray = sum(times.user + times.system for times in (each.cpu_times() for each in own))
    return {"board": of_board, "pulses": pulses, "driver": time.process_time(), "ray": of_ray}


if __name__ == "__main__":
    from ssrnn_launch.bench import control_on_ray  # what Ray's workers import must not be called __main__

    try:
        control_on_ray.main(sys.argv[1])
    except LaunchFailed as error:
        sys.exit(str(error))
