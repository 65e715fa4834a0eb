"""The reader of BTF: split BTF, names, files, what clang makes of a small one, and damage."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pwru.errors import PwruError
from pwru.kernel import btf
from pwru.kernel.btf import Btf, BtfError, Function, functions, load, read_btf, tracepoints, vmlinux_btf
from tests.unit.kernel.btf_writer import Writer
from tests.unit.kernel.samples import DATA, Sample, rich

# --- split BTF ---


def test_split_btf_continues_its_base(sample: Sample) -> None:
    sample.func("ip_rcv", sample.pskb)
    shared = sample.proto(sample.pskb, sample.u32)
    module = Sample(sample)
    with_base_type = module.func("veth_xmit", ("skb", sample.pskb))
    with_base_proto = module.add("FUNC", "veth_forward", shared)
    const = module.ref("CONST", sample.skb)
    own = module.func("veth_const", module.ref("PTR", const))
    module.func("veth_none", sample.u32)
    base = Btf(sample.data())
    split = Btf(module.data(), base)
    assert functions(split, "sk_buff") == [
        Function("veth_xmit", with_base_type, 1, False, 0),
        Function("veth_forward", with_base_proto, 1, False, 0),
        Function("veth_const", own, 1, False, 0),
    ]
    assert [function.name for function in functions(base, "sk_buff")] == ["ip_rcv"]
    assert (split.find("ip_rcv", btf.FUNC), split.find("veth_xmit", btf.FUNC)) == (
        base.find("ip_rcv", btf.FUNC), with_base_type,
    )  # fmt: skip
    assert split.count == module.next_id


def test_the_first_string_of_split_btf(sample: Sample) -> None:
    """There is no zero before it."""
    module = Sample(sample)
    btf_id = module.func("veth_xmit", sample.pskb)
    assert Btf(module.data(), Btf(sample.data())).find("veth_xmit", btf.FUNC) == btf_id


def test_a_module_without_types_of_its_own(sample: Sample) -> None:
    """Commit bcc5e6162d66 ("bpf: Allow empty module BTFs"), in v5.11."""
    empty = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 0)
    assert functions(Btf(empty, Btf(sample.data())), "sk_buff") == []


def test_split_btf_does_not_look_into_its_base_before_it_must(sample: Sample) -> None:
    """The walk over all its types is what finds the damage."""
    module = Sample(sample)
    module.func("veth_xmit", ("skb", sample.pskb))
    sample.types += b"\0\0\0\0"
    split = Btf(module.data(), Btf(sample.data()))
    with pytest.raises(BtfError, match="cut off"):
        functions(split, "sk_buff")


def test_split_btf_has_its_own_struct(sample: Sample) -> None:
    module = Sample(sample)
    module.struct("veth_priv", 12, ("skb", sample.pskb, 0), ("n", sample.u32, 64))
    split = Btf(module.data(), Btf(sample.data()))
    found = split.struct("veth_priv")
    assert found is not None
    assert [(member.name, member.offset, member.size, member.kind) for member in found.members] == [
        ("skb", 0, 8, btf.PTR), ("n", 8, 4, btf.INT),
    ]  # fmt: skip
    assert split.struct("sk_buff") == Btf(sample.data()).struct("sk_buff")
    assert split.enum("skb_drop_reason") == {0: "SKB_NOT_DROPPED_YET", 1: "SKB_CONSUMED"}


def test_split_btf_without_its_base_is_an_error(sample: Sample) -> None:
    module = Sample(sample)
    module.func("veth_xmit", sample.pskb)
    with pytest.raises(BtfError):
        Btf(module.data())


# --- names ---


def test_find(sample: Sample) -> None:
    typedef = sample.ref("TYPEDEF", sample.u32, "sk_buff")
    found = Btf(sample.data())
    assert found.find("sk_buff", btf.STRUCT) == sample.skb
    assert found.find("sk_buff", btf.TYPEDEF) == typedef
    assert found.find("sk_buff", btf.TYPEDEF, btf.STRUCT) == sample.skb
    assert found.find("sk_buff", btf.FUNC) is None
    assert found.find("buff", btf.STRUCT) is None
    assert found.find("sk_buff_head", btf.STRUCT) is None


def test_the_same_string_twice(sample: Sample) -> None:
    """libbpf and pahole never write one twice, but nothing forbids it."""
    sample.strings += b"sk_buff\0"
    offset = len(sample.strings) - len("sk_buff") - 1
    sample.types += struct.pack("=3I", offset, 4 << 24, 0)
    second = sample.next_id
    sample.next_id += 1
    sample.func("f", sample.ref("PTR", second))
    assert [function.name for function in sample.functions()] == ["f"]


# --- files ---


def test_from_elf_made_by_clang() -> None:
    """data/sample.elf is data/sample.bpf.c, see data/make.sh."""
    found = read_btf(DATA / "sample.elf")
    assert [(f.name, f.skb_arg, f.double_pointer, f.reason_arg) for f in functions(found, "sk_buff")] == [
        ("plain", 1, False, 0),
        ("constant", 2, False, 0),
        ("twice", 1, True, 3),
        ("by_typedef", 3, False, 0),
    ]
    event = found.struct("event")
    assert event is not None
    assert (event.size, [(m.name, m.offset, m.size) for m in event.members]) == (
        40,
        [
            ("skb", 0, 8),
            ("addr", 8, 8),
            ("cpu", 16, 4),
            ("comm", 20, 16),
            ("low", 36, 2),
            ("high", 38, 2),
            ("all", 36, 4),
        ],
    )
    assert found.enum("skb_drop_reason") == {0: "SKB_NOT_DROPPED_YET", 2: "SKB_DROP_REASON_NOT_SPECIFIED"}


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, content, message in (
        ("empty", b"", "too short"),
        ("text", b"hello, this is no BTF at all, is it?", "not BTF"),
        ("elf", b"\x7fELF" + bytes(60), "ELF"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BtfError, match=message) as error:
            read_btf(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(PwruError, match="No such file"):
        read_btf(tmp_path / "absent")


def test_only_regular_files_of_a_sane_size(tmp_path: Path) -> None:
    """None of these is read: some never end, and nobody writes to the pipe."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        with pytest.raises(PwruError, match=rf"^cannot read BTF from {path}: it is not a regular file; copy it into"):
            read_btf(path)
    huge = tmp_path / "huge"
    for content, message in ((b"\x9f\xeb\x01\0", f"{1 << 33} bytes are too many"), (b"\x7fELF", "damaged ELF file")):
        huge.write_bytes(content)
        os.truncate(huge, 1 << 33)
        with pytest.raises(PwruError, match=message):
            read_btf(huge)
    with pytest.raises(PwruError, match=r"^cannot read BTF from '': No such file"):
        read_btf("")


