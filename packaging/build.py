"""Builds the Debian package and the RPM, from source, in a Debian root without network.

The source is that of the checkout's files as they are, plus an archive of the Python packages that distributions lack.
PWRU_MACHINE names another machine to build for than this one: x86_64 or aarch64.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from vmtest import cache, chroot, command
from vmtest.arches import BY_UNAME
from vmtest.errors import VmtestError

ROOT = Path(__file__).resolve().parent.parent
PYPI = ROOT / "packaging/pypi.txt"
BUILT = ROOT / "build/packages"
NAME = "pwru-libbpf"
# The oldest Debian whose hatchling reads pyproject.toml. The packages do not depend on it: they contain no machine code
# but that for BPF, and no compiled Python.
SUITE = "trixie"
TOOLS = ("build-essential", "rpm")
LEFT_OUT = re.compile(r"/(windows|macos|[^/]+/tcpdump|scripts|bash_completion\.d)/|\.txt$")


def version() -> str:
    """Return the version of the checkout."""
    return str(re.findall(r'^__version__ = "(.+)"$', (ROOT / "pwru/__init__.py").read_text(), re.MULTILINE)[0])


def machine() -> str:
    """Return the machine to build for. Raises VmtestError if it is none that pwru knows."""
    name = os.environ.get("PWRU_MACHINE") or platform.machine()
    if name not in BY_UNAME:
        raise VmtestError(f"pwru is built for {' and '.join(BY_UNAME)} only, not for {name}")
    return name


def deb(to: Path, at: str) -> list[Path]:
    """Build the Debian source and binary packages. Return the files, which are put into the folder `to`.

    `at` is the name of the folder in the root where it is done. Raises VmtestError if it fails.
    """
    # it needs nothing of another machine: its build dependencies are those of this one
    options = "" if machine() == platform.machine() else f"--host-arch={BY_UNAME[machine()]} --no-check-builddeps"
    with chroot.use(builder()) as root:
        work = root.files / at
        source = work / "source"
        sources(work / f"{NAME}_{version()}.orig")
        for name in _tracked("debian"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
        script = f"""
            cd /{at}/source
            mkdir pypi
            tar -xf ../{NAME}_{version()}.orig.tar.xz --strip-components=1
            tar -xf ../{NAME}_{version()}.orig-pypi.tar.xz --strip-components=1 -C pypi
            dpkg-buildpackage --no-sign {options}"""
        _run(root, script, to)
        return _keep(work, to)


def rpm(to: Path, at: str) -> list[Path]:
    """Build the RPM, otherwise as `deb` does."""
    with chroot.use(builder()) as root:
        top = root.files / at
        sources(top / f"SOURCES/{NAME}-{version()}")
        shutil.copy(ROOT / "packaging/pwru.spec", top)
        # The packages that it needs are there, but not as RPMs.
        options = f"--nodeps --target={machine()}-linux --define '_topdir /{at}'"
        _run(root, f"PWRU_MACHINE={machine()} rpmbuild -bb {options} /{at}/pwru.spec", to)
        return _keep(top / "RPMS" / machine(), to)


def builder() -> Path:
    """Return the root that has what debian/control and this file name."""
    control = (ROOT / "debian/control").read_text()
    needs = re.findall(r"^Build-Depends:\n((?: .+\n)+)", control, re.MULTILINE)[0]
    # of alternatives the first, and none of the conditions on versions
    packages = tuple(line.split()[0].rstrip(",") for line in needs.splitlines())
    wanted = (*(name.replace("debhelper-compat", "debhelper") for name in packages), *TOOLS)
    return chroot.root(SUITE, wanted, needs_mb=1500)


def sources(stem: Path) -> None:
    """Write the archives STEM.tar.xz, of this checkout without debian/, and STEM-pypi.tar.xz."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [name for name in _tracked() if not name.startswith(("debian/", ".ci/"))]
    _archive(Path(f"{stem}.tar.xz"), ((name, (ROOT / name).read_bytes(), _mode(ROOT / name)) for name in files))
    wheels = cache.entry("pypi", (1, PYPI.read_text()), _download, 50)
    _archive(Path(f"{stem}-pypi.tar.xz"), (item for path in wheels.glob("*.whl") for item in _modules(path)))


def _tracked(*below: str) -> list[str]:
    """Return the names of the files of the checkout that git knows."""
    listed = command.run("git", "-C", ROOT, "ls-files", "-z", *below).split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


def _run(root: chroot.Chroot, script: str, to: Path) -> None:
    """Run the build without network; its log is put into the folder `to`."""
    to.mkdir(parents=True, exist_ok=True)
    log = to / "build.log"
    try:
        log.write_text(root.run(script, network=False))
    except VmtestError as error:
        log.write_text(str(error))
        lines = str(error).strip().splitlines()
        cause = next((line for line in lines if re.search(r"\berror: |\*\*\* ", line)), lines[-1])
        raise VmtestError(f"the package cannot be built: {cause.strip()}; the whole log: {log}") from error


def _keep(made: Path, to: Path) -> list[Path]:
    """Copy the files in the folder `made` to the folder `to`."""
    return [Path(shutil.copy(path, to)) for path in sorted(made.iterdir()) if path.is_file()]


def _download(to: Path) -> None:
    options = ("--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:")
    command.run(sys.executable, "-m", "pip", "download", *options, "-r", PYPI, "-d", to)


def _modules(wheel: Path) -> Iterable[tuple[str, bytes, int]]:
    """Yield the modules of a wheel that pwru can need on Linux, and its licence."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            top, _, rest = name.partition("/")
            if top.endswith(".dist-info"):
                if rest.startswith("licenses/"):
                    yield f"{Path(rest).stem}.{top.partition('-')[0]}", archive.read(name), 0o644
            elif not LEFT_OUT.search(name):
                yield name, archive.read(name), 0o644


def _mode(path: Path) -> int:
    return 0o755 if os.access(path, os.X_OK) else 0o644


def _archive(to: Path, files: Iterable[tuple[str, bytes, int]]) -> None:
    """Write an archive whose bytes depend on the content only; all is below a folder named like it."""
    when = int(command.run("git", "-C", ROOT, "log", "-1", "--format=%ct"))
    with tarfile.open(to, "w:xz", format=tarfile.PAX_FORMAT) as tar:
        for name, data, mode in sorted(files):
            member = tarfile.TarInfo(f"{to.name.removesuffix('.tar.xz')}/{name}")
            member.size, member.mode, member.mtime = len(data), mode, when
            tar.addfile(member, io.BytesIO(data))


def main(arguments: list[str]) -> int:
    """Build the kind of package that is named; put what users install into dist/, or everything elsewhere."""
    parser = argparse.ArgumentParser("packaging/build.py", description=__doc__)
    parser.add_argument("kind", choices=("deb", "rpm"))
    parser.add_argument("--to", type=Path, metavar="DIR", help="put all files there, not only the package into dist/")
    parser.add_argument("--at", default="build", metavar="NAME", help="the folder in the root where it is built")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        raise VmtestError("packages are built in a Debian root: run this as root")
    if not options.to:
        shutil.rmtree(BUILT / options.kind, ignore_errors=True)
    kind = {"deb": deb, "rpm": rpm}[options.kind]
    for file in kind(options.to or BUILT / options.kind, options.at):
        if not options.to and file.suffix == f".{options.kind}":
            (ROOT / "dist").mkdir(exist_ok=True)
            print(Path(shutil.copy(file, ROOT / "dist")).relative_to(ROOT))
    return 0


if __name__ == "__main__":
    command.run_main("build", main)
