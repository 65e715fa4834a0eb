"""The kernel's symbols, on lines of a 6.1 kernel's /proc/kallsyms with modules: data/kallsyms, made by data/make.sh."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.kernel import kallsyms
from pwru.kernel.kallsyms import Kallsyms, Symbol, source_name, text_start
from tests.unit.kernel.samples import KALLSYMS


def read(tmp_path: Path, text: str) -> Kallsyms:
    path = tmp_path / "kallsyms"
    path.write_text(text)
    return Kallsyms.read(str(path))


@pytest.fixture
def symbols() -> Kallsyms:
    return Kallsyms.read(str(KALLSYMS))


def test_find(symbols: Kallsyms) -> None:
    assert symbols.find(["ip_rcv", "kfree_skb_reason", "rcv", "ip_rcv_"]) == {
        "ip_rcv": [0xFFFFFFFF9FE3E110],
        "kfree_skb_reason": [0xFFFFFFFF9FD8AB30],
    }


def test_several_functions_of_one_name(symbols: Kallsyms) -> None:
    assert symbols.find(["add_grec"]) == {"add_grec": [0xFFFFFFFF9FE941E0, 0xFFFFFFFF9FF1B6C0]}
    assert len(symbols.find(["dst_discard"])["dst_discard"]) == 5


def test_data_and_discarded_functions_are_not_there(symbols: Kallsyms) -> None:
    assert symbols.find(["jiffies", "init_net", "steal_time", "ip_init", "veth_rq_stats_desc"]) == {}
    assert symbols.find(["ip_init"], "veth") == {}


def test_what_the_compiler_renamed(symbols: Kallsyms) -> None:
    assert symbols.find(["ip_multipath_l3_keys", "ip6_route_redirect", "tcp_fastopen_add_skb"]) == {
        "ip_multipath_l3_keys.constprop.0": [0xFFFFFFFF9FE370B0],
        "ip6_route_redirect.constprop.0.isra.0": [0xFFFFFFFF9FEF9010],
        "tcp_fastopen_add_skb": [0xFFFFFFFF9FE79740],
    }


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("foo.isra.0", "foo"), ("foo.constprop.12", "foo"), ("foo.constprop.0.isra.0", "foo"), ("foo.llvm.123", "foo"),
        ("foo.part.0", None), ("foo.cold", None), ("foo.isra.0.cold", None), ("foo.constprop.0.part.1", None),
        ("foo", None), ("foo.bar", None),
    ],
)  # fmt: skip
def test_source_name(name: str, source: str | None) -> None:
    assert source_name(name) == source


def test_modules(symbols: Kallsyms) -> None:
    for name, module in (("br_handle_frame", "bridge"), ("stp_pdu_rcv", "stp"), ("virtio_dev_match", "virtio")):
        assert list(symbols.find([name], module)) == [name]
    assert symbols.find(["veth_xmit", "ip_rcv", "veth_rq_stats_desc"], "veth") == {"veth_xmit": [0xFFFFFFFFC0567A50]}
    assert symbols.find(["veth_xmit"]) == {}
    assert symbols.find(["veth_xmit"], "bridge") == {}
    assert symbols.find(["veth_xmit"], "absent") == {}


def test_what_the_compiler_renamed_in_a_module(tmp_path: Path) -> None:
    symbols = read(
        tmp_path,
        "ffffffff81000000 T _etext\n"
        "ffffffffc0000000 t foo.isra.0\t[m]\nffffffffc0000010 t bar\t[m]\nffffffffc0000020 t bar.constprop.0\t[m]\n",
    )
    assert symbols.find(["foo", "bar"], "m") == {"foo.isra.0": [0xFFFFFFFFC0000000], "bar": [0xFFFFFFFFC0000010]}


def test_pieces_of_a_renamed_function(tmp_path: Path) -> None:
    names = "foo.isra.0.cold", "foo.constprop.0.part.1", "foo.isra.0"
    found = read(tmp_path, "".join(f"ffffffff8100000{n} t {name}\n" for n, name in enumerate((*names, "_etext"))))
    assert found.find(["foo"]) == {"foo.isra.0": [0xFFFFFFFF81000002]}


def test_lookup(symbols: Kallsyms) -> None:
    assert symbols.lookup(0xFFFFFFFF9FE3E110) == Symbol("ip_rcv", None, 0)
    assert symbols.lookup(0xFFFFFFFF9FE3E111) == Symbol("ip_rcv", None, 1)
    assert symbols.lookup(0xFFFFFFFF9FE3E10F) == Symbol("ip_rcv_finish", None, 0xCF)
    assert symbols.lookup(0xFFFFFFFFA0401EF1) == Symbol("dst_discard", None, 0xFFFFFFFFA0401EF1 - 0xFFFFFFFF9FF26540)


def test_lookup_takes_the_first_of_several_names_for_one_place(symbols: Kallsyms, tmp_path: Path) -> None:
    assert symbols.lookup(0xFFFFFFFF9F600005) == Symbol("_stext", None, 5)
    aliases = "".join(f"ffffffff81000010 {kind} {name}\n" for kind, name in (("T", "b"), ("t", "a"), ("W", "c")))
    modules = "ffffffffc0000000 t z\t[m]\nffffffffc0000000 t y\t[m]\nffffffffc0000100 t x\t[m]\n"
    found = read(tmp_path, f"ffffffff81000000 T _text\n{aliases}ffffffff81000020 T _etext\n{modules}")
    assert found.lookup(0xFFFFFFFF8100001F) == Symbol("b", None, 0xF)
    assert found.lookup(0xFFFFFFFFC0000001) == Symbol("z", "m", 1)


def test_lookup_in_a_module(symbols: Kallsyms) -> None:
    assert symbols.lookup(0xFFFFFFFFC0567A55) == Symbol("veth_xmit", "veth", 5)


def test_lookup_of_what_is_no_function(symbols: Kallsyms) -> None:
    for address in (0, 5, 0x33080, 0x34001, 0x7FFF00000000, 0xFFFFFFFFA10079C0, (1 << 64) - 1):
        assert symbols.lookup(address) is None, hex(address)


def test_code_made_at_run_time(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "ffffffff81000000 T _stext\nffffffff82000000 T _etext\n"
        "ffffffffc0201000 t ftrace_trampoline\t[__builtin__ftrace]\n"
        "ffffffffc0300000 t bpf_prog_6deef7357e7b4530_cls\t[bpf]\n",
    )
    assert found.lookup(0xFFFFFFFFC0300010) == Symbol("bpf_prog_6deef7357e7b4530_cls", "bpf", 0x10)
    assert found.find(["ftrace_trampoline"], "__builtin__ftrace") == {"ftrace_trampoline": [0xFFFFFFFFC0201000]}


def test_modules_below_the_kernel(tmp_path: Path) -> None:
    """As on arm64."""
    found = read(tmp_path, "ffff800081000000 T _stext\nffff800082000000 T _etext\nffff80007a000000 t f\t[m]\n")
    assert found.lookup(0xFFFF80007A000008) == Symbol("f", "m", 8)
    assert found.lookup(0xFFFF800081000008) == Symbol("_stext", None, 8)


def test_modules_that_come_and_go(tmp_path: Path) -> None:
    """What has gone keeps its names, but not where something else is now."""
    kernel = "ffffffff81000000 T _text\nffffffff81000100 T _etext\nffffffff82000000 D data\n"
    symbols = read(
        tmp_path,
        f"{kernel}ffffffffc0000000 t first\t[gone]\nffffffffc0000100 t second\t[gone]\n"
        "ffffffffc0010000 t old_one\t[old]\nffffffffc0010040 t old_two\t[old]\nffffffffc0011040 t old_three\t[old]\n",
    )
    assert symbols.lookup(0xFFFFFFFFC0010042) == Symbol("old_two", "old", 2)
    new = "ffffffffbffff000 t other\t[there]\nffffffffc0010000 t one\t[new]\nffffffffc0012000 t two\t[new]\n"
    read(tmp_path, kernel + new)
    assert symbols.lookup(0xFFFFFFFFC0010042) == Symbol("old_two", "old", 2)  # until somebody says so
    symbols.forget_modules()
    for address, symbol in (
        (0xFFFFFFFFC0000108, Symbol("second", "gone", 8)),
        (0xFFFFFFFFC0010042, Symbol("one", "new", 0x42)),
        (0xFFFFFFFFC0011042, Symbol("one", "new", 0x1042)),
        (0xFFFFFFFFC0012042, Symbol("two", "new", 0x42)),
        (0xFFFFFFFFBFFFF001, Symbol("other", "there", 1)),
        (0xFFFFFFFF81000010, Symbol("_text", None, 0x10)),
    ):
        assert symbols.lookup(address) == symbol
    assert symbols.find(["old_one", "one"], "old") == {}
    assert symbols.find(["old_one", "one"], "new") == {"one": [0xFFFFFFFFC0010000]}


def test_only_the_end_is_read_once_it_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Counting(FileIO):
        def readall(self) -> bytes:
            data = super().readall()
            sizes.append(len(data))
            return data

    monkeypatch.setattr(kallsyms, "FileIO", Counting)
    kernel = "ffffffff81000000 T _text\nffffffff81000100 T _etext\n" + "ffffffff82000000 D data\n" * 20000
    symbols = read(tmp_path, f"{kernel}ffffffffc0000000 t f\t[m]\n")
    symbols.prepare()
    read(tmp_path, f"{kernel}ffffffffc0010000 t g\t[n]\n")
    symbols.forget_modules()
    assert symbols.find(["g"], "n") == {"g": [0xFFFFFFFFC0010000]}
    assert sizes[0] > 200_000
    assert sizes[1] < 20_000
    symbols.close()


def test_the_file_is_opened_once(tmp_path: Path) -> None:
    """What it shows is up to who opens it, and this process may have fewer capabilities by the time of a new look."""
    symbols = read(tmp_path, "ffffffff81000100 T _etext\nffffffffc0000000 t f\t[m]\n")
    assert symbols.find(["f"], "m") == {"f": [0xFFFFFFFFC0000000]}
    (tmp_path / "kallsyms").rename(tmp_path / "old")
    with (tmp_path / "old").open("a") as file:
        file.write("ffffffffc0010000 t g\t[n]\n")
    symbols.forget_modules()
    assert symbols.find(["g"], "n") == {"g": [0xFFFFFFFFC0010000]}
    symbols.close()


def test_without_etext_the_first_module_ends_the_kernel(tmp_path: Path) -> None:
    found = read(tmp_path, "c0100000 T _stext\nc0100010 T f\nc0200000 D data\nbf000000 t g\t[m]\n")
    assert found.find(["f", "g", "data"]) == {"f": [0xC0100010]}
    assert found.find(["g"], "m") == {"g": [0xBF000000]}
    assert found.lookup(0xC0100014) == Symbol("f", None, 4)


def test_reading_stops_at_the_end_of_the_text() -> None:
    """Wherever the reads cut the lines."""
    last = b" T _etext\n"
    end = KALLSYMS.read_bytes().index(last) + len(last)
    for size in (1, 7, 64, 4096):
        file = FileIO(KALLSYMS)
        symbols = Kallsyms(file, chunk=size)
        assert 0 <= file.tell() - end < size
        assert symbols.find(["veth_xmit"], "veth") == {"veth_xmit": [0xFFFFFFFFC0567A50]}


def test_hidden_addresses(tmp_path: Path) -> None:
    lines = KALLSYMS.read_text().splitlines()
    with pytest.raises(PwruError, match=r"CAP_SYSLOG.*kptr_restrict"):
        read(tmp_path, "".join(f"{'0' * 16}{line[16:]}\n" for line in lines))


@pytest.mark.parametrize("text", ["", "\n", "hello\n", "no symbols here, but words\n"])
def test_no_symbols(tmp_path: Path, text: str) -> None:
    with pytest.raises(PwruError, match=r"kallsyms: it holds no symbols"):
        read(tmp_path, text)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(PwruError, match=r"cannot read .*absent: No such file"):
        Kallsyms.read(str(tmp_path / "absent"))
    with pytest.raises(PwruError, match="Is a directory"):
        Kallsyms.read(str(tmp_path))


def test_this_machine() -> None:
    """Every function of vmlinux, found by name and by address, as a plain reading of the file has it."""
    wanted: dict[str, list[int]] = {}
    first_at: dict[int, str] = {}
    with Path(kallsyms.KALLSYMS).open() as file:
        for line in file:
            address, kind, name = line.split()[:3]
            if kind in "tTwW":
                wanted.setdefault(name, []).append(int(address, 16))
                first_at.setdefault(int(address, 16), name)
            if name == "_etext":
                break
    if not any(first_at):
        pytest.skip("the kernel hides its addresses")
    symbols = Kallsyms.read()
    assert symbols.find(wanted) == wanted
    for start in list(first_at)[:-1:97]:
        assert symbols.lookup(start) == Symbol(first_at[start], None, 0)


def test_where_the_code_begins(symbols: Kallsyms, tmp_path: Path) -> None:
    assert text_start(str(KALLSYMS)) == symbols.find(["_text"])["_text"][0]
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 A fixed_percpu_data\n0000000000000000 T _text\n0000000000000000 T _etext\n")
    with pytest.raises(PwruError, match="hides the addresses"):
        text_start(str(path))
    path.write_text("ffffffff81000000 T my_text\nffffffff81000000 D _text\n")
    assert text_start(str(path)) is None
    with pytest.raises(PwruError, match="cannot read"):
        text_start(str(tmp_path / "absent"))
