"""Output files: a trace that continues in the next file loses nothing."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

import pytest

from vmtest.network import Network
from vmtest.udp import send_udp

from .tracing import LINE, Start

FILTER = ("udp and dst port 9999",)


@pytest.mark.one_kernel
@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
def test_rotation(network: Network, pwru: Start, tmp_path: Path, json: bool) -> None:
    """Each line is complete in one of the files, and their number is that of the account."""
    path = tmp_path / "trace.log"
    flags = [f"--output-file={path}", "--output-file-max-size=1", "--output-file-compress", f"--output-json={json}"]
    with pwru(*flags, *FILTER) as trace:
        while len(list(tmp_path.glob("trace-*"))) < 2:
            send_udp(network, 200)
        assert trace.stop() == 0
    assert trace.out == ""
    files = [*sorted(tmp_path.glob("trace-*")), path]
    lines = []
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert (file.suffix == ".gz") == (file != path)
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert len(data) <= 1 << 20
        header, *rest = data.decode().splitlines() if not json else ("", *data.decode().splitlines())
        assert json or header.startswith("SKB ")
        lines += rest
    for line in lines:
        assert line.startswith('{"skb"') and line.endswith("}") if json else LINE.fullmatch(line), line
    printed, lost = trace.totals()
    assert len(lines) == printed
    assert not lost
