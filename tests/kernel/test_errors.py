"""Bad input and unsuitable systems: one clear line that says what is wrong and what to do, status 1, nothing attached.

tests/unit/test_errors.py has the errors that need no kernel, test_stop.py has signals and how traces end.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from vmtest.network import Network, sh

from .backends import NARROW
from .leftovers import PATIENCE, PROMPT, wait_for
from .refusals import (
    CANNOT_MOUNT,
    LIBPCAP,
    NO_BTF,
    NO_TRACEFS,
    OBJECT,
    PACKAGE,
    VMLINUX,
    newest_program,
    refused,
    run,
    working,
)

pytestmark = [pytest.mark.one_kernel, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture(scope="module", autouse=True)
def _libbpf_has_tried_what_the_kernel_can() -> None:
    """The first load in a process also loads libbpf's programs that probe for kernel features."""
    newest_program()


# --- permissions ---


@pytest.mark.parametrize("how", ["setpriv --bounding-set=-syslog --inh-caps=-all", "restricted"])
def test_symbols_that_the_kernel_hides(tmp_path: Path, how: str) -> None:
    """What needs no symbols still works: drops are shown, with their location as an address."""
    restrict = Path("/proc/sys/kernel/kptr_restrict")
    before = restrict.read_text()
    restrict.write_text("2" if how == "restricted" else "1")
    run_by = "" if how == "restricted" else f'exec {how} "$@"'
    try:
        with working(tmp_path, "--output-caller", "udp port 9", before=run_by) as trace:
            sh(
                sys.executable,
                "-c",
                "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))",
            )
            trace.wait_for_func(r" tracepoint:kfree_skb\S* 0x[0-9a-f]+\n")
    finally:
        restrict.write_text(before)
    reason = "/proc/kallsyms: the kernel hides the addresses in it; to be shown them takes CAP_SYSLOG"
    assert trace.err.count(reason) == 2
    assert trace.err.startswith(f"Not available: kprobe-multi, kprobe, fentry: {reason}")


def test_not_root() -> None:
    line = refused("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "pwru")
    assert line == "pwru: not permitted: CAP_BPF and CAP_PERFMON missing; run it as root (sudo pwru …)"


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("sys_admin,-bpf", ["CAP_BPF"]),
        ("sys_admin,-perfmon", ["CAP_PERFMON"]),
        ("sys_admin,-bpf,-perfmon", ["CAP_BPF", "CAP_PERFMON"]),
    ],
)
def test_a_missing_capability(without: str, named: list[str]) -> None:
    line = refused("setpriv", f"--bounding-set=-{without}", "--inh-caps=-all", "pwru", *NARROW, loads=True)
    assert re.findall(r"CAP_\w+", line) == named


def test_capabilities_of_a_user_namespace() -> None:
    """Anybody can be root there, with all capabilities in /proc/self/status; BPF ignores them."""
    line = refused("unshare", "--user", "--map-root-user", "pwru", *NARROW)
    assert "user namespace" in line


