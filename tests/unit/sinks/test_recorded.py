"""What a kernel once sent becomes what was printed then, byte for byte: recorded/, see recording.py."""

from __future__ import annotations

import json
import re
import time

import pytest

from pwru.sinks.stream import Stream

from .recording import CASES, DAY, FORMATS, RECORDED, replay


class Kept(Stream):
    """Lines that are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return 0


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_as_it_was(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = RECORDED / f"{name}.{form}"
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time_ns", lambda: DAY)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 0)
    try:
        kept = Kept()
        assert replay(path, CASES[name], kept) == 8
        assert kept.text.splitlines() == json.loads(path.read_text())["printed"]
    finally:
        monkeypatch.undo()
        time.tzset()


class GivesUp(Kept):
    """Takes so many characters."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, text: str) -> int:
        taken = text[: self.room - len(self.text)]
        super().write(taken)
        return len(text) - len(taken)


def test_events_with_lines_of_their_own_that_are_given_up() -> None:
    """They are counted, not their lines; one that was printed in part is not printed."""
    path, kept = RECORDED / "stack.text", Kept()
    replay(path, CASES["stack"], kept)
    *_, last = re.finditer("^0x", kept.text, re.MULTILINE)
    end = len(kept.text)
    for room, printed in ((end, 8), (end - 1, 7), (last.end() + 5, 7), (last.start(), 7), (last.start() - 1, 6)):
        assert replay(path, CASES["stack"], GivesUp(room)) == printed
