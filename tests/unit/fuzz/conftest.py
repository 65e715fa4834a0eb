"""The memory limit of all fuzz tests."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from .limits import MEMORY


@pytest.fixture(scope="module", autouse=True)
def limited_memory() -> Iterator[None]:
    """Code that needs more than MEMORY gets a MemoryError, which is not a PwruError."""
    found = re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(found[1]) * 1024 + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
