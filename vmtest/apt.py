"""Packages from Debian's archive through a private, temporary apt; the machine's own is not touched.

The archive's address, proxies and credentials are those of the machine's apt configuration;
other suites are read through a private sources list, and signatures are checked with Debian's
keyring.
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
    """Return the line of a sources list for a suite (`trixie`, `bullseye-security`, …), main only.

    Raises VmtestError if the machine's apt knows no such archive or the keyring is missing.
    """
    label = "Debian-Security" if suite.endswith("-security") else "Debian"
    uri = _archive(label)
    if not uri and os.geteuid() == 0:  # no lists, as in a fresh container
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
    """A private apt on one suite; a context manager that removes its state at the end."""

    def __init__(self, suite: str, arch: str, *, sources: bool = False) -> None:
        """With `sources`, also on the suite's source packages."""
        self._arch = arch
        self._source = source(suite, arch)
        if sources:
            self._source += "\n" + self._source.replace("deb ", "deb-src ", 1)

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
            # an old index of a mirror does no harm here; signatures are still checked
            "Acquire::Check-Valid-Until": "false",
            # otherwise it reads our temporary folder as the user _apt
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
        """Yield every package of the suite."""
        fields = ("--format", "$(FILENAME)", "Identifier: Packages")
        for file in command.run("apt-get", *self._options, "indextargets", *fields).splitlines():
            yield from stanzas(command.run("/usr/lib/apt/apt-helper", "cat-file", file))

    def download(self, packages: Sequence[Stanza], to: Path) -> list[Path]:
        """Download packages into the empty folder `to`. Return the .deb files."""
        wanted = [f"{p['Package']}={p['Version']}" for p in packages]
        total_mb = sum(int(p["Size"]) for p in packages) / 1e6
        options = (*self._options, "-q")
        command.run("apt-get", *options, "download", *wanted, cwd=to, fills=(to, total_mb))
        return sorted(to.glob("*.deb"))

    def download_source(self, package: str, to: Path) -> Path:
        """Download the newest version of a source package into the empty folder `to`. Return the .dsc file."""
        command.run("apt-get", *self._options, "-q", "source", "--download-only", "--only-source", package, cwd=to)
        [dsc] = to.glob("*.dsc")
        return dsc


def stanzas(index: str) -> Iterator[Stanza]:
    """Yield the packages of a Packages file (deb822), with only the first line of each field."""
    for block in index.split("\n\n"):
        if block.strip():
            yield dict(re.findall(r"^([A-Za-z0-9-]+): *(.*)$", block, re.MULTILINE))


def newest(index: Iterable[Stanza], patterns: Sequence[str]) -> list[Stanza] | None:
    """Return, for each pattern, the newest version of the packages whose whole name matches it.

    Returns None if one of the patterns matches nothing.
    """
    chosen: dict[str, Stanza] = {}
    for package in index:
        for pattern in patterns:
            if re.fullmatch(pattern, package["Package"]):
                best = chosen.get(pattern)
                if best is None or version_key(best["Version"]) < version_key(package["Version"]):
                    chosen[pattern] = package
    return [chosen[pattern] for pattern in patterns] if len(chosen) == len(patterns) else None


def version_key(version: str) -> tuple[object, ...]:
    """Return a key that sorts Debian versions as dpkg does (deb-version(7))."""
    epoch, _, without_epoch = version.rpartition(":")
    upstream, dash, revision = without_epoch.rpartition("-")
    if not dash:
        upstream, revision = without_epoch, "0"
    return int(epoch or 0), _part_key(upstream), _part_key(revision)


def _part_key(part: str) -> tuple[object, ...]:
    # text and numbers in turn; in text, `~` sorts before the end and letters sort before other characters
    pairs = re.findall(r"([^0-9]*)([0-9]*)", part)
    return tuple(item for text, number in pairs for item in ((*map(_order, text), 0), int(number or 0)))


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
