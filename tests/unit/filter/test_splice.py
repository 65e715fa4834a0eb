"""Other bodies for the stubs in an object file, everything else where it was."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from pwru.ebpf import BPF_FUNC_probe_read_kernel
from pwru.filter.splice import splice, without_helper

from . import harness

FIRST, SECOND = bytes(range(8)) * 5, bytes(range(8, 16)) * 3000


@pytest.fixture(scope="module")
def image() -> bytes:
    return harness.harness_image()


def functions(image: bytes) -> dict[str, bytes]:
    elf: Any = ELFFile(BytesIO(image))
    bodies = {}
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        if symbol["st_info"]["type"] == "STT_FUNC":
            section = elf.get_section(symbol["st_shndx"]).data()
            bodies[symbol.name] = section[symbol["st_value"] :][: symbol["st_size"]]
    return bodies


def test_replaces_the_functions_and_nothing_else(image: bytes) -> None:
    spliced = splice(image, {"filter_skb": FIRST, "filter_packet": SECOND})
    assert functions(spliced) == functions(image) | {"filter_skb": FIRST, "filter_packet": SECOND}
    before: Any = ELFFile(BytesIO(image))
    after: Any = ELFFile(BytesIO(spliced))
    for old, new in zip(before.iter_sections(), after.iter_sections(), strict=True):
        assert old.name == new.name
        if old.name not in (".text", ".symtab", ".BTF.ext"):
            assert old.data() == new.data()


def test_one_of_two(image: bytes) -> None:
    assert functions(splice(image, {"filter_packet": FIRST})) == functions(image) | {"filter_packet": FIRST}


def test_again(image: bytes) -> None:
    again = splice(splice(image, {"filter_packet": SECOND}), {"filter_packet": FIRST})
    assert functions(again) == functions(image) | {"filter_packet": FIRST}


def test_unknown_function(image: bytes) -> None:
    with pytest.raises(KeyError, match="filter_l7"):
        splice(image, {"filter_l7": FIRST})


def test_without_a_helper(image: bytes) -> None:
    """Each call becomes r0 = -1, in all functions; nothing else changes, in the code or elsewhere."""
    call, instead = bytes.fromhex("8500000071000000"), bytes.fromhex("b7000000ffffffff")

    def replaced(code: bytes) -> bytes:
        insns = [code[at : at + 8] for at in range(0, len(code), 8)]
        return b"".join(instead if insn == call else insn for insn in insns)

    without = without_helper(image, BPF_FUNC_probe_read_kernel)
    assert functions(without) == {name: replaced(code) for name, code in functions(image).items()} != functions(image)
    before: Any = ELFFile(BytesIO(image))
    after: Any = ELFFile(BytesIO(without))
    for old, new in zip(before.iter_sections(), after.iter_sections(), strict=True):
        assert old.data() == new.data() or old["sh_flags"] & SH_FLAGS.SHF_EXECINSTR
