"""How long a step computes on one of so many workers, by a calibration or a data sheet: pure.

Imports calibration.py and sheet_times.py."""

from dataclasses import dataclass

from ssrnn_dist.config import RunConfig
from ssrnn_launch.plan.calibration import Calibration, Timing
from ssrnn_launch.plan.devices import Gpu
from ssrnn_launch.plan.sheet_times import micro_batch_seconds, update_seconds
from ssrnn_launch.plan.workload import Workload


@dataclass(frozen=True)
class Computing:
    """Seconds of one worker. step: without what it sends; forward: of as many lanes, without learning.

    measured: were as many workers timed here?"""

    step: float
    forward: float
    data: float | None
    probe: float
    peak_flops: float  # of one worker, for the MFU
    measured: bool


def computing_by_sheet(work: Workload, config: RunConfig, gpu: Gpu, workers: int) -> Computing:
    """Of one GPU."""
    each = micro_batch_seconds(work, config, gpu, work.micro_lanes(workers))
    micro = work.lanes_each(workers) / work.micro_lanes(workers)
    peak = gpu.bf16_tflops if work.number_bytes == 2 else gpu.fp32_tflops
    step = micro * each + update_seconds(work, gpu) / workers
    return Computing(step, micro * each / 3, None, 0.0, peak * 1e12, measured=False)


def computing_by_calibration(
    work: Workload, config: RunConfig, found: Calibration, workers: int, cores: int, *, on_one_machine: bool
) -> Computing:
    """What was timed with as many workers; else a line through the lanes of the densest setting.

    On one machine, more workers than cores take turns on them."""
    same = found.timing(workers)
    if same is not None:
        return _as_timed(found, same, workers, same.step_seconds, same.forward_seconds, 1.0, measured=True)
    densest = max(found.timings, key=lambda each: (each.workers, each.lanes))
    fewer = [each for each in found.timings if each.workers == densest.workers and each.lanes < densest.lanes]
    lanes = work.lanes_each(workers)
    turns = max(1.0, workers / cores) if on_one_machine and not found.on_gpu else 1.0
    inner = _on_a_line(densest, fewer, lanes)
    return _as_timed(
        found, densest, workers, inner, densest.forward_seconds * lanes / densest.lanes, turns, measured=False
    )


def _on_a_line(full: Timing, fewer: list[Timing], lanes: int) -> float:
    """A step of so many lanes, from two that were timed; in proportion where only one was."""
    if not fewer:
        rest = full.step_seconds - full.update_seconds
        return full.update_seconds + rest * lanes / full.lanes
    few = fewer[0]
    slope = max(0.0, (full.step_seconds - few.step_seconds) / (full.lanes - few.lanes))
    return max(few.step_seconds - slope * (few.lanes - lanes), 0.5 * full.update_seconds)


def _as_timed(
    found: Calibration, timing: Timing, workers: int, step: float, forward: float, turns: float, *, measured: bool
) -> Computing:
    """Alone each worker updates all parameters; among others its share."""
    step = step - timing.update_seconds * (1 - 1 / workers)
    peak = found.product_flops_per_second[str(timing.threads)]
    data = None if timing.data_seconds is None else turns * timing.data_seconds
    return Computing(turns * step, turns * forward, data, turns * timing.probe_seconds, peak / turns, measured)
