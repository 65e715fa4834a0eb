"""What a report shows, and what a click, a key or a word in the search does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.page import Page as Known
from tests.support.source import FakeNames
from tests.support.traffic import ABOUT, COMMAND, write

from .viewer import Viewer, rows, search

DROPPED, AGAIN, STUCK = 4, 31, 41  # packets of the traffic


def test_what_was_asked(viewer: Viewer, made_up: Path) -> None:
    page = viewer.open(made_up)
    assert page.inner_text("#command") == shlex.join(["pwru", *COMMAND])
    facts = page.inner_text("#facts")
    account = Known(made_up.read_text()).data["run"]["account"]
    assert "6.12.43+deb13-amd64 x86_64" in facts
    assert f"{ABOUT.version}, kprobe-multi" in facts
    assert account in facts
    assert account.endswith("events of 400 packets, 0 lost")
    assert page.inner_text("#count") == "400 packets"
    assert not page.is_visible("#notice")


def test_drops(viewer: Viewer, made_up: Path) -> None:
    """They add up to all drops of the data."""
    page = viewer.open(made_up)
    drops = rows(page.locator("#drops"))
    assert {tuple(row[1:]) for row in drops} == {
        ("NETFILTER_DROP", "nft_do_chain", "veth-client:4", "router", "swapper/2"),
        ("NO_SOCKET", "__udp4_lib_rcv", "eth0:2", "server", "swapper/2"),
        ("NO_SOCKET", "tcp_v4_rcv", "eth0:2", "server", "swapper/2"),
    }
    assert sum(int(row[0]) for row in drops) == len(Known(made_up.read_text()).data["drops"])


def test_ways(viewer: Viewer, made_up: Path) -> None:
    page = viewer.open(made_up)
    ways = rows(page.locator("#ways"))
    assert sum(int(row[0]) for row in ways) == 400
    assert len(ways) == 6
    filtered = next(row for row in ways if "nft_do_chain" in row[5])
    assert re.search(r"^__tcp_transmit_skb\s*→.*→\s*sk_skb_reason_drop\(NETFILTER_DROP\)$", filtered[5], re.S)
    page.locator("#ways tbody tr", has_text="nft_do_chain").get_by_role("button").click()
    assert page.inner_text("#packet .id") == filtered[6]


def test_latencies(viewer: Viewer, made_up: Path) -> None:
    """A click on a column leaves its packets."""
    page = viewer.open(made_up)
    columns = page.locator("#latency .bar-of")
    counts = [int(text) for text in columns.locator("text").all_text_contents()]
    assert sum(counts) == 400
    columns.first.click()
    assert page.inner_text("#count") == f"{counts[0]} of 400 packets"
    longest = max(packet.times[-1] for packet in Known(made_up.read_text()).packets)
    page.locator("#filters .chip").click()
    assert page.locator("#latency dd").last.inner_text() == f"{longest / 1e9:.2f} s"


def test_open_a_packet(viewer: Viewer, made_up: Path) -> None:
    """Its lanes, and its steps as the data have them; a click shows what was recorded, another one hides it."""
    known = Known(made_up.read_text()).packets[DROPPED - 1]
    page = viewer.open(made_up, packet=1)
    page.locator("#list .number").get_by_text(f"#{DROPPED}", exact=True).click()
    assert page.url.endswith(f"#{DROPPED}")
    assert page.inner_text("#packet h2").startswith(f"#{DROPPED}")
    assert page.locator("#packet .badge").first.inner_text() == "NETFILTER_DROP"
    assert page.locator(".timeline .netns").all_text_contents() == ["client", "router"]
    assert page.locator(".timeline .mark").count() == len(known.times)
    steps = page.locator("table.steps tr.press")
    assert [row.locator("td .func").inner_text() for row in steps.all()] == known.functions
    drop = page.locator("table.steps tr.drop")
    drop.click()
    detail = page.inner_text(".details")
    for text in (
        "SKB_DROP_REASON_NETFILTER_DROP",
        "nft_do_chain",
        "veth-client:4",
        "router (4026532301)",
        "GET /index",
    ):
        assert text in detail
    drop.click()
    assert page.locator(".details").count() == 0


def test_what_changed_is_marked(viewer: Viewer, made_up: Path) -> None:
    """The router counts down the TTL; the driver has a header more, with which nothing can be compared."""
    page = viewer.open(made_up, packet=1)
    page.locator("table.steps tr.press", has_text="dev_hard_start_xmit").first.click()
    assert page.locator(".hex").count() == 1
    assert page.locator(".hex mark").count() == 0
    page.locator("table.steps tr.press", has_text="ip_forward_finish").click()
    assert page.locator(".hex mark").all_inner_texts() == ["3f"]
    assert re.search(r"\d+ → \d+ bytes", page.inner_text("table.steps"))


def test_packets_that_are_sent_again(viewer: Viewer, made_up: Path) -> None:
    """Each skb has a line, and the pause between them is a gap of the time line."""
    page = viewer.open(made_up, packet=AGAIN)
    assert "sent 3 times" in page.inner_text("#packet .heading")
    assert page.locator(".timeline .thread").count() == 3
    assert page.locator(".timeline .pause-label").all_text_contents() == ["1.01 s", "1.02 s"]
    assert page.locator("table.steps .relation").all_inner_texts() == [f"clone of #{AGAIN}"] * 3
    page.get_by_role("button", name="Steps", exact=True).click()
    assert page.locator(".timeline .pause").count() == 0


def test_a_click_in_the_time_line_opens_the_step(viewer: Viewer, made_up: Path) -> None:
    page = viewer.open(made_up, packet=DROPPED)
    mark = page.locator(".timeline .mark.drop")
    mark.hover()
    assert "NETFILTER_DROP" in page.inner_text("#tip")
    mark.click()
    assert "SKB_DROP_REASON_NETFILTER_DROP" in page.inner_text(".details")


def test_search(viewer: Viewer, made_up: Path) -> None:
    """All words have to match; what has a minus must not."""
    page = viewer.open(made_up)
    known = Known(made_up.read_text()).packets

    def count(words: str) -> int:
        return int(search(page, words).split()[0])

    tcp = sum(" tcp" in packet.addresses for packet in known)
    filtered = sum("nft_do_chain" in packet.functions for packet in known)
    assert count("nft_do_chain") == filtered
    assert count("TCP") == tcp
    assert count("tcp -nft_do_chain") == tcp - filtered
    assert count("10.9.1.77") == sum("10.9.1.77" in packet.addresses for packet in known)
    assert count("veth-server") == count("10.9.1.77")
    assert count("curl:4711") == count("curl") > 0
    assert count(f"#{AGAIN}") == 1
    assert page.inner_text("#list .row .number") == f"#{AGAIN}"
    assert count("nothing-like-this") == 0
    assert "None" in page.inner_text("#drops") or "No packets" in page.inner_text("#drops")
    page.keyboard.press("Escape")
    assert page.inner_text("#count") == "400 packets"


@pytest.mark.parametrize(("kind", "packet"), [("dropped", DROPPED), ("unseen", STUCK), ("retransmitted", AGAIN)])
def test_what_went_wrong(viewer: Viewer, made_up: Path, kind: str, packet: int) -> None:
    page = viewer.open(made_up)
    chip = page.locator(f".chip[data-kind={kind}]")
    count = chip.locator(".number").inner_text()
    chip.click()
    assert page.inner_text("#count") == f"{count} of 400 packets"
    assert page.inner_text("#list .row .number") == f"#{packet}"
    page.locator(f".chip[data-kind={kind}]").click()
    assert page.inner_text("#count") == "400 packets"


def test_a_click_on_a_drop_filters(viewer: Viewer, made_up: Path) -> None:
    page = viewer.open(made_up)
    count = rows(page.locator("#drops"))[0][0].strip()
    page.locator("#drops tbody tr").first.click()
    assert page.inner_text("#count") == f"{count} of 400 packets"
    assert len(rows(page.locator("#drops"))) == 1
    page.locator("#filters .chip").click()
    assert page.inner_text("#count") == "400 packets"


def test_order_and_keys(viewer: Viewer, made_up: Path) -> None:
    page = viewer.open(made_up)
    page.locator(".row.head .duration").click()
    longest = max(Known(made_up.read_text()).packets, key=lambda packet: packet.times[-1])
    assert page.inner_text("#list .row .number") == f"#{longest.number}"
    page.locator(".row.head .begin").click()
    page.locator("#list .row").first.click()
    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#packet .id") == "#2"
    page.keyboard.press("End")
    assert page.inner_text("#packet .id") == "#400"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_light_and_dark(viewer: Viewer, made_up: Path) -> None:
    def ground(scheme: str, clicks: int) -> int:
        page = viewer.open(made_up, scheme="dark" if scheme == "dark" else "light")
        for _ in range(clicks):
            page.click("#theme")
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(re.findall(r"\d+", color)[0])

    assert ground("light", 0) > 200
    assert ground("light", 1) < 50
    assert ground("light", 2) > 200
    assert ground("dark", 0) < 50
    assert ground("dark", 1) > 200


@pytest.mark.parametrize("width", [1440, 800, 400])
def test_nothing_is_wider_than_the_window(viewer: Viewer, made_up: Path, width: int) -> None:
    page = viewer.open(made_up, width=width, packet=AGAIN)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper(viewer: Viewer, made_up: Path) -> None:
    """Light, without what can only be clicked, and with rows that the screen scrolls to."""
    page = viewer.open(made_up, scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert not page.is_visible("#search")
    assert page.locator("#list .row").count() == 200
    assert "200 more" in page.inner_text("#list")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("#list .row").count() < 50


def test_a_trace_without_packets(viewer: Viewer, tmp_path: Path) -> None:
    write(tmp_path / "report.html", [], FakeNames())
    page = viewer.open(tmp_path / "report.html")
    assert page.inner_text("#count") == "0 packets"
    assert page.inner_text("#packet") == "Choose a packet to see its way."
