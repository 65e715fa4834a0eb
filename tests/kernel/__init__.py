"""Tests that run in a guest, on the kernel that is booted there."""

import pytest

# Before they are imported: their assertions then show what was compared, as those of tests do.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("leftovers", "refusals", "tracing")))
