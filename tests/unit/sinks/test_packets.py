"""Which packets are told apart, how many they are, and how much is remembered of them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from pwru.record.event import Task
from pwru.record.memo import CACHE_LIMIT, Memo
from pwru.sinks.json import Json
from pwru.sinks.lines import Format, LineStyle
from pwru.sinks.skbs import SKB_LIMIT, Skbs
from pwru.sinks.text import Text
from tests.support.records import addresses, cut, hit, meta, record, schema, task
from tests.support.source import FakeNames

HERE, END = hit(0xA), hit(0xE)
BOLD = "\x1b[1m"
FORMATS = pytest.mark.parametrize("form", [Text, Json])


def made(form: type[Format], *, color: bool = False) -> Format:
    return form(schema(), FakeNames(ends={0xE}), LineStyle(color=color))


def see(form: Format, skbs: Iterable[int], at: bytes = HERE) -> list[str]:
    """Return the lines of an event of each of these skbs."""
    return form.events(cut(form.schema, *(record(skb=skb, hit=at) for skb in skbs))).splitlines()


def test_packets_are_counted() -> None:
    """An address that is used again counts again once its end was seen, and so does another end."""
    text = made(Text)
    runs = [(1, HERE), (2, HERE), (1, END), (2, HERE), (1, HERE), (1, END), (1, END), (2, HERE)]
    for skb, run in runs:
        see(text, [skb], run)
    assert text.packets == 4
    see(text, [2, 3])
    assert text.packets == 5


@pytest.mark.parametrize(
    ("path", "packets"),
    [
        ("HE", 1),
        ("HEAL", 1),  # released by the functions that the end calls
        ("HEALHEAL", 2),
        ("HAH", 1),  # its data was released, and other data taken
        ("HALHAL", 2),  # no end but the last function
        ("L", 1),
        ("LL", 1),  # two packets without anything between their ends cannot be told apart
        ("EALEAL", 2),
    ],
)
@FORMATS
def test_functions_after_the_end_have_the_same_packet(form: type[Format], path: str, packets: int) -> None:
    at = {"H": HERE, "E": END, "A": hit(0xF), "L": hit(0x10)}
    output = form(schema(), FakeNames(ends={0xE, 0x10}, after_ends={0xF, 0x10}))
    for function in path:
        see(output, [7], at[function])
    assert output.packets == packets


@FORMATS
def test_packets_that_return_are_counted_once(form: type[Format]) -> None:
    """However many there are: their texts are forgotten at CACHE_LIMIT, the packets are not."""
    output = made(form)
    for _ in range(3):
        assert len(see(output, range(CACHE_LIMIT + 1))) == CACHE_LIMIT + 1
    assert output.packets == CACHE_LIMIT + 1


@FORMATS
def test_an_address_counts_again_after_its_end(form: type[Format]) -> None:
    output = made(form)
    for _ in range(3):
        see(output, range(CACHE_LIMIT + 1))
        see(output, range(5), END)
    assert output.packets == CACHE_LIMIT + 1 + 2 * 5


@FORMATS
def test_packets_of_a_batch_of_which_a_part_is_printed(form: type[Format]) -> None:
    output = made(form)
    see(output, [1])
    batch = cut(output.schema, *(record(skb=skb, hit=HERE) for skb in (1, 2, 3, 2, 4)))
    output.events(batch)
    assert [output.packets_begun(batch[:printed]) for printed in range(6)] == [0, 0, 1, 2, 2, 3]


def test_only_the_first_line_of_a_packet_is_bold() -> None:
    text = made(Text, color=True)
    assert all(line.startswith(BOLD) for line in see(text, range(CACHE_LIMIT + 1)))
    assert not any(line.startswith(BOLD) for line in see(text, range(CACHE_LIMIT + 1)))
    see(text, [7], END)
    assert [line.startswith(BOLD) for line in see(text, [6, 7, 8, 7])] == [False, True, False, False]


def test_beyond_the_limit_the_packet_that_was_not_seen_for_longest_is_forgotten() -> None:
    """Should it come again, it counts again."""
    skbs = Skbs(hex, "new ")
    for skb in range(SKB_LIMIT):
        assert skbs[skb] == f"new {skb:#x}"
    assert (skbs[0], skbs.count) == ("0x0", SKB_LIMIT)
    assert (skbs[SKB_LIMIT], skbs.count) == (f"new {SKB_LIMIT:#x}", SKB_LIMIT + 1)  # 1 is forgotten
    for skb in range(3, CACHE_LIMIT + 3):  # no text is remembered after that
        assert skbs[skb] == f"{skb:#x}"
    assert (skbs[0], skbs[2], skbs.count) == ("0x0", "0x2", SKB_LIMIT + 1)
    assert (skbs[1], skbs.count) == ("new 0x1", SKB_LIMIT + 2)


class Counting(Text):
    """Counts how often each text is made."""

    def __init__(self) -> None:
        super().__init__(schema(), FakeNames())
        self.made = Counter[str]()

    def skb(self, address: int) -> str:
        self.made["skb"] += 1
        return super().skb(address)

    def task(self, task: Task) -> str:
        self.made["task"] += 1
        return super().task(task)

    def packet(self, parts: Mapping[str, Any]) -> str:
        self.made["packet"] += 1
        return super().packet(parts)


def test_caches_are_bounded() -> None:
    assert len(cache := Memo(hex)) == 0
    assert all(cache[n] == hex(n) and len(cache) <= CACHE_LIMIT for n in range(CACHE_LIMIT + 100))
    text, seen = Counting(), 0
    for start in range(0, CACHE_LIMIT + 100, 1000):
        numbers = range(start, start + 1000)
        batch = [record(skb=n, task=task(n), packet=meta(mark=n) + addresses()) for n in numbers]
        assert len(text.events(cut(text.schema, *batch)).splitlines()) == 1000
        seen += 1000
    assert text.made == dict.fromkeys(("skb", "task", "packet"), seen)
    text.events(cut(text.schema, *batch[-100:]))  # these are still known
    assert text.made == dict.fromkeys(("skb", "task", "packet"), seen)
    text.events(cut(text.schema, record(skb=0, task=task(0), packet=meta(mark=0) + addresses())))
    assert text.made == dict.fromkeys(("skb", "task", "packet"), seen + 1)
    assert text.packets == seen


_A_MILLION = """
import struct
from pathlib import Path
from pwru.record.names import Function
from pwru.sinks.text import Text
from tests.support.records import hit, record, schema
from tests.support.source import FakeNames

BATCH = 1000
made = {"skb": 0, "task": 0, "packet": 0, "function": 0}

def counted(name, make):
    def counting(*arguments):
        made[name] += 1
        return make(*arguments)
    return counting

class Counting(Text):
    skb = counted("skb", Text.skb)
    task = counted("task", Text.task)
    packet = counted("packet", Text.packet)
    function = counted("function", Text.function)

one = record(hit=hit(0xE))
batch = bytearray(one * BATCH)
text = Counting(schema(), FakeNames(ends={0xE}))

def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])

before = 0
for start in range(0, 1_000_000, BATCH):
    if start == 100_000:
        before = peak()
    for number in range(BATCH):
        # In each part: the skb, the PID, what stands for the reason, and the packet's mark.
        at, value = number * len(one), start + number
        for offset in (0, 12, 40, 52):
            struct.pack_into("=I", batch, at + offset, value)
    text.events(list(struct.iter_unpack("=" + text.schema.format, batch)))
assert set(made.values()) == {1_000_000}, made
print(peak() - before)
"""


def test_memory_is_bounded() -> None:
    """A million events that have nothing in common, in a process of their own: after 100 000 it grows no more."""
    done = subprocess.run([sys.executable, "-c", _A_MILLION], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2048  # kB
