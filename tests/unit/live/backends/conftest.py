"""Fixtures of the tests of backends."""

from __future__ import annotations

import pytest

from pwru.kernel.btf import read_btf
from pwru.live.loader import OBJECT
from pwru.record.layout import Wire


@pytest.fixture(scope="session")
def wire() -> Wire:
    """The structs and constants of the object that was built; its BTF is read without libbpf."""
    if not OBJECT.exists():
        pytest.fail("the BPF object is not built: make build")
    return Wire(read_btf(OBJECT))
