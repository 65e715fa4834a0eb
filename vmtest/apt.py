"""Packages from Debian's archive without touching the machine's own apt: a private apt, thrown away.

The archive's address, proxies and credentials are those of the machine's apt configuration;
suites that the machine does not use are read through a private sources list, and signatures are
checked with Debian's keyring as always.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vmtest import command
from vmtest.errors import VmtestError

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
Stanza = Mapping[str, str]


def source(suite: str, arch: str) -> str:
    """The line of a sources list for a suite (`trixie`, `bullseye-security`, …), main only.

    Raises VmtestError when the machine's apt knows no such archive or there is no keyring.
    """
    label = "Debian-Security" if suite.endswith("-security") else "Debian"
    uri = _archive(label)
    if not uri and os.geteuid() == 0:  # the lists are gone, as in a fresh container
        command.run("apt-get", "update", "-qq")
        uri = _archive(label)
    if not uri:
        raise VmtestError(
            f"apt has no source with the label {label}: add Debian's archive to /etc/apt and run apt-get update"
        )
    for keyring in KEYRINGS:
        if keyring.exists():
            return f"deb [arch={arch} signed-by={keyring}] {uri} {suite} main"
    raise VmtestError("no keyring to check signatures with: apt-get install debian-archive-keyring")


def _archive(label: str) -> str | None:
    fields = "$(ORIGIN)/$(LABEL) $(REPO_URI)"
    listed = command.run("apt-get", "indextargets", "--format", fields, "Identifier: Packages")
    uris = [line.partition(" ")[2] for line in listed.splitlines() if line.startswith(f"Debian/{label} ")]
    return uris[0] if uris else None


class Apt:
    """A private apt on one suite; a context manager, as its state is a temporary folder."""

    def __init__(self, suite: str, arch: str) -> None:
        self._arch = arch
        self._source = source(suite, arch)

    def __enter__(self) -> "Apt":
        self._tmp = tempfile.TemporaryDirectory(prefix="vmtest-apt-")
        state = Path(self._tmp.name)
        for name in ("state/lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "status").touch()
        (state / "sources.list").write_text(f"{self._source}\n")
        options = {
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": state / "state",
            "Dir::State::lists": state / "state/lists",
            "Dir::State::status": state / "status",
            "Dir::Cache": state / "cache",
            "APT::Architecture": self._arch,
            "APT::Architectures": self._arch,
            "Acquire::Languages": "none",
            # a mirror that stands still is no harm to a kernel to test on; signatures are checked all the same
            "Acquire::Check-Valid-Until": "false",
            # else it would want to read our temporary folder as the user _apt
            "APT::Sandbox::User": "root",
        }
        self._options = [f"-o{name}={value}" for name, value in options.items()]
        try:
            command.run("apt-get", *self._options, "-q", "--error-on=any", "update")
        except BaseException:
            self._tmp.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._tmp.cleanup()

    def index(self) -> Iterator[Stanza]:
        """Every package of the suite."""
        fields = ("--format", "$(FILENAME)", "Identifier: Packages")
        for file in command.run("apt-get", *self._options, "indextargets", *fields).splitlines():
            yield from stanzas(command.run("/usr/lib/apt/apt-helper", "cat-file", file))

    def download(self, packages: Sequence[Stanza], to: Path) -> list[Path]:
        """The .deb files of these packages, in the empty folder `to`."""
        wanted = [f"{p['Package']}={p['Version']}" for p in packages]
        total_mb = sum(int(p["Size"]) for p in packages) / 1e6
        options = (*self._options, "-q")
        command.run("apt-get", *options, "download", *wanted, cwd=to, fills=(to, total_mb))
        return sorted(to.glob("*.deb"))


def stanzas(index: str) -> Iterator[Stanza]:
    """The packages of a Packages file (deb822), first lines of their fields only."""
    for block in index.split("\n\n"):
        if block.strip():
            yield dict(re.findall(r"^([A-Za-z0-9-]+): *(.*)$", block, re.MULTILINE))


def newest(index: Iterable[Stanza], patterns: Sequence[str]) -> list[Stanza] | None:
    """For each pattern the package of the newest version whose whole name matches it.

    None when one of the patterns matches nothing.
    """
    found: dict[str, Stanza] = {}
    for package in index:
        for pattern in patterns:
            if re.fullmatch(pattern, package["Package"]):
                best = found.get(pattern)
                if best is None or version_key(best["Version"]) < version_key(package["Version"]):
                    found[pattern] = package
    return [found[pattern] for pattern in patterns] if len(found) == len(patterns) else None


def version_key(version: str) -> tuple[object, ...]:
    """A key that sorts Debian versions as dpkg does (deb-version(7))."""
    epoch, _, rest = version.rpartition(":")
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return int(epoch or 0), _part_key(upstream), _part_key(revision)


def _part_key(part: str) -> tuple[object, ...]:
    # text and numbers in turn; in the text `~` sorts before the end, letters before the rest
    pairs = re.findall(r"([^0-9]*)([0-9]*)", part)
    return tuple(item for text, number in pairs for item in ((*map(_order, text), 0), int(number or 0)))


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
