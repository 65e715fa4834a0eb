"""Compiles, links and packs the one file; needs the static libraries that `make -C vendor/…` builds."""

import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from onefile import toolchain
from vmtest import command
from vmtest.arches import ARCHES
from vmtest.errors import VmtestError
from vmtest.product import CHECKOUT, build_wheel

HERE = Path(__file__).parent
LINK = ("-static-pie", "-s", "-Wl,-z,pack-relative-relocs", "-Wl,-z,relro,-z,now", "-Wl,--build-id=none")
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "linux")


def build(arch: str, file: Path) -> None:
    """Make the executable `file` for an architecture of Debian's name. Raises VmtestError if a part is missing."""
    tools = toolchain.toolchain(arch)
    root = tools / "root"
    with tempfile.TemporaryDirectory(dir=root, prefix="work.") as tmp:
        work = Path(tmp)
        _install(arch, work / "packages")
        _licenses(arch, tools, work)
        for source in (HERE / "main.c", HERE / "collect.py"):
            shutil.copy(source, work)
        program, archive = _link(arch, root, work), work / "archive.zip"
        inside = Path("/", work.name)
        names = ",".join(linked_modules())
        python = f"/usr/bin/{toolchain.PYTHON}"
        toolchain.run(root, python, "-I", inside / "collect.py", inside / "packages", inside / archive.name, names)
        new = file.with_name(f".{file.name}.new")
        new.write_bytes(program.read_bytes() + archive.read_bytes())
        with zipfile.ZipFile(new, "a") as whole:
            whole.comment = b""  # has its directory written again, with places in the whole file
        new.chmod(0o755)
        new.rename(file)


def linked_modules() -> list[str]:
    """Return the extension modules in main.c's table."""
    return re.findall(r"F\((\w+)\)", _macro("MODULES")) + re.findall(r'^\t\{"(\w+)", ', _main(), re.MULTILINE)


def linked_functions() -> list[str]:
    """Return the functions of libc in main.c's table."""
    return re.findall(r"F\((\w+)\)", _macro("LIBC"))


def _main() -> str:
    return (HERE / "main.c").read_text()


def _macro(name: str) -> str:
    found = re.search(rf"#define {name}\(F\)((?:.*\\\n)*.*)", _main())
    assert found
    return found[1]


def _install(arch: str, packages: Path) -> None:
    """Install the checkout's wheel and its dependencies, which are pure Python, for the Python that is linked."""
    machine = ARCHES[arch].uname
    with tempfile.TemporaryDirectory() as tmp:
        command.run(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"),
            *("--target", str(packages), "--python-version", toolchain.PYTHON.removeprefix("python")),
            *("--only-binary=:all:", *(f"--platform={tag}_{machine}" for tag in PLATFORMS)),
            build_wheel(arch, Path(tmp)),
        )


def _link(arch: str, root: Path, work: Path) -> Path:
    """Return the program, to which the archive is still missing."""
    machine, inside = ARCHES[arch].uname, Path("/", work.name)
    libraries = []
    for name in ("libbpf", "libpcap"):
        folder = CHECKOUT / "build" / name / machine
        objects = sorted(folder.glob("objects/**/*.o"))
        if not objects:
            raise VmtestError(f"{name} is missing: make -C vendor/{name} ARCH={machine}")
        archive = work / f"{name}.a"
        command.run("ar", "qcsD", archive, *objects)  # not r, which keeps one of two objects with the same name
        libraries.append(inside / archive.name)
        with (work / "linked.h").open("a") as header:
            header.writelines(f"LINKED({function})\n" for function in exported(folder / f"{name}.so"))
    gcc, include = toolchain.compiler(arch), f"-I{toolchain.INCLUDE}"
    warnings = ("-Wall", "-Wextra", "-Werror")
    toolchain.run(root, gcc, "-O2", "-fPIE", *warnings, include, "-c", inside / "main.c", "-o", inside / "main.o")
    folder = Path(f"/usr/lib/{toolchain.PYTHON}/config-{toolchain.PYTHON[6:]}-{machine}-linux-gnu")
    libraries.insert(0, folder / f"lib{toolchain.PYTHON}-pic.a")
    modules = [Path("/modules", f"{name}.o") for name in toolchain.MODULES]
    toolchain.run(root, gcc, *LINK, "-o", inside / "pwru", inside / "main.o", *modules, *libraries, "-lffi", "-lm")
    return work / "pwru"


def exported(library: Path) -> Iterator[str]:
    """Yield the functions that a shared library exports, sorted."""
    with library.open("rb") as file:
        table: Any = ELFFile(file).get_section_by_name(".dynsym")
        yield from sorted(
            {
                symbol.name
                for symbol in table.iter_symbols()
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
            }
        )


def _licenses(arch: str, tools: Path, work: Path) -> None:
    """Put into packages/licenses the licences of everything, and which versions of Debian's packages are inside."""
    machine, to = ARCHES[arch].uname, work / "packages/licenses"
    to.mkdir()
    shutil.copy(tools / "versions", to / "debian-packages")
    for line in (tools / "versions").read_text().splitlines():
        name = line.split()[0]
        text = (tools / "root/usr/share/doc" / name).resolve() / "copyright"
        shutil.copy(text, to / name)
    for name in ("libbpf/{}/libbpf.so.LICENSES", "libpcap/{}/libpcap.LICENSE"):
        text = CHECKOUT / "build" / name.format(machine)
        shutil.copy(text, to / text.name.partition(".")[0])
    for info in (work / "packages").glob("*.dist-info"):
        for text in info.rglob("*"):
            if re.match(r"(?i)licen[cs]e|copying|notice", text.name) and text.is_file():
                shutil.copy(text, to / f"{info.name.partition('-')[0]}-{text.name}")