# --- what was typed ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tcp prot 80"], r"pcap filter 'tcp prot 80': .*syntax error, at or after 'prot 80'"),
        (["host", "999.1.1.1"], r"pcap filter 'host 999\.1\.1\.1': .*999\.1\.1\.1.*"),
        (["ip6 protochain 6"], r"pcap filter: `protochain` .*; name the protocol that follows instead, .*"),
        (
            [" or ".join(f"host 10.{n >> 8}.{n & 255}.1 and tcp port {n}" for n in range(1, 1001))],
            r"pcap filter: too long: .*",
        ),
        (
            ["--filter-skb-expr", "skb->mrak == 1", "tcp"],
            r"--filter-skb-expr: column 6: .*; did you mean mark\?",
        ),
        (["--filter-skb-expr="], r"--filter-skb-expr: it is empty; .*"),
        (["--filter-trace-xdp", "--filter-xdp-expr", "xdp->dta == 0"], r"--filter-xdp-expr: .*; did you mean data\?"),
        (["--filter-netns", "/run/netns/serve"], r"network namespace /run/netns/serve: .*; did you mean server\?"),
        (["--filter-netns", "sevrer"], r"network namespace sevrer: .*; did you mean server\?"),
        (["--filter-ifname", "lo:99999"], r"there is no interface lo:99999 in .*; did you mean lo\?"),
        (["--filter-netns", "/proc/self/ns/mnt"], r"/proc/self/ns/mnt is not a network namespace \(.*\)"),
        (["--filter-netns", "/etc/passwd"], r"/etc/passwd is not a network namespace \(.*\)"),
        (["--filter-netns", "inode:eth0"], r"network namespace inode:eth0: the inode has to be a number, .*"),
        (["--filter-netns", f"inode:{1 << 32}"], r"network namespace inode:4294967296: .*"),
        (["--filter-netns", ""], r".*network namespace.*"),
        (["--filter-netns=inode:1", "--filter-ifname=lo"], r"there is no process in network namespace inode:1, .*"),
        (
            ["--filter-netns=/run/netns/client", "--filter-ifname=v1"],
            r"there is no interface v1 in .*; there is .*v0.*",
        ),
        # A module that was loaded for a test may have brought devices of its own.
        (["--filter-ifname", "l0"], r"there is no interface l0 in this network namespace; there is .*\blo\b.*"),
        (["--filter-ifname", "lo\nlo"], r"there is no interface .* in this network namespace; .*"),
        (["--filter-ifname", ""], r".*interface.*"),
        (["--filter-func", "ip_(rcv"], r"--filter-func ip_\(rcv: .* at character 4"),
        (["--filter-func", "iprcv"], r"--filter-func iprcv: matches no function .*; did you mean .*\bip_rcv\b.*"),
        (["--filter-func", "p_rc"], r"--filter-func p_rc: .*the whole name has to match.*; did you mean .*p_rc.*"),
        (
            ["--backend=tracepoint", "--filter-func=kfree_skbb"],
            r"--filter-func kfree_skbb: .*did you mean kfree_skb\b.*",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:40],
)
def test_what_was_typed_is_wrong(arguments: list[str], message: str, network: Network) -> None:
    # Backends are probed before the functions and the packet filter are checked.
    early = arguments[0].startswith(("--filter-netns", "--filter-ifname"))
    line = refused("pwru", *arguments, loads=not early)
    assert re.fullmatch(f"pwru: {message}", line)


# --- BTF ---


@pytest.mark.parametrize("arguments", [(), ("--kernel-btf", str(OBJECT))])
def test_no_btf(arguments: tuple[str, ...]) -> None:
    """With a file, too: libbpf resolves kfuncs in the kernel's own BTF only."""
    line = refused("pwru", *arguments, *NARROW, before=NO_BTF)
    assert line == (
        "pwru: this kernel has no BTF, which BPF programs need; boot one that is built with CONFIG_DEBUG_INFO_BTF"
    )


def test_btf_of_another_kernel(tmp_path: Path) -> None:
    """One type has another name."""
    file = tmp_path / "btf"
    file.write_bytes(VMLINUX.read_bytes().replace(b"\0sk_buff\0", b"\0sk_buzz\0"))
    line = refused("pwru", "--kernel-btf", str(file), *NARROW)
    assert line == f"pwru: --kernel-btf: {file} is not of this kernel, which has BTF of its own: leave it out"


def test_btf_from_an_elf_file(tmp_path: Path, network: Network) -> None:
    file = tmp_path / "vmlinux"
    file.write_bytes(_elf_with_btf(VMLINUX.read_bytes()))
    with working(tmp_path, "--kernel-btf", str(file), *NARROW, "icmp") as trace:
        network.ping()
        trace.wait_for_func(r"10\.9\.0\.2:0->10\.9\.0\.1:0\(icmp\) icmp_rcv")


def _elf_with_btf(btf: bytes) -> bytes:
    """An ELF file with this .BTF section."""
    image = bytearray(OBJECT.read_bytes())
    image += bytes(-len(image) % 8)
    elf = _elf()
    number = elf.get_section_index(".BTF")
    struct.pack_into("<QQ", image, elf["e_shoff"] + number * elf["e_shentsize"] + 24, len(image), len(btf))
    return bytes(image + btf)


