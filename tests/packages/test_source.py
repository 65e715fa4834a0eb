"""From source, as the README says: only with what the distribution and PyPI have, in a bare root."""

import re
import subprocess
from pathlib import Path

import pytest

from pwru import __version__
from tests.packages import pypi
from vmtest import chroot
from vmtest.product import CHECKOUT, SOURCES

# where pip looks for packages instead of PyPI
PIP = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\n"


def lines() -> str:
    """Return the lines to paste."""
    part = (CHECKOUT / "README.md").read_text().partition("### From source\n")[2]
    [block] = re.findall(r"^```sh\n(.*?)^```", part.partition("\n#")[0], re.MULTILINE | re.DOTALL)
    return str(block)


def run(*words: object, cwd: Path = CHECKOUT, text: bytes = b"") -> bytes:
    return subprocess.run([str(word) for word in words], check=True, cwd=cwd, input=text, stdout=subprocess.PIPE).stdout


@pytest.mark.parametrize("suite", pypi.SUITES)
def test_built_and_installed(suite: str, tmp_path: Path) -> None:
    needed = "argcomplete", "hatchling", "libpcap", "pcap-ct", "pyelftools", "tqdm"
    with chroot.use(chroot.root(suite)) as debian:
        wheels, source, conf = debian.files / "wheels", debian.files / "src", debian.files / "etc/apt/apt.conf.d"
        for folder in (wheels, source, conf):
            folder.mkdir(parents=True)
        pypi.download(suite, wheels, *needed)
        pypi.build(wheels, "argparse-manpage")
        run("tar", "-cf", tmp_path / "tar", "-T-", text=run("git", "ls-files", *SOURCES))
        run("tar", "-xf", tmp_path / "tar", cwd=source)
        (conf / "yes").write_text('APT::Get::Assume-Yes "true";\n')
        debian.run(f"{PIP}cd /src\n{lines()}")
        assert debian.run("/usr/local/bin/pwru --version").strip() == f"pwru {__version__}"
        said = debian.run("/usr/local/bin/pwru --check || true")
    assert re.search(r"^  PCAP-FILTER +yes", said, re.MULTILINE), said
    assert "the system's" in said
