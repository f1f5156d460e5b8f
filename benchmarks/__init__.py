"""Benchmarks: each prints what it measured as JSON; none of them asserts a time."""
