"""The man page has all flags, columns, JSON keys, statuses and backends, and examples that work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs.manpage import page
from pwru.cli.flags import FLAGS
from pwru.cli.options import parse
from pwru.cli.parser import Status
from pwru.filter.packet.pcap import compile_filter
from pwru.live.backends import BACKENDS
from pwru.record.parts import PARTS

ROOT = Path(__file__).parents[3]
PAGE = page()
GUIDE = " ".join((ROOT / "docs/guide.md").read_text().split())


def plain(text: str) -> str:
    """Return the text of a page without its fonts."""
    text = re.sub(r"\\f.|\\&|\\[,/]", "", text.replace("\\-", "-"))
    return re.sub(r"^\.(?:[BI]R?|RB|IR|RI) (.*)$", lambda match: match[1].replace('"', ""), text, flags=re.MULTILINE)


def section(title: str) -> str:
    [text] = re.findall(rf"^\.SH {title}\n(.*?)(?=^\.SH |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return plain(text)


def test_flags() -> None:
    options = section("OPTIONS")
    for flag in FLAGS:
        for name in flag.names.split():
            shown = re.search(rf"^\.TP\n(\S+( \S+)?, )?{re.escape(name)}\b.*\n\w", options, re.MULTILINE)
            assert flag.hidden is not bool(shown), name
        assert flag.hidden or not flag.group or f".SS {flag.group[0].upper()}{flag.group[1:]}\n" in options


def test_columns() -> None:
    source = (ROOT / "pwru/sinks/text.py").read_text()
    titles = {*re.findall(r'"([A-Z][A-Za-z/]*(?: NAME)?)"[]:]', source), "TUPLE", "FUNC", "CALLER", "TUNNEL"}
    titles |= {part.column.title for part in PARTS.values() if part.column}
    assert {"TIME", "TIMESTAMP", "SKB", "IFACE", "LEN", "__sk_buff->cb[]"} < titles
    shown = re.findall(r"^\.TP\n(\S+(?: NAME)?) +\(", section("COLUMNS"), re.MULTILINE)
    assert set(shown) == titles


def test_json_keys() -> None:
    keys = {part.key for part in PARTS.values() if part.key}
    for name in ("sinks/json.py", "sinks/details.py", "record/account.py"):
        source = (ROOT / "pwru" / name).read_text()
        keys |= set(re.findall(r'"([a-z]\w*)":', source))
        keys |= set(re.findall(r'(?:members|account)\["(\w+)"\]', source))
    assert {"skb", "verdict", "tuple_from", "payload_has_mac", "ring_buffer_busy", "waiting", "place"} < keys
    text = section("COLUMNS") + section("ACCOUNT")
    assert not {key for key in keys if not re.search(rf"\b{key}\b", text)}


def test_statuses_and_backends() -> None:
    statuses = re.findall(r"^\.TP\n(\d)$", section("EXIT STATUS"), re.MULTILINE)
    assert statuses == [str(int(status)) for status in Status]
    for backend in BACKENDS:
        assert re.search(rf"^(\S+, )?{backend}(,|$)", section("CAPABILITIES"), re.MULTILINE), backend


def test_examples() -> None:
    """They are the guide's."""
    blocks = re.findall(r"^\.EX\n(.*?)^\.EE", section("EXAMPLES"), re.MULTILINE | re.DOTALL)
    commands = "".join(blocks).replace("\\e\n", "").splitlines()
    assert len(commands) > 9
    for command in commands:
        assert command in GUIDE
        name, *arguments = shlex.split(command)
        assert name == "pwru"
        request = parse(arguments).request
        assert not request.filter or compile_filter(request.filter)


@pytest.mark.parametrize(("epoch", "date"), [("0", "1970-01-01"), ("1790000000", "2026-09-21")])
def test_the_date_can_be_given(epoch: str, date: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert page().splitlines()[0].split('"')[3] == date


def test_it_is_printed() -> None:
    command = [str(Path(sys.executable).with_name("pwru")), "--man"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == PAGE.splitlines()[1:]
    assert not done.stderr
