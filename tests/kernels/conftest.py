"""For the tests of kernels: what they share beside helpers/windows.py."""

from collections.abc import Iterator

import pytest

from ssrnn_kernels import backends


@pytest.fixture
def said_nothing_yet() -> Iterator[None]:
    """What is said once is said anew, here and after."""
    backends._say_once.cache_clear()
    yield
    backends._say_once.cache_clear()
