"""BTF from files: raw, or the `.BTF` section of an ELF file."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from pwru.errors import PwruError
from pwru.kernel.btf.records import BtfError
from pwru.kernel.btf.types import Btf

VMLINUX = "/sys/kernel/btf/vmlinux"
_SYSFS = "/sys/kernel/uevent_seqnum"  # there wherever sysfs is

_MAX_SIZE = 1 << 28  # bytes of BTF; that of a kernel is about 5 MB


def vmlinux_btf(path: str | None = None) -> Btf:
    """Return the BTF of this kernel; if it is given as `kernel_btf`, that file must hold the same.

    Raises PwruError. Without BTF in the kernel a file is no help: libbpf resolves kfuncs there, and nowhere else.
    """
    if not Path(VMLINUX).is_file():
        if not Path(_SYSFS).exists() or Path(VMLINUX).exists():  # what containers hide lies under /dev/null
            raise PwruError(
                f"{VMLINUX} is hidden, or /sys not mounted: run it on the host, or in a privileged container"
            )
        raise PwruError(
            "this kernel has no BTF, which BPF programs need; boot one that is built with CONFIG_DEBUG_INFO_BTF"
        )
    if path is None:
        return read_btf(VMLINUX)
    given = Btf(data := _data(path), source=path)
    if data != _data(VMLINUX):
        raise PwruError(f"`kernel_btf`: {path} is not of this kernel, which has BTF of its own: leave it out")
    return given


def read_btf(path: str | Path, base: Btf | None = None) -> Btf:
    """Read raw BTF, or the `.BTF` section of an ELF file. Raises PwruError if it cannot be read.

    It has to be a regular file with a size: others may never end, or never begin, and libbpf reads it again.
    """
    return Btf(_data(path), base, source=str(path))


def _data(path: str | Path) -> bytes:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            size, mode = (status := os.fstat(file.fileno())).st_size, status.st_mode
            if not stat.S_ISREG(mode):
                raise PwruError(f"cannot read BTF from {path}: it is not a regular file; copy it into one")
            data = file.read(min(size, 4))
            if data == b"\x7fELF":
                data = elf_section(file, path)
            elif size > _MAX_SIZE:
                raise PwruError(f"cannot read BTF from {path}: {size} bytes are too many")
            else:
                data += file.read(size)
    except OSError as error:
        raise PwruError(f"cannot read BTF from {path or repr('')}: {error.strerror}") from None
    return data


def elf_section(file: BinaryIO, path: str | Path) -> bytes:
    """Return the `.BTF` section of an ELF file; `path` is for messages. Raises BtfError for a damaged file."""
    from elftools.elf.elffile import ELFFile

    try:
        section = ELFFile(file).get_section_by_name(".BTF")
        if section and section["sh_size"] > _MAX_SIZE:
            raise BtfError(f"its .BTF section has {section['sh_size']} bytes")
        data: bytes | None = section.data() if section else None
    except Exception as error:  # pyelftools lets anything through on damaged files
        raise BtfError(f"{path}: damaged ELF file ({error})") from None
    if data is None:
        raise BtfError(f"{path}: the ELF file has no .BTF section")
    return data
