import pytest

# Tests that tests/kernel shares are in modules that pytest does not collect by itself.
pytest.register_assert_rewrite(*(f"tests.unit.filter.{name}" for name in ("conditions", "headers", "verdicts")))
