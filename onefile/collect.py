"""Collects the Python code of the one file: a zip archive of byte code, with what the packages and imports lead to.

Runs with the Python that is linked into the one file, without any package: `collect.py PACKAGES ARCHIVE LINKED`.
PACKAGES is where pip has installed pwru and its dependencies, LINKED has the names of the
extension modules, with commas.
"""

import importlib.util
import marshal
import subprocess
import sys
import zipfile
from modulefinder import ModuleFinder
from pathlib import Path

# Imported by the standard library or a dependency for what pwru does not do, or only if they exist.
LEFT_OUT = (
    *("_aix_support", "_compression", "_hashlib", "_osx_support", "_pickle", "_pydatetime", "_pydecimal", "_testcapi"),
    *("_testinternalcapi", "_testlimitedcapi", "asyncio", "build", "bz2", "chardet", "concurrent", "ctypes.macholib"),
    *("ctypes.wintypes", "curses", "decimal", "distutils", "doctest", "ftplib", "html", "http", "lzma"),
    *("importlib.resources", "multiprocessing", "ntpath", "nturl2path", "pip", "pkg_about"),
    *("pydoc", "readline", "setuptools", "ssl", "statistics", "tarfile", "test", "tkinter", "typing_extensions"),
    *("unittest", "webbrowser", "xml", "xmlrpc"),
)
# What nothing imports by name: the encodings that the interpreter looks up at its start.
ROOTS = ("encodings.utf_8", "encodings.ascii", "encodings.latin_1", "libpcap")
IMPORTS = "import importlib, sys; sys.path[:] = sys.argv[1:3]; [*map(importlib.import_module, sys.argv[3:])]"
STAMP = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip archive can have: two builds are the same


def main(packages: Path, archive: Path, linked: set[str]) -> None:
    sys.path[0] = str(packages)
    finder = ModuleFinder(excludes=LEFT_OUT)
    for root in (*ROOTS, *modules_of(packages, "pwru")):
        package, _, name = root.rpartition(".")
        finder.import_hook(package or name, None, [name] if package else None)
    found = {name: Path(vars(module)["__file__"] or "") for name, module in finder.modules.items()}
    extensions = {name for name, path in found.items() if path.suffix != ".py"}
    if missing := extensions - linked:
        sys.exit(f"imported, but neither in the table of main.c nor left out: {', '.join(sorted(missing))}")
    files: dict[str, bytes] = {}
    for name, path in found.items():
        if path.suffix == ".py":
            member = name.replace(".", "/") + ("/__init__.pyc" if path.name == "__init__.py" else ".pyc")
            files[member] = byte_code(path, member, optimize=0 if path.is_relative_to(packages) else 2)
    for path in (*(packages / "pwru").rglob("*"), *(packages / "licenses").iterdir()):  # the BPF object, for one
        if path.is_file() and path.suffix not in (".py", ".pyc", ".so"):
            files[str(path.relative_to(packages))] = path.read_bytes()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for member in sorted(files):
            made.writestr(zipfile.ZipInfo(member, STAMP), files[member], zipfile.ZIP_DEFLATED)
    # libpcap is left to the program, which has the library
    [dynamic] = (path for path in sys.path if path.endswith("/lib-dynload"))
    names = ("tqdm", *modules_of(packages, "pwru"))
    words = (sys.executable, "-I", "-S", "-c", IMPORTS, str(archive), dynamic, *names)
    tried = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    if tried.returncode:
        sys.exit(f"from the archive: {tried.stderr.strip().splitlines()[-1]}")


def modules_of(packages: Path, name: str) -> list[str]:
    paths = (path.relative_to(packages).with_suffix("") for path in sorted((packages / name).rglob("*.py")))
    return [".".join(path.parts[:-1] if path.name == "__init__" else path.parts) for path in paths]


def byte_code(path: Path, member: str, optimize: int) -> bytes:
    """Return what a .pyc holds: the code is not checked against a source, and names it by its place in the archive.

    `optimize` is that of compile(); 2 leaves out the docstrings.
    """
    source = path.read_bytes()
    code = compile(source, member.removesuffix("c"), "exec", dont_inherit=True, optimize=optimize)
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), set(sys.argv[3].split(",")))
