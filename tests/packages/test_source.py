"""From source, as the README says: only with what the distribution and PyPI have, in a bare root."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pwru import __version__
from vmtest import chroot
from vmtest.product import SOURCES

CHECKOUT = Path(__file__).parents[2]
SUITES = {"bookworm": "3.11", "trixie": "3.13"}
# where pip looks for packages instead of PyPI
PIP = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\n"


def lines() -> str:
    """Return the lines to paste."""
    part = (CHECKOUT / "README.md").read_text().partition("### From source\n")[2]
    [block] = re.findall(r"^```sh\n(.*?)^```", part.partition("\n#")[0], re.MULTILINE | re.DOTALL)
    return str(block)


def run(*words: object, cwd: Path = CHECKOUT, text: bytes = b"") -> bytes:
    return subprocess.run([str(word) for word in words], check=True, cwd=cwd, input=text, stdout=subprocess.PIPE).stdout


@pytest.mark.parametrize("suite", SUITES)
def test_built_and_installed(suite: str, tmp_path: Path) -> None:
    pip = sys.executable, "-m", "pip", "--quiet"
    platforms = [f"--platform=manylinux{tag}_{platform.machine()}" for tag in ("_2_28", "_2_17", "2014")]
    needed = "argcomplete", "hatchling", "libpcap", "pcap-ct", "pyelftools", "tqdm"
    with chroot.use(chroot.root(suite)) as debian:
        wheels, source, conf = debian.files / "wheels", debian.files / "src", debian.files / "etc/apt/apt.conf.d"
        for folder in (wheels, source, conf):
            folder.mkdir(parents=True)
        for_python = f"--python-version={SUITES[suite]}", "--only-binary=:all:", *platforms
        run(*pip, "download", *for_python, "-d", wheels, *needed)
        run(*pip, "wheel", "-w", wheels, "argparse-manpage")  # there are only its sources
        run("tar", "-cf", tmp_path / "tar", "-T-", text=run("git", "ls-files", *SOURCES))
        run("tar", "-xf", tmp_path / "tar", cwd=source)
        (conf / "yes").write_text('APT::Get::Assume-Yes "true";\n')
        debian.run(f"{PIP}cd /src\n{lines()}")
        assert debian.run("/usr/local/bin/pwru --version").strip() == f"pwru {__version__}"
        said = debian.run("/usr/local/bin/pwru --check || true")
    assert re.search(r"^  PCAP-FILTER +yes", said, re.MULTILINE), said
    assert "the system's" in said
