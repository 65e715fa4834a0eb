"""Compiling pcap expressions, and what a user reads when that fails."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.filter.packet import Filter, Insn, pcap
from pwru.filter.packet.pcap import DLT_EN10MB, DLT_RAW, Compiler, compile_expression, compile_filter
from pwru.filter.packet.translate import Body


def test_compiles_for_a_link_type() -> None:
    assert compile_expression("ip", DLT_EN10MB) == [
        Insn(0x28, 0, 0, 12),  # ldh [12]
        Insn(0x15, 0, 1, 0x0800),  # jeq #0x800
        Insn(0x06, 0, 0, 262144),  # ret #262144
        Insn(0x06, 0, 0, 0),  # ret #0
    ]
    assert compile_expression("ip", DLT_RAW)[0] == Insn(0x30, 0, 0, 0)  # ldb [0]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("tcp port http-nonsense", "http-nonsense"),
        ("tcp port 99999", "illegal port number 99999 > 65535"),
        ("net 10.0.0.0/33", "mask length must be <= 32"),
        ("tcp and udp", "expression rejects all packets"),
        ("ether[0:3] == 1", "data size must be 1, 2, or 4"),
        ("tcp \udcff", "syntax error"),  # a byte on the command line that is not UTF-8
    ],
)
def test_message_is_libpcaps(expression: str, message: str) -> None:
    with pytest.raises(PwruError) as caught:
        compile_filter(Filter(expression))
    assert message in str(caught.value)
    assert repr(expression) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "where"),
    [
        ("host 1.1.1.1 adn tcp", "'adn tcp'"),
        ("tcp and and port 80", "'and and port 80'"),
        ("tcp or udp) or icmp", "') or icmp'"),
    ],
)
def test_place_of_a_syntax_error(expression: str, where: str) -> None:
    with pytest.raises(PwruError, match="syntax error") as caught:
        compile_filter(Filter(expression))
    assert str(caught.value).endswith(f", at or after {where}")


def test_syntax_error_in_the_first_word() -> None:
    with pytest.raises(PwruError, match=r"syntax error$"):
        compile_filter(Filter("(tcp"))


@pytest.mark.parametrize("expression", ["arp", "ether host 02:00:00:00:00:01", "vlan 5"])
def test_libpcap_has_no_link_layer_expression_at_l3(expression: str) -> None:
    programs = compile_filter(Filter(expression))
    assert not programs.l3
    assert programs.l2


def test_loop() -> None:
    with pytest.raises(PwruError, match="`protochain` needs a loop") as caught:
        Body(compile_filter(Filter("ip6 protochain 6")).l2, None)
    assert "\n" not in str(caught.value)


def test_no_libpcap() -> None:
    """The package's own error is not for users."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
            "from pwru.filter.packet import pcap\n"
            "def missing(name): raise OSError\n"
            "pcap.CDLL = missing\n"
            "pcap.compile_filter(pcap.Filter('tcp'))",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == (
        "pwru.errors.PwruError: a pcap filter needs libpcap, which this system lacks: install it "
        "(Debian, Ubuntu: apt install libpcap0.8)"
    )


