"""BTF to which a test adds what it is about."""

from __future__ import annotations

import pytest

from tests.unit.kernel.samples import Sample


@pytest.fixture
def sample() -> Sample:
    return Sample()
