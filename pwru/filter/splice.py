"""New bodies for stub functions in the object file, before libbpf reads it.

The bodies are appended to a copy of the .text section at the end of the file; the stub's symbol and its entries in
.BTF.ext then point there. So a filter has as much room as it needs, the object holds no padding that every load would
pay for, and nothing else moves: other symbols, relocations and debug information stay as they are.

libbpf (1.1 to 1.7) copies a function with its .BTF.ext records into each program that calls it, by exactly these.
"""

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from pwru.ebpf import INSN_SIZE, R0, Alu, Assembler

_SHDR_OFFSET = 24  # of sh_offset, sh_size in Elf64_Shdr
_SYM_SIZE = 24
_SYM_VALUE = 8  # of st_value, st_size in Elf64_Sym


def splice(image: bytes, code: Mapping[str, bytes]) -> bytes:
    """Return `image`, an eBPF object, in which the functions named in `code` have these instructions as bodies.

    Raises KeyError for a function that the object lacks, which is not an error that a user can make.
    """
    elf = ELFFile(BytesIO(image))
    names = {section.name: index for index, section in enumerate(elf.iter_sections())}
    table: Any = elf.get_section(names[".symtab"])
    symbols = {symbol.name: index for index, symbol in enumerate(table.iter_symbols())}
    text = elf.get_section(names[".text"])
    btf, btf_ext = elf.get_section(names[".BTF"]), elf.get_section(names[".BTF.ext"])

    patched = bytearray(image)
    body = bytearray(text.data())
    moved: dict[int, int] = {}  # insn_off in bytes: before, after
    for name, insns in code.items():
        symbol = table["sh_offset"] + symbols[name] * _SYM_SIZE + _SYM_VALUE
        (old,) = struct.unpack_from("<Q", image, symbol)
        moved[old] = len(body)
        struct.pack_into("<QQ", patched, symbol, len(body), len(insns))
        body += insns
    _move_records(patched, btf_ext["sh_offset"], _string_offset(btf.data(), b".text"), moved)
    patched += bytes(-len(patched) % INSN_SIZE)
    header = elf["e_shoff"] + names[".text"] * elf["e_shentsize"] + _SHDR_OFFSET
    struct.pack_into("<QQ", patched, header, len(patched), len(body))
    return bytes(patched + body)


def without_helper(image: bytes, helper: int) -> bytes:
    """Return `image` with -1 in r0 instead of each call of this helper.

    For a helper that is denied, and called in dead code only: newer verifiers (6.12) look that up, too, and each time
    the kernel writes to its log.
    """
    call, instead = Assembler(), Assembler()
    call.call(helper)
    instead.alu64(Alu.MOV, R0, -1)
    patched = bytearray(image)
    for section in ELFFile(BytesIO(image)).iter_sections():
        if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:
            code, start = section.data(), section["sh_offset"]
            for at in range(0, len(code), INSN_SIZE):
                if code.startswith(call.code(), at):
                    patched[start + at : start + at + INSN_SIZE] = instead.code()
    return bytes(patched)


def _string_offset(btf: bytes, string: bytes) -> int:
    """Return the offset of a string in the string section of BTF (struct btf_header, include/uapi/linux/btf.h)."""
    hdr_len, _, _, str_off, str_len = struct.unpack_from("<5I", btf, 4)
    strings = btf[hdr_len + str_off : hdr_len + str_off + str_len]
    return strings.index(b"\0" + string + b"\0") + 1


def _move_records(image: bytearray, btf_ext: int, section_name: int, moved: Mapping[int, int]) -> None:
    """Give the records of func_info and line_info at the starts of functions in `moved` their new offsets.

    struct btf_ext_header in libbpf's libbpf_internal.h is followed by tables. A table begins with the size of a record;
    then come, per section, the offset of its name, the number of records and the records, sorted by insn_off (first).
    """
    hdr_len, *tables = struct.unpack_from("<5I", image, btf_ext + 4)
    for offset, length in zip(tables[::2], tables[1::2], strict=True):
        at = btf_ext + hdr_len + offset
        end = at + length
        (size,) = struct.unpack_from("<I", image, at)
        at += 4
        while at < end:
            name, count = struct.unpack_from("<II", image, at)
            at += 8
            if name == section_name:
                records = []
                for start in range(at, at + count * size, size):
                    (insn_off,) = struct.unpack_from("<I", image, start)
                    records.append((moved.get(insn_off, insn_off), bytes(image[start + 4 : start + size])))
                records.sort()
                image[at : at + count * size] = b"".join(
                    struct.pack("<I", insn_off) + others for insn_off, others in records
                )
            at += count * size
