"""The Go tool of the same name and this one, side by side: `make conformance`, `python -m tests.conformance`.

`guest` lets both trace the same traffic at the same time in a guest, `compare` finds what differs and by which rule,
and `__main__` boots the kernels and makes the report.
"""
