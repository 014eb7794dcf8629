"""The order of the tests on the two workers of `make test`, and what a command run within a test leaves.

Files that start Ray go to one worker, one after another: two clusters that start at once on two cores are too late for
each other's clocks. The other worker takes what computes, the longest first."""

from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

import ssrnn_dist  # noqa: F401  # before torch: how its threads wait
from ssrnn_launch.cli import output

WITH_RAY = (
    "test_elastic.py",
    "test_survival.py",
    "test_submit.py",
    "test_local_run.py",
    "test_doctor_cluster.py",
    "test_bench_launch.py",
)
LONGEST = ("test_train_alone.py", "test_feedback_runs.py", "test_mixture_runs.py", "test_resume.py")
LAST = ("test_in_the_interpreter.py",)  # five processes that compute: when the other worker's clocks are done


@pytest.fixture(autouse=True)
def stdout_is_given_back() -> Iterator[None]:
    yield
    output.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _place(item.path.name))


def _place(file_name: str) -> int:
    places = (WITH_RAY, LONGEST, (), LAST)
    return next((at for at, names in enumerate(places) if file_name in names), places.index(()))


class ByFile(LoadScopeScheduling):
    """Whole files to a worker, and all that start Ray to one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "with Ray" if path.rpartition("/")[2] in WITH_RAY else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)
