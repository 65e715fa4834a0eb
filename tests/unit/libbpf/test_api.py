"""Which library is taken, and what is said of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pwru

VERSION = """
from pwru import libbpf
from pwru.errors import PwruError
try:
    print(libbpf.version(), libbpf.origin())
except PwruError as error:
    print(error)
"""


def said(package: Path) -> str:
    command = [sys.executable, "-c", VERSION]
    done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_systems_library(tmp_path: Path) -> None:
    package = shutil.copytree(Path(pwru.__file__).parent, tmp_path / "pwru", ignore=shutil.ignore_patterns("*.so"))
    assert re.fullmatch(r"\d+\.\d+ the system's", said(package))


def test_a_library_beside_the_package_is_preferred(tmp_path: Path) -> None:
    package = shutil.copytree(Path(pwru.__file__).parent, tmp_path / "pwru")
    system = find_library("bpf")
    assert system
    [file] = {path.resolve() for path in Path("/usr/lib").glob(f"*-linux-gnu/{system}")}
    shutil.copy(file, package / "libbpf/libbpf.so")
    assert re.fullmatch(r"\d+\.\d+ bundled with pwru", said(package))


def test_a_library_beside_the_package_that_cannot_be_loaded(tmp_path: Path) -> None:
    package = shutil.copytree(Path(pwru.__file__).parent, tmp_path / "pwru")
    (package / "libbpf/libbpf.so").write_bytes(b"not a library")
    assert re.fullmatch(r"libbpf cannot be loaded: \S+/pwru/libbpf/libbpf.so: file too short", said(package))
