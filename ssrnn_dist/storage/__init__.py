"""A run's files in a store that is named by an fsspec URL: s3://, gs://, file:// and others.

remote.py reads and writes a folder there; mirror.py keeps a run's small files the same there as on this node."""
