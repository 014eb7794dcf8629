"""`ssrnn doctor`: a cluster checked before the money starts.

Probes gather facts on the nodes, judges decide what is well, examine.py goes through it all."""
