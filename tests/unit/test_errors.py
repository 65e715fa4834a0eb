"""Errors that need no kernel: one clear line, no traceback, nothing that harms the machine.

cli/test_cli.py has wrong command lines, filter/packet/test_pcap.py has filters that libpcap refuses.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from pwru import cli
from pwru.errors import PwruError
from pwru.filter.packet import Filter
from pwru.filter.packet import skb as packet
from pwru.filter.packet.pcap import compile_filter
from pwru.kernel import netns
from pwru.kernel.btf import functions, read_btf
from pwru.kernel.kernel import Kernel
from pwru.live import loader
from pwru.live.request import Request
from tests.unit.filter import harness
from tests.unit.interrupt import CHECKOUT, interrupted

DATA = Path(__file__).parent / "kernel/data"

# --- an interrupt while starting ---


@pytest.mark.parametrize(
    "at", ["argparse:<module>", "pwru.cli:main", "pwru.commands.trace:<module>", "pwru.commands.trace:trace"]
)
def test_interrupt_while_starting(at: str, tmp_path: Path) -> None:
    """It ends quietly, with the status that shells know as Ctrl-C."""
    status, err = interrupted(at, tmp_path, sys.executable, "-m", "pwru")
    assert (status % 256, err) in ((130, ""), (-signal.SIGINT % 256, ""))


# --- the line ---


def test_an_error_is_one_line_whatever_is_in_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors quote user input and names from the kernel; a terminal must not interpret them."""

    def fail(*_: object) -> None:
        raise PwruError("there is no interface eth0\nor \x1b[31mred\udcff, ge\u00df")

    monkeypatch.setattr("pwru.commands.trace.trace", fail)
    assert cli.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert re.search(r"eth0\\(n|x0a)or \\x1b\[31mred", line)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_nobody_reads_what_it_says_about_itself(flag: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "pwru", flag],
        cwd=CHECKOUT,
        env=buffered,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("asked", ["--check", "--help", "--version", "--man", "--completion=bash"])
def test_a_report_for_which_there_is_no_room(asked: str) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "pwru", asked]
        done = subprocess.run(command, cwd=CHECKOUT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "pwru: cannot write to standard output: No space left on device\n")


# --- filters ---


def test_thousands_of_terms() -> None:
    """The memory of libpcap's optimizer grows with the square of the length, beyond what a machine can spare."""
    expression = " or ".join(f"host 10.{n >> 8}.{n & 255}.1 and tcp port {n}" for n in range(1, 2001))
    code = (
        "import sys, resource; from pwru.errors import PwruError\n"
        "from pwru.filter.packet import Filter\n"
        "from pwru.filter.packet.pcap import compile_filter\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))\n"  # protects the machine of this test
        "try: compile_filter(Filter(sys.stdin.read()))\n"
        "except PwruError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=CHECKOUT, input=expression, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    line, kilobytes = done.stdout.splitlines()
    assert "too long" in line
    assert len(line) < 400, "the filter is quoted as a whole"
    assert int(kilobytes) < 1 << 20


def test_a_namespace_beyond_all_inodes() -> None:
    """Inodes of namespaces have 32 bits (struct ns_common), as have the numbers that the BPF program compares."""
    assert netns.resolve_netns(f"inode:{2**32 - 1}") == 2**32 - 1
    for number in (2**32, 10**30):
        with pytest.raises(PwruError, match=f"network namespace inode:{number}: "):
            netns.resolve_netns(f"inode:{number}")


# --- files ---


@pytest.fixture(scope="module")
def image() -> bytes:
    return harness.harness_image()


def object_of_tcp(path: Path) -> bytes:
    wanted = Filter("tcp")
    kernel = Kernel(str(DATA / "sample.elf"))
    return loader.Loader(Request(filter=wanted), kernel, [], path.read_bytes()).splice({}, compile_filter(wanted))


@pytest.mark.parametrize("damage", ["", "junk", "cut", "header only", "without its end", "another"])
def test_a_damaged_object(damage: str, image: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detected when the filter is spliced in. Without a filter libbpf refuses the object: see tests/kernel."""
    path = tmp_path / "pwru.bpf.o"
    path.write_bytes(
        {
            "": b"",
            "junk": b"junk" * 100,
            "cut": image[: len(image) // 2],
            "header only": image[:64],
            "without its end": image[:-64],
            "another": (DATA / "sample.elf").read_bytes(),
        }[damage]
    )
    monkeypatch.setattr(loader, "OBJECT", path)
    monkeypatch.setattr(packet, "skb_layout", lambda _btf: [184, 186, 188, 200, 208, 112])
    with pytest.raises(PwruError) as error:
        object_of_tcp(path)
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()


def test_damaged_btf_is_named_however_late_it_is_found_out(tmp_path: Path) -> None:
    """Its header is intact, so the damage shows only when types are looked up."""
    with (DATA / "sample.elf").open("rb") as file:
        elf: Any = ELFFile(file)
        data = bytearray(elf.get_section_by_name(".BTF").data())
    data[100:200] = b"\xff" * 100
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with pytest.raises(PwruError, match=re.escape(str(path))):
        functions(read_btf(path), "sk_buff")
