"""The `ssrnn` command and what it starts: local runs under Ray, jobs on a cluster.

Imports nothing here, so that every help text is quick; ray is imported only in this package."""
