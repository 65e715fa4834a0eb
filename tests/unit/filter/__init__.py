import pytest

# Tests that tests/kernel shares are in modules that pytest does not collect by itself.
pytest.register_assert_rewrite("tests.unit.filter.conditions", "tests.unit.filter.verdicts")
