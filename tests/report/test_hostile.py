"""What comes from the wire, from processes and from devices is text: none of it runs, and nothing leaves the page."""

from __future__ import annotations

from pathlib import Path

from pwru.record.names import Function, Hit
from tests.support import records
from tests.support.source import FakeNames
from tests.support.traffic import SCHEMA, payload, write

from .viewer import Viewer, search

IFNAME, COMM = "<img src=x/on", "</script><b>x"  # 15 bytes at most
NETNS = "<script src='http://evil.example/x.js'></script>"
FUNCTION = "</script><script>window.ran = 1</script>\u2028\u2029<!--"
CALLER = '"><svg onload="window.ran = 1">'
BYTES = b"</script><script>window.ran=1"
WORD = "</title><script>window.ran = 1</script>${style}"


def hostile(path: Path) -> None:
    record = records.record(
        task=records.task(7, COMM.encode()),
        hit=records.hit(1, 0, 5),
        packet=records.meta(netns=9, ifname=IFNAME.encode()) + records.addresses(),
        rest=records.follow(1 << 20) + records.u64(10**9) + payload(BYTES, len(BYTES), has_mac=False),
    )

    def function(_: Hit) -> Function:
        return Function(FUNCTION, CALLER, drops=True)

    names = FakeNames(function, netns=lambda: {9: NETNS})
    write(path, records.cut(SCHEMA, record), names, ["--report", WORD])


def test_nothing_runs(viewer: Viewer, tmp_path: Path) -> None:
    """All of it is shown as it is; the fixture has the complaints of the browser."""
    path = tmp_path / "report.html"
    hostile(path)
    page = viewer.open(path)
    page.locator("table.steps tr.press").click()
    shown = page.inner_text("body")
    for text in (WORD, IFNAME, COMM, NETNS, CALLER, BYTES.decode()[:16], FUNCTION.partition("\u2028")[0]):
        assert text in shown, text
    assert search(page, "<script").startswith("1 ")
    page.locator("#drops tbody tr").click()
    page.locator(".timeline .mark").hover()
    assert page.evaluate("window.ran") is None
    assert page.locator("img, b:not(.place b), script").count() == 2  # the data and the program
    text = path.read_text()
    assert text.count("<script") == text.count("</script") == 2
    assert "evil" in text
    assert "<img" not in text


def test_the_policy_holds(viewer: Viewer, tmp_path: Path) -> None:
    """Even if something got into the page as markup."""
    path = tmp_path / "report.html"
    hostile(path)
    page = viewer.open(path)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = 1";
            const image = document.createElement("img");
            image.src = "http://evil.example/x.png";
            const style = document.createElement("style");
            style.textContent = "body { display: none }";
            document.body.append(script, image, style);
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    assert page.is_visible("#command")
    refused = [complaint for complaint in viewer.complaints if complaint.startswith("refused: ")]
    assert {complaint.split()[1] for complaint in refused} == {"script-src-elem", "img-src", "style-src-elem"}
    viewer.complaints.clear()
