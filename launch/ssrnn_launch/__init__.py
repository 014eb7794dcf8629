"""The `ssrnn` command and what it starts: local runs under Ray, jobs on a cluster.

Imports nothing heavy here, so that every help text is quick; ray is imported only in this package."""

import ssrnn_dist  # noqa: F401  # before torch in all that is run from here: how its threads wait
