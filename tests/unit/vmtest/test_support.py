"""The README's table of kernels and backends agrees with the list of kernels."""

import pytest

from vmtest import support
from vmtest.errors import VmtestError


def test_the_readme_is_up_to_date() -> None:
    text = support.README.read_text()
    assert text == support.put(text), "make support"


def test_without_markers_nothing_is_written() -> None:
    with pytest.raises(VmtestError, match="lacks the markers"):
        support.put(support.BEGIN + "| a table |")
