"""The product in a guest, as a user would install it: the wheel of this checkout and its Python packages."""

import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

from vmtest import cache, command, rootfs
from vmtest.arches import ARCHES, NATIVE
from vmtest.errors import VmtestError
from vmtest.fetch import ext4

CHECKOUT = Path(__file__).resolve().parent.parent
# what the wheel is made from
SOURCES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "bpf", "docs", "pwru", "vendor")
TEST_PACKAGES = ("pytest", "pytest-timeout", "hypothesis")
SCRIPT = "#!/usr/bin/python3\nimport sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"


def packages(arch: str = NATIVE) -> Path:
    """Return the cache folder with `packages.img`: the dependencies of pwru and of its tests, installed by pip."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = (*project["dependencies"], *TEST_PACKAGES)
    if arch == NATIVE:
        return cache.entry("packages", (2, wanted, rootfs.PYTHON), lambda to: _install(wanted, arch, to), 200)
    recipe = (2, wanted, rootfs.PYTHON, arch)
    return cache.entry(f"packages-{arch}", recipe, lambda to: _install(wanted, arch, to), 200)


def _install(wanted: tuple[str, ...], arch: str, to: Path) -> None:
    cache.say(f"installing Python packages for the guest: {', '.join(wanted)} …")
    with tempfile.TemporaryDirectory(dir=to) as tmp:
        command.run(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", tmp),
            # for the guest's Python, not the one that runs pip
            *("--python-version", rootfs.PYTHON.removeprefix("python"), "--only-binary=:all:"),
            *(
                f"--platform={tag}_{ARCHES[arch].uname}"
                for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
            ),
            *wanted,
        )
        rootfs.byte_compile(Path(tmp), "/opt/packages")
        ext4(Path(tmp), to / "packages.img")


def wheel(arch: str = NATIVE) -> Path:
    """Return the cache folder with the checkout's wheel, installed: `site/` and the command `bin/pwru`.

    It has the libbpf of the folder PWRU_LIBBPF, if that is set; otherwise the guest's is used.
    Raises VmtestError if the wheel cannot be built.
    """
    return cache.entry("wheel", (2, rootfs.PYTHON, arch, _digest()), lambda to: _build(arch, to), 20, quiet=True)


def _digest() -> str:
    digest = hashlib.sha256()
    for source in SOURCES:
        top = CHECKOUT / source
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix not in (".pyc", ".o"):
                digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
    if libbpf := os.environ.get("PWRU_LIBBPF"):
        for path in sorted(Path(CHECKOUT, libbpf).glob("libbpf.so*")):
            digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def build_wheel(arch: str, to: Path) -> Path:
    """Build the checkout's wheel for this architecture into a folder; return it. Raises VmtestError."""
    if not find_spec("hatchling"):
        raise VmtestError("hatchling is missing: use the Python that `make build` sets up, .venv/bin/python")
    build = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", to],
        cwd=CHECKOUT,
        env={**os.environ, "PWRU_MACHINE": ARCHES[arch].uname},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if build.returncode:
        raise VmtestError(f"the wheel cannot be built:\n{build.stdout.strip()}")
    [file] = to.glob("*.whl")
    return file


def _build(arch: str, to: Path) -> None:
    with tempfile.TemporaryDirectory(dir=to) as tmp, zipfile.ZipFile(build_wheel(arch, Path(tmp))) as archive:
        archive.extractall(to / "site")
    rootfs.byte_compile(to / "site", "/opt/pwru")
    [entry_points] = (to / "site").glob("*.dist-info/entry_points.txt")
    scripts = ConfigParser()
    scripts.read(entry_points)
    (to / "bin").mkdir()
    for name, target in scripts["console_scripts"].items():
        module, _, function = target.partition(":")
        script = to / "bin" / name
        script.write_text(SCRIPT.format(module=module, function=function))
        script.chmod(0o755)
