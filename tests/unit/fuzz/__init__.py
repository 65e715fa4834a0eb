"""Whatever comes in, there is a result or a PwruError: no other exception, no hang, no memory that runs away.

PWRU_FUZZ_CASES: how many cases each test tries (default 2000; `make fuzz` takes 100 000).
"""