def _elf() -> Any:
    return ELFFile(BytesIO(OBJECT.read_bytes()))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("/absent", "/absent: No such file"),
        ("/", "/: Is a directory"),
        ("/etc/passwd", "/etc/passwd: not BTF"),
        ("/dev/null", "/dev/null: it is not a regular file; copy it into one"),
        ("/dev/zero", "/dev/zero: it is not a regular file"),
        ("/proc/kcore", r"/proc/kcore: the ELF file has no \.BTF section"),
        ("/proc/version", "/proc/version: BTF is too short"),
        ("/bin/true", r"/bin/true: the ELF file has no \.BTF section"),
        ("half", "half: BTF is cut off or damaged"),
        ("holed", "holed is not of this kernel"),
    ],
)
def test_not_btf(file: str, message: str, tmp_path: Path) -> None:
    if not file.startswith("/"):
        data = VMLINUX.read_bytes()
        damaged = {"half": data[: len(data) // 2], "holed": data[:200] + b"\xff" * 1000 + data[1200:]}[file]
        file = str(tmp_path / file)
        Path(file).write_bytes(damaged)
    assert re.search(message, refused("pwru", "--kernel-btf", file, *NARROW, loads=True))


# --- the product's own files, and the libraries ---


def test_no_object(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "pwru", ignore=shutil.ignore_patterns(OBJECT.name))
    line = refused("pwru", *NARROW, before=f"mount --bind {tmp_path / 'pwru'} {PACKAGE}", loads=True)
    assert re.search(f"{OBJECT} cannot be read .No such file or directory.; build it", line)


@pytest.mark.parametrize("pcap_filter", [[], ["icmp"]], ids=["all", "filtered"])
@pytest.mark.parametrize("damage", ["", "junk", "half", "without its end", "another"])
def test_a_damaged_object(damage: str, pcap_filter: list[str], tmp_path: Path) -> None:
    """Without a filter, libbpf is the first to read it."""
    image = OBJECT.read_bytes()
    file = tmp_path / "object"
    file.write_bytes(
        {
            "": b"",
            "junk": b"junk" * 1000,
            "half": image[: len(image) // 2],
            "without its end": image[:-64],
            "another": Path("/bin/true").read_bytes(),
        }[damage]
    )
    line = refused("pwru", *NARROW, *pcap_filter, before=f"mount --bind {file} {OBJECT}", loads=True)
    assert str(OBJECT) in line
    assert re.search("build|install", line)


def test_the_kernel_refuses_the_program(tmp_path: Path) -> None:
    """Each program begins with an instruction that reads an uninitialised register."""
    image = bytearray(OBJECT.read_bytes())
    elf = _elf()
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        if symbol["st_info"]["type"] == "STT_FUNC":
            section = elf.get_section(symbol["st_shndx"])
            if "kprobe" in section.name:
                r6_is_r5 = bytes((0xBF, 0x56, *bytes(6)))
                at = section["sh_offset"] + symbol["st_value"]
                image[at : at + 8] = r6_is_r5
    file = tmp_path / "object"
    file.write_bytes(image)
    before = f"mount --bind {file} {OBJECT}"
    line = refused("pwru", *NARROW, before=before, loads=True)
    assert re.fullmatch(r"pwru: the kernel refused the BPF programs?: .*; --debug shows why", line)

    done = run("pwru", "--debug", *NARROW, before=before)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("debug: ")]
    assert done.returncode == 1
    assert "R5 !read_ok" in done.stderr
    assert "Traceback" not in done.stderr
    assert lines[-1].startswith("pwru: the kernel refused the BPF program")
    assert len(lines) < 30


@contextmanager
def missing(library: str) -> Iterator[Path]:
    """Hide the library from the dynamic linker."""
    (path,) = Path("/usr/lib").glob(f"*/{library}")
    away = path.with_name("away")
    path.rename(away)
    try:
        yield path
    finally:
        away.rename(path)


def test_no_libbpf() -> None:
    with missing("libbpf.so.1"):
        line = refused("pwru", *NARROW)
    assert "libbpf cannot be loaded: libbpf.so.1: cannot open shared object file" in line
    assert line.endswith("install it (Debian, Ubuntu: apt install libbpf1)")


# What hides the library in the Python package `libpcap`.
NO_PACKAGE = f"mount -t tmpfs none {LIBPCAP}/_platform/linux/{os.uname().machine}"


def test_no_libpcap(tmp_path: Path, network: Network) -> None:
    """That of the Python package stands in for the system's."""
    with missing("libpcap.so.0.8"):
        with working(tmp_path, *NARROW, "icmp") as trace:
            network.ping()
            trace.wait_for_func("icmp_rcv")
        line = refused("pwru", *NARROW, "icmp", before=NO_PACKAGE, loads=True)
    assert line.endswith("this system lacks: install it (Debian, Ubuntu: apt install libpcap0.8)")


def test_libpcap_is_for_filters_only(tmp_path: Path) -> None:
    with missing("libpcap.so.0.8"), working(tmp_path, *NARROW):
        pass


@pytest.mark.parametrize(("library", "package"), [("libbpf.so.1", "libbpf1"), ("libpcap.so.0.8", "libpcap0.8")])
def test_a_damaged_library(library: str, package: str) -> None:
    (path,) = Path("/usr/lib").glob(f"*/{library}")
    before = f"{NO_PACKAGE}; mount --bind /etc/passwd {path.resolve()}"
    line = refused("pwru", *NARROW, "icmp", before=before, loads=True)
    assert f"install it (Debian, Ubuntu: apt install {package})" in line


# --- output ---


@pytest.mark.parametrize("flag", ["--output-file", "--ready-file"])
@pytest.mark.parametrize(
    ("file", "reason"), [("/absent/file", "No such file or directory"), ("/tmp", "Is a directory")]
)
def test_unwritable(flag: str, file: str, reason: str) -> None:
    line = refused("pwru", *NARROW, flag, file)
    assert re.fullmatch(f"pwru: {flag}: cannot (write|create) {file}: {reason}", line)


def test_no_ready_file_for_a_trace_that_fails(tmp_path: Path) -> None:
    """A script that waits for the file must not continue."""
    file = tmp_path / "ready"
    refused("pwru", "--filter-func", "nothing_like_it", "--ready-file", str(file), loads=True)
    assert not file.exists()


def test_a_ready_file_of_an_earlier_trace(tmp_path: Path) -> None:
    """It would say that this one is ready."""
    file = tmp_path / "ready"
    file.touch()
    refused("pwru", "--filter-func", "nothing_like_it", "--ready-file", str(file), loads=True)
    assert not file.exists()


@pytest.mark.parametrize("traffic", ["one ping", "flood"])
def test_head(traffic: str, network: Network, tmp_path: Path) -> None:
    """The trace ends with its reader, whether or not more events arrive, with an account, and that is not an error."""
    script = """
        pwru "$@" 2>err | { head -n 3; date +%s.%N >seen; }
        echo "${PIPESTATUS[0]} $(date +%s.%N)" >ended
    """
    ping = ["ip", "netns", "exec", "client", "ping", "-q", *["-f"] * (traffic == "flood"), "-c1000", "-w60"]
    shell = subprocess.Popen(
        ["bash", "-c", script, "bash", *NARROW, "icmp"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    err = tmp_path / "err"
    wait_for(lambda: err.exists() and "Listening" in err.read_text())
    if traffic == "flood":
        noise = subprocess.Popen([*ping, network.destination], stdout=subprocess.DEVNULL)
    else:
        network.ping()
    out, _ = shell.communicate(timeout=PATIENCE)
    if traffic == "flood":
        noise.kill()
        noise.wait()
    assert len(out.splitlines()) == 3
    status, ended = (tmp_path / "ended").read_text().split()
    assert status == "0"
    assert float(ended) - float((tmp_path / "seen").read_text()) < PROMPT
    assert re.match(r"\d+ events? of (at least )?\d+ packets?, ", err.read_text().splitlines()[-1])


def test_a_full_disk(network: Network) -> None:
    process = subprocess.Popen(
        ["pwru", *NARROW, "--output-file=/dev/full"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err.splitlines()[-1] == "pwru: cannot write to /dev/full: No space left on device"
    assert "Traceback" not in err


def test_standard_output_is_closed() -> None:
    """Descriptor 1 must not be reused for another file, to which events would then be written."""
    line = refused("sh", "-c", f"exec {shlex.join(['pwru', *NARROW])} >&-")
    assert "standard output" in line


# --- backends ---


def test_no_tracefs() -> None:
    line = refused(*CANNOT_MOUNT, "pwru", "--backend=kprobe", *NARROW, before=NO_TRACEFS)
    assert "kprobe: tracefs is not mounted and cannot be (Operation not permitted): mount -t tracefs " in line