def test_a_section_of_an_insane_size(tmp_path: Path) -> None:
    image = bytearray((DATA / "sample.elf").read_bytes())
    with (DATA / "sample.elf").open("rb") as file:
        elf = ELFFile(file)
        at = elf["e_shoff"] + elf.get_section_index(".BTF") * elf["e_shentsize"] + 32
    image[at : at + 8] = struct.pack("<Q", 1 << 32)
    path = tmp_path / "sample.elf"
    path.write_bytes(image)
    os.truncate(path, 1 << 33)
    with pytest.raises(BtfError, match=f"its .BTF section has {1 << 32} bytes"):
        read_btf(path)


def test_elf_without_btf(tmp_path: Path) -> None:
    path = tmp_path / "stripped.o"
    path.write_bytes((DATA / "sample.elf").read_bytes().replace(b".BTF\0", b".XTF\0"))
    with pytest.raises(BtfError, match=r"no \.BTF section"):
        read_btf(path)


def test_a_kernel_without_btf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "VMLINUX", str(tmp_path / "vmlinux"))
    with pytest.raises(PwruError, match="this kernel has no BTF, which BPF programs need"):
        vmlinux_btf()


# --- damaged BTF ---


def query_everything(data: bytes) -> None:
    found = Btf(data)
    queries: list[Callable[[], object]] = [
        lambda: functions(found, "sk_buff"),
        lambda: tracepoints(found, "sk_buff"),
        lambda: found.enum("skb_drop_reason"),
        lambda: found.struct("sk_buff"),
        lambda: found.struct("outer"),
        lambda: found.find("ip_rcv", btf.FUNC),
        lambda: found.enumerator("SKB_CONSUMED"),
        found.enumerators,
        *(partial(found.type, type_id) for type_id in range(20)),
    ]
    for query in queries:
        try:
            query()
        except BtfError as error:
            assert "\n" not in str(error)  # noqa: PT017


