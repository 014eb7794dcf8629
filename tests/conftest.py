"""The order of the tests: files that take minutes come first, so that both workers of `make test` end at one time.

And what a command run within a test leaves: its output's state."""

from collections.abc import Iterator

import pytest

from ssrnn_launch.cli import output

LONGEST_FIRST = (
    "test_in_the_interpreter.py",  # five processes that compute: beside trainings, not beside clocks
    "test_resume.py",
    "test_train_alone.py",
    "test_feedback_runs.py",
    "test_submit.py",
    "test_local_run.py",
    "test_elastic.py",
    "test_survival.py",
    "test_checkpoint_remote.py",
    "test_plan_memory.py",
    "test_mixture_runs.py",
)


@pytest.fixture(autouse=True)
def stdout_is_given_back() -> Iterator[None]:
    yield
    output.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path.name))


def _rank(file_name: str) -> int:
    return LONGEST_FIRST.index(file_name) if file_name in LONGEST_FIRST else len(LONGEST_FIRST)
