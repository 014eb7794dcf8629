"""What a person sees while something runs: a bar on a terminal, a plain line every few seconds elsewhere.

On stdout; on stderr where stdout belongs to --json. Imports rich inside."""

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ssrnn_dist.config import RunConfig
from ssrnn_dist.console import LINE_EVERY_SECONDS, Lines, Part, event_line, fitted, main_parts
from ssrnn_dist.hooks import StepMetrics
from ssrnn_launch.cli import output
from ssrnn_launch.records import JOB_VARIABLE, AsLines, Item, RecordWriter, metrics_of, told

if TYPE_CHECKING:
    from rich.console import Console

STAGES = {
    "look": "reading the sources",
    "tokenizer": "training the tokenizer",
    "encode": "encoding",
    "gather": "writing shards",
}


def bar_text(
    metrics: StepMetrics, valid_bits_per_byte: float | None, probe_cosine: float | None, columns: int | None = None
) -> str:
    """The numbers beside the bar, as many as fit; those that come now and then are given as last seen."""
    parts = main_parts(metrics)
    if probe_cosine is not None:
        parts.insert(1, Part(f"cosine with BPTT {probe_cosine:.4f}", 1))
    if valid_bits_per_byte is not None:
        parts.insert(1, Part(f"valid {valid_bits_per_byte:.4f} bits/byte", 4))
    return fitted(parts, columns, " · ")


class View(ABC):
    """Where a run's news goes."""

    @abstractmethod
    def metrics(self, metrics: StepMetrics) -> None:
        """A logged step."""

    @abstractmethod
    def note(self, text: str) -> None:
        """A line that stays."""

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        """Something that happened to the run."""
        self.note(event_line(kind, fields))


class LineView(Lines, View):
    """Plain lines."""


class RecordView(RecordWriter, View):
    """Records for whoever follows the job; their words are theirs."""

    def note(self, text: str) -> None:
        self.write("note", {"text": text})

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        self.write(kind, fields)


class BarView(View):
    """A bar with the numbers below it, redrawn in place.

    steps: of the whole run; None until the first metrics say so."""

    def __init__(self, console: "Console", steps: int | None) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=None), TimeElapsedColumn(), console=console
        )
        self._task = self._bar.add_task("train", total=steps)
        self._console = console
        self._last: StepMetrics | None = None
        self._valid_seen: float | None = None
        self._cosine_seen: float | None = None
        self.live = Live(get_renderable=self._draw, console=console, refresh_per_second=4, transient=False)

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        text = "starting the workers"
        if self._last is not None:  # by the width as it is now: terminals are resized
            text = bar_text(self._last, self._valid_seen, self._cosine_seen, self._console.width)
        return Group(self._bar.get_renderable(), Text(text, style="cyan", no_wrap=True))

    def began(self, at_seconds: float) -> None:
        """Count the time from there, in Unix seconds: of a run that one joins."""
        self._bar.tasks[0].start_time = self._bar.get_time() - max(time.time() - at_seconds, 0.0)

    def metrics(self, metrics: StepMetrics) -> None:
        if metrics.valid_bits_per_byte is not None:
            self._valid_seen = metrics.valid_bits_per_byte
        if metrics.probe_cosine is not None:
            self._cosine_seen = metrics.probe_cosine
        self._bar.update(self._task, completed=metrics.step, total=metrics.steps)
        self._last = metrics

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, style="dim")


@contextmanager
def open_view(config: RunConfig) -> Iterator[View]:
    """The view that suits where the output goes."""
    console = output.console()
    if os.environ.get(JOB_VARIABLE):
        yield RecordView(_stream())
    elif not console.is_terminal:
        yield LineView(_stream())
    else:
        view = BarView(console, config.train.steps)
        with view.live:
            yield view


@contextmanager
def open_job_view() -> Iterator[Callable[[Item], None]]:
    """show(item) for what a job has printed, as open_view would have shown the run here."""
    console = output.console()
    if not console.is_terminal:
        lines, stream = AsLines(), _stream()
        yield lambda item: _print_line(lines.line(item), stream)
        return
    view = BarView(console, None)
    first: float | None = None

    def show(item: Item) -> None:
        nonlocal first
        if not isinstance(item, str):
            first = item.at_seconds if first is None else first
            view.began(first + time.time() - item.at_seconds)  # an old log's time is its own
        show_item(item, view)

    with view.live:
        yield show


def _print_line(line: str | None, stream: TextIO) -> None:
    if line is not None:
        print(line, file=stream, flush=True)


def show_item(item: Item, view: View) -> None:
    """Bring a record or a plain line of a job to a view."""
    if isinstance(item, str):
        view.note(item)
    elif item.kind != "metrics":
        view.note(told(item))
    elif (metrics := metrics_of(item)) is not None:
        view.metrics(metrics)


def _stream() -> TextIO:
    return sys.stderr if output.as_json() else sys.stdout


@contextmanager
def build_progress(out: str) -> Iterator[Callable[[str, int, int], None]]:
    """progress(stage, done, total) for build_corpus; says what becomes of a build that is broken off.

    out: the corpus's folder."""
    from ssrnn_data.staging import unfinished_builds

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is Ctrl-C
    try:
        with _stages_shown(out) as progress:
            yield progress
    except (KeyboardInterrupt, OSError) as error:
        if unfinished_builds(Path(out)):
            output.note(f"{out}: what is finished is kept beside it; the same command goes on from there")
        if isinstance(error, OSError) and error.filename is None:  # of a write, which knows no name
            error.filename = out
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _stages_shown(name: str) -> Iterator[Callable[[str, int, int], None]]:
    console = output.console()
    if not console.is_terminal:
        yield _stage_lines(name)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=None), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(STAGES.get(stage, stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield progress


def _stage_lines(name: str) -> Callable[[str, int, int], None]:
    """A line when a stage begins, and every few seconds."""
    last_stage, last_time = "", float("-inf")

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last_stage, last_time
        now = time.monotonic()
        if stage == last_stage and now - last_time < LINE_EVERY_SECONDS:
            return
        last_stage, last_time = stage, now
        text = f"{name}: {STAGES.get(stage, stage)}, {done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
        print(text, file=_stream(), flush=True)

    return progress


@contextmanager
def counted_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """progress(done, total); shown on a terminal only."""
    console = output.console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
