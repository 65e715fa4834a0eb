"""Names of drop reasons."""

from __future__ import annotations

import pytest

from pwru.errors import PwruError
from pwru.kernel.drop_reasons import reasons

KNOWN = {0: "SKB_NOT_DROPPED_YET", 2: "SKB_DROP_REASON_NOT_SPECIFIED", 3: "SKB_DROP_REASON_NO_SOCKET"}


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (("NO_SOCKET",), [3]),
        (("no_socket", "SKB_DROP_REASON_NOT_SPECIFIED"), [3, 2]),
        (("131075",), [131075]),
        (("any",), []),
        (("no_socket", "any"), []),
    ],
)
def test_reasons(wanted: tuple[str, ...], numbers: list[int]) -> None:
    assert reasons(wanted, KNOWN) == numbers


@pytest.mark.parametrize(
    ("wanted", "known", "said"),
    [
        ("NO_SOKCET", KNOWN, "'NO_SOKCET'; did you mean NO_SOCKET.?"),
        ("socket", KNOWN, "'socket'; did you mean NO_SOCKET.?"),
        ("4294967296", KNOWN, "4294967296 is no number of 32 bits"),
        ("xyzzy", KNOWN, "dropreason-core.h lists them"),
        ("no_socket", {}, "does not report drop reasons"),
    ],
)
def test_errors(wanted: str, known: dict[int, str], said: str) -> None:
    with pytest.raises(PwruError, match=said):
        reasons((wanted,), known)
