"""What the one file is linked with: a Debian tree with a C compiler, static CPython and libc, kept in vmtest's cache.

Debian has most extension modules in its static libpython; the others are compiled here, from the same source package.
"""

import tempfile
from pathlib import Path

from vmtest import apt, cache, command, rootfs
from vmtest.arches import ARCHES, NATIVE

PYTHON = rootfs.PYTHON
# What runs on this machine, and what is linked; gcc-14-base stands for the compiler's own library.
TOOLS = ("base-files", "binutils", f"{PYTHON}-minimal", f"lib{PYTHON}-stdlib")
LINKED = ("libc6-dev", f"lib{PYTHON}-dev", "libffi-dev", "gcc-14-base")
# Sources in CPython's Modules/, by the object that each becomes.
MODULES = {
    **{f"_ctypes_{name}": f"_ctypes/{name}.c" for name in ("_ctypes", "callbacks", "callproc", "cfield", "stgdict")},
    **{name: f"{name}module.c" for name in ("_contextvars", "_queue", "mmap")},
    **{name: f"{name}.c" for name in ("resource", "termios")},
    "Hacl_Hash_SHA2": "_hacl/Hacl_Hash_SHA2.c",  # part of _sha2
}
FLAGS = (
    *("-O2", "-fPIE", "-DNDEBUG", "-DPy_BUILD_CORE_BUILTIN"),
    # of libffi, which configure would have found
    *(f"-DHAVE_FFI_{name}=1" for name in ("PREP_CIF_VAR", "PREP_CLOSURE_LOC", "CLOSURE_ALLOC")),
)
INCLUDE = f"/usr/include/{PYTHON}"


def toolchain(arch: str) -> Path:
    """Return the cache folder, filled if need be, which requires root.

    It holds `root/`, the tree, with the modules' objects in `root/modules`; and `versions`, a line for each package.
    """
    recipe = (1, rootfs.SUITE, arch, TOOLS, LINKED, MODULES, FLAGS)
    return cache.entry(f"onefile-{arch}", recipe, lambda to: _build(arch, to), 1500)


def compiler(arch: str) -> str:
    return f"{ARCHES[arch].uname}-linux-gnu-gcc"


def run(root: Path, *words: str | Path) -> str:
    """Run a command in the tree; paths are those in the tree."""
    return command.run("chroot", root, *words, env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"})


def _build(arch: str, to: Path) -> None:
    gcc = f"gcc-{ARCHES[arch].uname.replace('_', '-')}-linux-gnu"
    packages = (*TOOLS, gcc, *(f"{name}:{arch}" for name in LINKED))
    options = ("--variant=extract", "--dpkgopt=path-include=/usr/share/doc/*")
    with rootfs.debian(to, packages, *options, arches=tuple(dict.fromkeys((NATIVE, arch)))) as tree:
        _compile_modules(arch, tree, to)
        tree.rename(to / "root")


def _compile_modules(arch: str, tree: Path, to: Path) -> None:
    modules = tree / "modules"
    with apt.Apt(rootfs.SUITE, arch, sources=True) as private, tempfile.TemporaryDirectory(dir=tree) as tmp:
        source = private.download_source(PYTHON, Path(tmp))
        command.run("dpkg-source", "--no-check", "-x", source, Path(tmp, "source"))
        (to / "versions").write_text(
            "".join(f"{p['Package']} {p['Version']}\n" for p in private.index() if p["Package"] in LINKED)
        )
        modules.mkdir()
        sources = Path("/", Path(tmp).name, "source/Modules")
        for name, file in MODULES.items():
            include = (f"-I{INCLUDE}", f"-I{INCLUDE}/internal", f"-I{sources}", f"-I{sources}/_hacl/include")
            run(tree, compiler(arch), *FLAGS, *include, "-c", sources / file, "-o", f"/modules/{name}.o")
