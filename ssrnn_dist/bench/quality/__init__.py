"""The study behind docs/results.md: every cell by every rule and a Transformer on the same data and schedule."""
