"""What a kernel once sent becomes what was printed then, byte for byte: recorded/, see recording.py."""

from __future__ import annotations

import json
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
