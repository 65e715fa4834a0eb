"""What a shared library asks for and offers, read with pyelftools."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile


@contextmanager
def _section(library: Path, name: str) -> Iterator[Any]:
    with library.open("rb") as file:
        yield ELFFile(file).get_section_by_name(name)


def machine(library: Path) -> str:
    """Return the name of its architecture in elf.h: `EM_X86_64`."""
    with library.open("rb") as file:
        return str(ELFFile(file)["e_machine"])


def needed(library: Path) -> set[str]:
    """Return the names of the libraries that it loads."""
    with _section(library, ".dynamic") as dynamic:
        return {tag.needed for tag in dynamic.iter_tags("DT_NEEDED")}


def newest_glibc(library: Path) -> tuple[int, ...]:
    """Return the newest symbol version that it wants of glibc: the oldest glibc that it runs with."""
    with _section(library, ".gnu.version_r") as wanted:
        names = [version.name for _, versions in wanted.iter_versions() for version in versions]
    assert all(name.startswith("GLIBC_") for name in names), names
    return max(tuple(map(int, name.removeprefix("GLIBC_").split("."))) for name in names)


def exported(library: Path) -> set[str]:
    """Return the names of its functions and objects that others can link to."""
    with _section(library, ".dynsym") as symbols:
        return {symbol.name for symbol in symbols.iter_symbols() if symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS")}
