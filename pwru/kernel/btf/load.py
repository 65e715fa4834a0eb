"""BTF from files: raw, or the `.BTF` section of an ELF file."""

from pathlib import Path

from pwru.errors import PwruError
from pwru.kernel.btf.records import BtfError
from pwru.kernel.btf.types import Btf

VMLINUX = "/sys/kernel/btf/vmlinux"


def vmlinux_btf(path: str | None = None) -> Btf:
    """Return the BTF of this kernel, or of the file given as `kernel_btf`."""
    if path is None and not Path(VMLINUX).exists():
        raise PwruError(
            f"this kernel has no BTF ({VMLINUX} is missing: CONFIG_DEBUG_INFO_BTF); pass `kernel_btf` a file with the"
            " BTF of exactly this kernel: raw BTF, or its vmlinux with a .BTF section"
        )
    return read_btf(path or VMLINUX)


def read_btf(path: str | Path, base: Btf | None = None) -> Btf:
    """Read raw BTF, or the `.BTF` section of an ELF file. Raises PwruError if it cannot be read."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PwruError(f"cannot read BTF from {path}: {error.strerror}") from None
    return Btf(elf_section(path) if data[:4] == b"\x7fELF" else data, base, source=str(path))


def elf_section(path: str | Path) -> bytes:
    from elftools.elf.elffile import ELFFile

    with Path(path).open("rb") as file:
        try:
            section = ELFFile(file).get_section_by_name(".BTF")
            data: bytes | None = section.data() if section else None
        except Exception as error:  # pyelftools lets anything through on damaged files
            raise BtfError(f"{path}: damaged ELF file ({error})") from None
    if data is None:
        raise BtfError(f"{path}: the ELF file has no .BTF section")
    return data
