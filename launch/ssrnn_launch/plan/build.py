"""Makes a plan: finds out what the run's text, this machine, a calibration or a data sheet say, and forecasts.

Looks at the machine and may start a calibration; imports the plan's other parts, torch only to look for a GPU."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ssrnn_dist.config import RunConfig
from ssrnn_dist.problems import user_error
from ssrnn_launch.machine import available_cores
from ssrnn_launch.plan.calibrate import calibrate
from ssrnn_launch.plan.calibration import Calibration, load_calibration, save_calibration
from ssrnn_launch.plan.calibration import as_values as calibration_values
from ssrnn_launch.plan.computing import computing_by_calibration, computing_by_sheet
from ssrnn_launch.plan.devices import SHEETS_OF, Gpu, gpu_named
from ssrnn_launch.plan.forecast import Forecast, Ground, as_values, forecast
from ssrnn_launch.plan.memory import Base
from ssrnn_launch.plan.prices import why_no_dollars
from ssrnn_launch.plan.splits import Room, counts_of
from ssrnn_launch.plan.traffic import Network, sheet_network
from ssrnn_launch.plan.vocabulary import Text, text_of
from ssrnn_launch.plan.workload import Workload, workload_of


@dataclass(frozen=True)
class Asked:
    """The command's options. calibrate: None where it depends on what is at hand.  node_gigabits: a node's network."""

    calibrate: bool | None = None
    calibration: Path | None = None
    device: str | None = None
    node_gigabits: float | None = None
    vocab_size: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Plan:
    """A forecast and what it stands on. ground: "calibration", "data sheet", or "nothing" where times are not known."""

    config: RunConfig
    work: Workload
    text: Text
    found: Forecast
    ground: str
    device: str | None
    source: str
    calibration: Calibration | None

    @property
    def why_no_dollars(self) -> str | None:
        """Why no choice has dollars; None where one has."""
        times_known = any(each.run_seconds is not None for each in self.found.choices)
        return why_no_dollars(self.config, times_known=times_known)

    def as_values(self) -> dict[str, Any]:
        work = self.work
        return {
            "run": self.config.name,
            "ground": self.ground,
            "device": self.device,
            "source": self.source,
            "parameters": work.parameters,
            "vocab_size": work.vocab_size,
            "tokens": work.train.steps * work.train.tokens_per_batch,
            "flops_per_token": work.flops_per_token,
            "zero_stage": self.config.scale.zero_stage,
            "no_dollars": self.why_no_dollars,
            **as_values(self.found),
            "calibration": None if self.calibration is None else calibration_values(self.calibration),
        }


def make_plan(config: RunConfig, asked: Asked) -> Plan:
    """Forecast a run. UserError for what is wrong; LaunchFailed where a calibration fails."""
    text = text_of(config, asked.vocab_size)
    work = workload_of(config, text.vocab_size)
    counts = counts_of(config, asked.most)
    found = _calibration(config, work, text, counts, asked)
    gpu = _gpu(config, asked)
    on_gpu = config.scale.gpus_per_worker > 0
    if found is not None:
        source = f"measured on {found.device}, {found.made}"
        ground, device = "calibration", found.device
    elif gpu is not None:
        source = f"{gpu.source}, as of {SHEETS_OF}; peaks, and what an H200 reached of them: rough"
        if not (gpu.node_gigabits or asked.node_gigabits) and counts[-1] > config.cluster.nodes.workers_each:
            source += "; no times over nodes, whose network is not known (--node-gigabits)"
        ground, device = "data sheet", gpu.name
    else:
        source = "no times: the device is not known (scale.accelerator_type, --device, or a calibration on it)"
        ground, device = "nothing", None
    where = _ground(config, work, text, found, gpu, asked, on_gpu)
    return Plan(config, work, text, forecast(work, config, counts, where), ground, device, source, found)


def _calibration(config: RunConfig, work: Workload, text: Text, counts: list[int], asked: Asked) -> Calibration | None:
    """One that stands, or a new one where this machine is like what the run asks for."""
    if asked.device is not None:
        if asked.calibrate or asked.calibration:
            raise user_error("--device", f"{asked.device!r} beside a calibration", "one of them is allowed")
        return None
    if asked.calibration is not None and asked.calibration.exists() and not asked.calibrate:
        return load_calibration(asked.calibration, config, text.vocab_size)
    at_hand = _gpus_here() > 0 if config.scale.gpus_per_worker else True
    if asked.calibrate and not at_hand:
        raise user_error("--calibrate", "no GPU here, and scale.gpus_per_worker is 1", "--device, or on such a machine")
    if asked.calibrate is False or not at_hand:
        return None
    found = calibrate(config, work, text.vocab_size, counts)
    if asked.calibration is not None:
        try:
            save_calibration(found, asked.calibration)
        except OSError as error:
            came = f"{asked.calibration} can't be written ({error.strerror})"
            raise user_error("--calibration", came, "a place to write to") from error
    return found


def _gpu(config: RunConfig, asked: Asked) -> Gpu | None:
    """Whose data sheet counts."""
    if asked.device is not None:
        if not config.scale.gpus_per_worker:
            raise user_error("--device", f"{asked.device!r}, and scale.gpus_per_worker is 0", "1, or no --device")
        return gpu_named(asked.device)
    name = config.scale.accelerator_type
    return None if name is None or not config.scale.gpus_per_worker else gpu_named(name, "scale.accelerator_type")


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _ground(
    config: RunConfig,
    work: Workload,
    text: Text,
    found: Calibration | None,
    gpu: Gpu | None,
    asked: Asked,
    on_gpu: bool,
) -> Ground:
    is_here = config.cluster.address is None and asked.device is None and not (on_gpu and found is None)
    cores = available_cores()
    base, start, computing, network = Base(), 0.0, None, None
    if found is not None:
        framework = found.framework_bytes + (0 if on_gpu else found.ray_bytes)
        base, start = Base(framework, found.allocator_fraction), found.start_seconds
        network = _network_here(found, gpu, config, asked)

        def computing(n: int) -> Any:
            return computing_by_calibration(work, config, found, n, cores, on_one_machine=is_here)

    elif gpu is not None:
        network = sheet_network(gpu, config.cluster.nodes.workers_each, asked.node_gigabits)

        def computing(n: int) -> Any:
            return computing_by_sheet(work, config, gpu, n)

    room = Room(
        bytes_each=_gpu_bytes(found, gpu) if on_gpu else None,
        machine_bytes=float(psutil.virtual_memory().total) if is_here else None,
        gpus_here=_gpus_here() if is_here and on_gpu else None,
    )
    watts = gpu.watts if gpu is not None else None
    return Ground(computing, network, base, room, watts, start, text.valid_tokens, on_gpu)


def _network_here(found: Calibration, gpu: Gpu | None, config: RunConfig, asked: Asked) -> Network | None:
    """Of CPUs as timed here; of GPUs by the data sheet, as one alone sends nothing."""
    if not found.on_gpu:
        return found.network()
    return None if gpu is None else sheet_network(gpu, config.cluster.nodes.workers_each, asked.node_gigabits)


def _gpu_bytes(found: Calibration | None, gpu: Gpu | None) -> float | None:
    if found is not None and _gpus_here():
        import torch

        return float(torch.cuda.get_device_properties(0).total_memory)
    return None if gpu is None else gpu.memory_gb * 1e9
