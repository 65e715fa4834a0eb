"""Fuzz tests: any input gives a result or a PwruError, but no other exception, no hang and no excessive memory.

PWRU_FUZZ_CASES: how many cases each test tries (default 2000; `make fuzz` takes 100 000).
"""
