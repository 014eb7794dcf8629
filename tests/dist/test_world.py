"""The group of ranks: how a process leaves it."""

from worlds import HERE, run_ranks


def test_a_rank_ends_well_while_gloos_threads_still_hold_tensors():
    """With sys.exit in end_process's place it aborts here, and once in many runs where nothing is unfinished."""
    assert run_ranks(2, HERE / "leave_early.py", timeout=120) == ["left\n", "left\n"]
