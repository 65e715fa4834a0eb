"""The packages are of this version, and take from PyPI what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pwru import __version__

ROOT = Path(__file__).parents[2]


def test_versions() -> None:
    [changelog, *_] = (ROOT / "debian/changelog").read_text().splitlines()
    assert re.fullmatch(rf"pwru-libbpf \({re.escape(__version__)}-\d+\) \S+; urgency=medium", changelog)
    assert f"\nVersion: {__version__}\n" in (ROOT / "packaging/pwru.spec").read_text()


def test_dependencies() -> None:
    """What pwru needs is in the package or a dependency of it; pcap-ct only brings libpcap, which pwru imports."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    needed = {dependency.split()[0] for dependency in dependencies} - {"pcap-ct"}
    within = set(re.findall(r"^([\w-]+)==", (ROOT / "packaging/pypi.txt").read_text(), re.MULTILINE))
    for wanted in ((ROOT / "debian/control").read_text(), (ROOT / "packaging/pwru.spec").read_text()):
        others = set(re.findall(r"python3-([\w-]+),$|^Requires: python3dist\(([\w-]+)\)$", wanted, re.MULTILINE))
        assert needed <= within | {a or b for a, b in others}
