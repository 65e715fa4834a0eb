"""Limits are raised as far as needed and never lowered."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Exact numbers of open files, in a process of its own; without CAP_SYS_RESOURCE the hard limit stands.
CODE = """
import resource
from pwru.live import rlimits as limits
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
print(limits.at_least(resource.RLIMIT_NOFILE, {needed}), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("needed", "result"),
    [(50, "True 100 200"), (100, "True 100 200"), (150, "True 150 200"), (200, "True 200 200"), (201, "False 100 200")],
)
def test_within_the_hard_limit(needed: int, result: str) -> None:
    command = [sys.executable, "-c", CODE.format(needed=needed)]
    without = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
    done = subprocess.run([*without, *command], capture_output=True, text=True, check=True)
    assert done.stdout.split() == result.split()
