"""Where a measurement was made: the processor, the versions, the date, the commit. Imports torch."""

import datetime
import platform
from pathlib import Path
from typing import Any

import torch

from ssrnn_dist.tracking.facts import cpu_model, git_commit


def described_machine() -> dict[str, Any]:
    """What a results file says of its machine; torch's threads as they are set now."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": cpu_model(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "git_commit": git_commit(Path(__file__)),
    }
