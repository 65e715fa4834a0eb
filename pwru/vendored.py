"""Python packages that come with pwru, in its folder `_vendor`: those that a distribution lacks, or has too old.

The folder is made by packages of distributions; elsewhere it does not exist, and nothing changes.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).with_name("_vendor")


@contextmanager
def importable() -> Iterator[None]:
    """Let imports find the folder's packages first, for as long as the block runs: other programs never see them."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
