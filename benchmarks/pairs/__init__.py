"""Compares this tree with another commit, in interleaved pairs: `python -m benchmarks.pairs`."""
