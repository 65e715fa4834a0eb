"""Packages of PyPI, for the Python of a Debian release."""

import platform
import subprocess
import sys
from pathlib import Path

# Debian releases with a Python that is new enough
SUITES = {"bookworm": "3.11", "trixie": "3.13"}
_PIP = (sys.executable, "-m", "pip", "--quiet")


def download(suite: str, to: Path, *names: str | Path) -> None:
    """Put into a folder what pip would take there for these packages, or for a wheel."""
    platforms = [f"--platform=manylinux{tag}_{platform.machine()}" for tag in ("_2_28", "_2_17", "2014")]
    python = f"--python-version={SUITES[suite]}"
    subprocess.run([*_PIP, "download", "--only-binary=:all:", python, *platforms, "-d", to, *names], check=True)


def build(to: Path, name: str) -> None:
    """Put into a folder the wheel of a package of which there are only the sources."""
    subprocess.run([*_PIP, "wheel", "-w", to, name], check=True)