HEADER = struct.Struct("=HBBIIIII")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ((0x9FEB, 1, 0, 24, 0, 12, 12, 1), "other byte order"),
        ((0x1234, 1, 0, 24, 0, 12, 12, 1), "not BTF"),
        ((0xEB9F, 2, 0, 24, 0, 12, 12, 1), "version 2"),
        ((0xEB9F, 1, 0, 8, 0, 12, 12, 1), "damaged"),
        ((0xEB9F, 1, 0, 24, 0, 13, 13, 1), "damaged"),
        ((0xEB9F, 1, 0, 24, 0, 16, 12, 1), "damaged"),
        ((0xEB9F, 1, 0, 24, 0, 12, 12, 9), "damaged"),
        ((0xEB9F, 1, 0, 0xFFFFFFF0, 0, 12, 12, 1), "damaged"),
        ((0xEB9F, 1, 0, 24, 0, 12, 0, 0), "damaged"),
    ],
)
def test_bad_header(header: tuple[int, ...], message: str) -> None:
    with pytest.raises(BtfError, match=message):
        Btf(HEADER.pack(*header) + struct.pack("=3I", 0, 2 << 24, 0) + b"\0")


def test_unknown_kinds_and_a_cut_record() -> None:
    for kind in (0, 20, 31):
        w = Writer()
        w.types = struct.pack("=3I", 0, kind << 24, 0)
        with pytest.raises(BtfError, match=f"kind {kind}"):
            functions(Btf(w.data()), "sk_buff")
    for words in (1, 2, 5):
        w = Writer()
        w.types = struct.pack("=6I", 0, 3 << 24, 0, 0, 0, 0)[: 4 * words]
        with pytest.raises(BtfError, match="cut off"):
            functions(Btf(w.data()), "sk_buff")


def test_cycles() -> None:
    w = Writer()
    w.ref("TYPEDEF", 2, "btf_trace_x")
    w.ref("TYPEDEF", 1, "btf_trace_y")
    w.struct("outer", 8, ("a", 1, 0))
    w.struct("", 8, ("", 4, 0), ("", 4, 0))
    w.struct("endless", 8, ("", 4, 0))
    w.array(6, 6, 2)
    w.struct("arrays", 8, ("a", 6, 0))
    found = Btf(w.data())
    with pytest.raises(BtfError, match="no end"):
        tracepoints(found, "sk_buff")
    with pytest.raises(BtfError, match="no end"):
        found.struct("outer")
    with pytest.raises(BtfError, match="contains itself"):
        found.struct("endless")
    with pytest.raises(BtfError, match="contains itself"):
        found.struct("arrays")


def test_references_to_nowhere() -> None:
    w = Writer()
    w.struct("outer", 8, ("a", 1000, 0))
    w.add("FUNC", "f", 1000)
    w.struct("sk_buff", 8)
    w.func("g", 0xFFFFFFFF, w.ref("PTR", 3))
    w.types += struct.pack("=3I", 5000, 12 << 24, w.next_id - 2)  # its name is beyond the strings
    found = Btf(w.data())
    with pytest.raises(BtfError, match="no type 1000"):
        found.struct("outer")
    with pytest.raises(BtfError, match="beyond"):
        functions(found, "sk_buff")


def test_every_truncation() -> None:
    data = rich()
    for length in range(len(data)):
        with pytest.raises(BtfError):
            Btf(data[:length])


@pytest.mark.parametrize("seed", range(4))
def test_mutations(seed: int) -> None:
    """Whatever is wrong, it ends soon, with a result or with BtfError, and takes no memory to speak of."""
    chance = random.Random(seed)
    original = rich()
    tracemalloc.start()
    try:
        for _ in range(400):
            data = bytearray(original)
            for _ in range(chance.choice((1, 1, 2, 5, 20))):
                place = chance.randrange(24, len(data)) if chance.random() < 0.8 else chance.randrange(len(data))
                if chance.random() < 0.5:
                    data[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
                else:
                    aligned = place & ~3
                    data[aligned : aligned + 4] = struct.pack(
                        "=I", chance.choice((0, 1, 5, 0xFFFF, chance.randrange(64)))
                    )
            try:
                query_everything(bytes(data))
            except BtfError as error:
                assert "\n" not in str(error)  # noqa: PT017
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
