"""Benchmarks: pwru and the Go tool of the same name, side by side on the same traffic in the same guest.

`python -m bench` boots the kernels and prints the tables; `bench.measure` runs in the guests. See README.md.
"""
