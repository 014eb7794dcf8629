"""Checkpoints that do not know how many workers wrote them (docs/checkpoints.md).

slices.py decides, zero_shards.py reads and writes DeepSpeed's inside, store.py keeps the files."""