def test_libpcap_for_python_in_a_folder_of_pwrus_own(tmp_path: Path) -> None:
    """It is found there, with what it imports, and stays invisible to others."""
    run = [sys.executable, "-I", "-S", "-c"]  # without the packages that are installed
    code = (
        "import sys; from pathlib import Path; sys.path.append(sys.argv[1])\n"
        "from pwru import vendored; from pwru.filter.packet import pcap\n"
        "vendored.FOLDER, before = Path(sys.argv[2]), list(sys.path)\n"
        "print(len(pcap.compile_filter(pcap.Filter('tcp')).l2), sys.path == before)"
    )
    command = [*run, code, str(Path(__file__).parents[4]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "a pcap filter needs the Python package libpcap: pip install libpcap" in done.stderr
    for name in ("libpcap", "utlx"):
        spec = find_spec(name)
        assert spec
        assert spec.origin
        (tmp_path / name).symlink_to(Path(spec.origin).parent)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+ True\n", done.stdout)


def test_without_a_system_library_that_of_the_package_is_taken() -> None:
    code = (
        "from pwru.filter.packet import pcap\n"
        "real = pcap.CDLL\n"
        "def none_of_the_system(name):\n"
        "    if '/' not in name: raise OSError\n"
        "    return real(name)\n"
        "pcap.CDLL = none_of_the_system\n"
        "print([tuple(i) for i in pcap.compile_expression('tcp port 80', 1)])\n"
        "import libpcap._platform; print(libpcap._platform.DLL_PATH)"
    )
    program, path = printed_by(code).splitlines()
    assert program == str([tuple(insn) for insn in compile_expression("tcp port 80", DLT_EN10MB)])
    assert path.endswith(f"/libpcap/_platform/linux/{os.uname().machine}/tcpdump/libpcap.so")


def printed_by(code: str) -> str:
    """What this prints in a process of its own, which has imported nothing yet."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_no_ldconfig() -> None:
    """Without it ctypes.util.find_library() finds nothing."""
    code = (
        "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
        "from pwru.filter.packet.pcap import Filter, compile_filter; print(len(compile_filter(Filter('tcp')).l2) > 2)"
    )
    assert printed_by(code) == "True\n"


def test_imports_nothing_heavy_before_it_is_needed() -> None:
    code = (
        "import sys, pwru.filter.packet.pcap, pwru.filter.packet.translate\n"
        "print([m for m in ('libpcap', 'elftools', 'ctypes.util') if m in sys.modules])"
    )
    assert printed_by(code) == "[]\n"


@pytest.mark.parametrize(
    ("wanted", "expression"),
    [
        (Filter(), ""),
        (Filter("icmp or tcp"), "icmp or tcp"),
        (Filter(primitives=("udp", "port 53")), "udp and port 53"),
        (Filter("icmp or tcp", ("src host 10.0.0.1", "len > 60")), "(icmp or tcp) and src host 10.0.0.1 and len > 60"),
    ],
)
def test_parts_are_joined(wanted: Filter, expression: str) -> None:
    assert wanted.expression == expression


def test_the_typed_part_cannot_close_its_parentheses() -> None:
    with pytest.raises(PwruError, match=r"pcap filter 'tcp\) or \(udp': .*syntax error"):
        compile_filter(Filter("tcp) or (udp", ("port 53",)))


@pytest.mark.parametrize(
    ("wanted", "says_vlan"),
    [(Filter("vlan 5 and tcp"), True), (Filter("vlans"), False), (Filter("tcp", inner_l2="vlan"), False)],
)
def test_says_vlan(wanted: Filter, says_vlan: bool) -> None:
    assert wanted.says_vlan == says_vlan


@pytest.mark.parametrize(
    ("expression", "reads_payload"),
    [
        *((text, False) for text in ("tcp", "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "tcp[13] = 2", "ip[ 8 ] < 5")),
        *(
            (text, False)
            for text in ("icmp[icmptype] = icmp-echo", "ip6[6:1] = 0", "ether[0x0] & 1 = 0", "udp[4:4] = 0")
        ),
        *(
            (text, True)
            for text in ("tcp[((tcp[12] & 0xf0) >> 2):4] = 1", "udp[8:4] = 1", "udp[6:4] = 1", "ip[20] = 1")
        ),
        *(
            (text, True)
            for text in ("tcp[tcpflags] = 2 or udp[0x8] = 1", "ip6[40] = 1", "igmp[0] = 1", "tcp[ip[8]] = 1")
        ),
    ],
)
def test_reads_payload(expression: str, reads_payload: bool) -> None:
    compile_filter(Filter(expression))
    assert Filter(expression).reads_payload == reads_payload


@pytest.mark.parametrize("layer", ["l2", "l3"])
def test_the_parameter_of_an_inner_expression_is_named(layer: str) -> None:
    with pytest.raises(PwruError, match=f"^`tunnel_{layer}`: pcap filter 'ipp': "):
        compile_filter(Filter(**{f"inner_{layer}": "ipp"}))  # type: ignore[arg-type]


def test_a_child_compiles_the_same() -> None:
    outer, inner = Filter("host 10.0.0.1 and tcp"), Filter(inner_l2="udp", inner_l3="udp")
    flags = Filter("vlan or udp", ("src net fd00::/8", "dst port 53", "arp"))
    for wanted in (outer, inner, flags):
        assert Compiler(wanted).programs() == tuple(list(program) for program in compile_filter(wanted))
    assert compile_filter(outer)[2:] == ([], [])
    udp = [compile_expression("udp", dlt) for dlt in (DLT_EN10MB, DLT_RAW)]
    assert compile_filter(inner) == ([], [], *udp)


def test_what_the_child_finds_wrong_is_told() -> None:
    with pytest.raises(PwruError, match="illegal port number 99999"):
        Compiler(Filter("tcp port 99999")).programs()


def test_a_child_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "compile_filter", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    compiler = Compiler(Filter("tcp"))
    with pytest.raises(PwruError, match=r"compiling it failed \(status -9\)"):
        compiler.programs()


def test_a_stop_does_not_wait_for_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "compile_filter", lambda _: signal.pause())
    monkeypatch.setattr(pcap, "_LONG", 1)
    compiler, stop, waited = Compiler(Filter("tcp")), os.eventfd(0), []

    def on_waiting() -> None:
        waited.append(True)
        os.eventfd_write(stop, 1)

    with pytest.raises(PwruError, match=r"compiling it failed \(status -9\)"):
        compiler.programs(stop, on_waiting)
    assert waited
    os.close(stop)


def test_the_child_ends_with_its_parent_and_keeps_no_output_open() -> None:
    code = (
        "import os, signal; from pwru.filter.packet import Filter, pcap;"
        "pcap.compile_filter = lambda _: signal.pause(); pcap.Compiler(Filter('tcp'));"
        "os.write(1, b'.'); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.read(1)
        [child] = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        end = os.pidfd_open(int(child))
        parent.kill()
        assert parent.stdout.read() == b""  # at its end: nobody else has it
        assert select.select([end], [], [], 30)[0]
        os.close(end)


def test_libpcap_stays_in_the_child() -> None:
    code = (
        "import sys; from pwru.filter.packet.pcap import Compiler, Filter; Compiler(Filter('tcp')).programs();"
        "print('libpcap' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
