"""The RPM: rpmbuild makes it, and what rpm installs from it runs, traces and goes without a trace.

There is no distribution of RPMs here: it is installed into a Debian root, whose Python and libraries rpm does not know.
So the names in `Requires` are compared with what they should be, and not resolved.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmtest import chroot
from vmtest.product import CHECKOUT

# what the RPM requires, in Debian
NEEDS = ("rpm", "python3", "libbpf1", "libpcap0.8t64", "python3-pyelftools", "python3-tqdm")
LIST = "find /usr /etc /opt $(ls -d /var/cache/pwru 2>/dev/null) ! -path '/etc/ld.so.cache*' | sort"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("rpm")
    words = [sys.executable, "packaging/build.py", "rpm", "--to", str(to)]
    made = subprocess.run(words, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert made.returncode == 0, made.stdout
    [package] = to.glob("*.rpm")
    return package


def test_runs_traces_and_leaves_nothing(package: Path) -> None:
    with chroot.use(chroot.root("trixie", NEEDS)) as root:
        (root.files / "here").mkdir()
        shutil.copy(package, root.files / "here")
        shutil.copy(CHECKOUT / "debian/tests/trace", root.files / "here")
        root.run("rpm --initdb && mkdir -p /usr/share/licenses")  # where there are RPMs, `filesystem` has it
        before = set(root.run(LIST).splitlines())
        root.run("rpm --install --nodeps /here/*.rpm")
        assert re.fullmatch(r"pwru 0\.\d+\.\d+\n", root.run("pwru --version"))
        assert "127.0.0.1:9(udp)" in root.run("/here/trace")
        for file in (
            "bash-completion/completions/pwru",
            "zsh/site-functions/_pwru",
            "fish/vendor_completions.d/pwru.fish",
        ):
            assert "_ARGCOMPLETE" in (root.files / "usr/share" / file).read_text(), file
        assert ".TH" in root.run("zcat -f /usr/share/man/man8/pwru.8*")
        # compiled once, when it is installed: a run by root leaves no file that rpm does not know
        assert list((root.files / "usr/lib/pwru").rglob("*.pyc"))
        assert list((root.files / "usr/lib/pwru/pwru/_vendor").rglob("*.pyc"))
        root.run("rpm --erase pwru-libbpf")
        assert set(root.run(LIST).splitlines()) == before


def test_requirements_and_conflicts(package: Path) -> None:
    with chroot.use(chroot.root("trixie", NEEDS)) as root:
        (root.files / "here").mkdir()
        shutil.copy(package, root.files / "here")
        needs = root.run("rpm -qp --requires /here/*.rpm").splitlines()
        assert {need for need in needs if not need.startswith(("rpmlib(", "/"))} == {
            "libbpf.so.1()(64bit)",
            "libpcap.so.1()(64bit)",
            "python3 >= 3.11",
            "python3dist(pyelftools)",
            "python3dist(tqdm)",
        }
        assert root.run("rpm -qp --conflicts /here/*.rpm").split() == ["pwru"]
