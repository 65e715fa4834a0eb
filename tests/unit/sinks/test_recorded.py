"""What a kernel once sent becomes what was printed then, byte for byte: recorded/, see recording.py."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from pwru.filter.expression import Value
from pwru.record.event import Function, Parts, Where
from pwru.sinks.details import Describe
from pwru.sinks.json import Json
from pwru.sinks.lines import Extras, Format, NetnsNames
from pwru.sinks.text import Text
from pwru.sinks.time import CLOCKS
from tests.unit.records import decoder

from .recording import CASES, DAY, FORMATS, RECORDED


def replay(path: Path, flags: tuple[str, ...]) -> str:
    found: dict[str, Any] = json.loads(path.read_text())
    of = decoder(Parts(**found["parts"]))
    clock = next((make() for mode, make in CLOCKS.items() if f"--timestamp={mode}" in flags), None)
    names = {int(inode): name for inode, name in found["netns"].items()}
    more = Describe(
        of,
        [Value(*value) for value in found["values"]],
        (lambda *hit: found["stacks"][json.dumps(hit)]) if of.parts.stack else None,
    )

    def symbolize(hit: Where) -> Function:
        return Function(*found["functions"][json.dumps(hit)])

    extras = Extras(
        clock,
        NetnsNames(lambda: names, 16) if "--output-netns-names" in flags else None,
        more if of.has_details else None,
        "--output-caller" in flags,
    )
    make: type[Format] = Json if path.suffix == ".json" else Text
    output = make(of, symbolize, found["last"], extras)
    records = of.records(memoryview(base64.b64decode(found["events"])))
    assert len(records) == 8
    return output.header() + output.events(records)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_as_it_was(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = RECORDED / f"{name}.{form}"
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time_ns", lambda: DAY)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 0)
    try:
        assert replay(path, CASES[name]).splitlines() == json.loads(path.read_text())["printed"]
    finally:
        monkeypatch.undo()
        time.tzset()
