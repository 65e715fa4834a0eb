"""The Debian package: what is in it, and that it installs, traces and goes without a trace on Debian 12 and 13."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmtest import chroot
from vmtest.guest import Guest, run
from vmtest.kernels import find
from vmtest.product import CHECKOUT

SUITES = ("bookworm", "trixie")
NATIVE_MACHINE = platform.machine()
# Files of pwru, its state, and those of the packages that come with it; dpkg and apt keep records of what was there.
# netbase, which comes with Python, leaves a file.
LIST = (
    "find / -xdev \\( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache/apt -o -path /var/log "
    "-o -path /var/cache/debconf -o -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /here \\) -prune "
    "-o -print | grep -v -e ^/etc/hosts$ -e ^/etc/ld.so.cache -e ^/var/cache/ldconfig | sort"
)


def build(to: Path, at: str = "build", machine: str = NATIVE_MACHINE) -> Path:
    """Build the packages into a folder, and return the one to install."""
    made = subprocess.run(
        [sys.executable, "packaging/build.py", "deb", "--to", str(to), "--at", at],
        cwd=CHECKOUT,
        env={**os.environ, "PWRU_MACHINE": machine},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout
    [package] = to.glob("*.deb")
    return package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


def line_to_install() -> str:
    """Return the line of the README that installs the package."""
    part = (CHECKOUT / "README.md").read_text().partition("### Debian, Ubuntu\n")[2]
    [line] = re.findall(r"^apt install .*$", part.partition("\n#")[0], re.MULTILINE)
    return str(line)


def bring(root: chroot.Chroot, package: Path) -> None:
    """Put the package where the README's line looks for it, and let apt ask no questions."""
    (root.files / "here/dist").mkdir(parents=True)
    shutil.copy(package, root.files / "here/dist")
    shutil.copytree(CHECKOUT / "debian/tests", root.files / "here/tests")
    (root.files / "etc/apt/apt.conf.d").mkdir(parents=True)
    (root.files / "etc/apt/apt.conf.d/yes").write_text('APT::Get::Assume-Yes "true";\n')


def install(root: chroot.Chroot) -> None:
    root.run(f"cd /here && {line_to_install()}")


@pytest.fixture(scope="module", params=SUITES)
def installed(request: pytest.FixtureRequest, package: Path) -> Iterator[chroot.Chroot]:
    """A bare root in which the package is installed."""
    with chroot.use(chroot.root(request.param)) as root:
        bring(root, package)
        install(root)
        yield root


def test_runs(installed: chroot.Chroot) -> None:
    """With the libraries of the distribution, and none of its own."""
    assert re.fullmatch(r"pwru 0\.\d+\.\d+\n", installed.run("pwru --version"))
    assert not list((installed.files / "usr/lib/python3/dist-packages/pwru").rglob("*.so*"))


def test_is_importable(installed: chroot.Chroot) -> None:
    """`import pwru` is an interface; the packages that only pwru needs are for pwru alone."""
    assert installed.run("python3 -c 'import pwru; print(pwru.trace.__name__)'") == "trace\n"
    assert "private" in installed.run("python3 -c 'import libpcap' || echo private")


def test_compiles_a_filter(installed: chroot.Chroot) -> None:
    """With the distribution's libpcap, through the package's private modules."""
    script = (
        "from pwru.filter.packet import Filter; from pwru.filter.packet.pcap import compile_filter;"
        "print(len(compile_filter(Filter('tcp port 80')).l2))"
    )
    assert int(installed.run(f'python3 -c "{script}"')) > 10
    assert "syntax error" in installed.run("pwru 'tcp port' 2>&1 || true")


def test_manual(installed: chroot.Chroot) -> None:
    installed.run("apt-get install man-db")
    assert "--output-limit-lines" in installed.run("man --pager=cat pwru")
    assert installed.run("whatis pwru").startswith("pwru (8) ")


def test_completions(installed: chroot.Chroot) -> None:
    """The scripts are where the shells look, and what they ask answers: also in Debian 12, whose argcomplete is old."""
    scripts = (
        "bash-completion/completions/pwru",
        "zsh/vendor-completions/_pwru",
        "fish/vendor_completions.d/pwru.fish",
    )
    for script in scripts:
        assert "_ARGCOMPLETE" in (installed.files / "usr/share" / script).read_text(), script
    (installed.files / "here/ask").write_text(
        "source /usr/share/bash-completion/completions/pwru\n"
        "COMP_LINE='pwru --backend f' COMP_POINT=16 _python_argcomplete_pwru pwru\n"
        "echo ${COMPREPLY[@]}\n"
    )
    assert set(installed.run("bash /here/ask").split()) == {"fentry", "fentry-multi"}


def test_traces(installed: chroot.Chroot) -> None:
    """On the kernel of this machine, by whatever it allows."""
    assert "127.0.0.1:9(udp)" in installed.run("/here/tests/trace")


@pytest.mark.parametrize("suite", SUITES)
def test_leaves_nothing(suite: str, package: Path) -> None:
    """Also not what pwru has cached and compiled."""
    with chroot.use(chroot.root(suite)) as root:
        bring(root, package)
        before = set(root.run(LIST).splitlines())
        install(root)
        root.run("/here/tests/trace && test -d /var/cache/pwru")
        root.run("apt-get purge --autoremove pwru-libbpf")
        assert set(root.run(LIST).splitlines()) == before


def test_replaces_the_go_tool(package: Path) -> None:
    with chroot.use(chroot.root("trixie")) as root:
        bring(root, package)
        root.run("apt-get install --no-install-recommends pwru")
        install(root)
        assert root.run("dpkg -S /usr/bin/pwru") == "pwru-libbpf: /usr/bin/pwru\n"
        assert root.run("dpkg-query -W -f '${db:Status-Status}' pwru") != "installed"


def test_lintian(package: Path) -> None:
    """No error or warning but those that the overrides explain."""
    with chroot.use(chroot.root("trixie", ("lintian",))) as root:
        shutil.copytree(package.parent, root.files / "here")
        said = root.run("lintian --allow-root --fail-on=error,warning /here/*.changes")
        assert not re.search("^[EW]:", said, re.MULTILINE), said


def test_is_reproducible(package: Path, tmp_path: Path) -> None:
    """The same bytes, of the source package as well, when it is built elsewhere at another time."""
    build(tmp_path, at="another/place")

    def sums(folder: Path) -> dict[str, str]:
        kinds = (".deb", ".dsc", ".xz")
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.suffix in kinds}

    assert sums(tmp_path) == sums(package.parent)
    assert len(sums(tmp_path)) == 5


def test_another_machine(package: Path, tmp_path: Path) -> None:
    """The package for arm64, built here: all but the BPF object is the same, and so are its dependencies."""
    other = build(tmp_path, machine="aarch64")
    subprocess.run(["make", "-s", "-C", "bpf", "ARCH=arm64"], cwd=CHECKOUT, check=True)

    def unpacked(deb: Path, to: str) -> tuple[Path, str]:
        subprocess.run(["dpkg-deb", "--extract", deb, tmp_path / to], check=True)
        fields = subprocess.run(["dpkg-deb", "--field", deb], stdout=subprocess.PIPE, text=True, check=True).stdout
        return tmp_path / to, fields

    (here, fields), (there, other_fields) = unpacked(package, "here"), unpacked(other, "there")
    assert "Architecture: arm64" in other_fields
    assert re.search("^Depends.*", fields, re.MULTILINE)[0] in other_fields  # type: ignore[index]
    differ = subprocess.run(["diff", "-rq", here, there], stdout=subprocess.PIPE, text=True, check=False).stdout
    names = {line.split()[1].rpartition("/")[2] for line in differ.splitlines()}
    assert names <= {"pwru.bpf.o", "WHEEL"}, differ
    [program] = there.rglob("pwru.bpf.o")
    assert b"user_pt_regs" in program.read_bytes()  # the registers of arm64


# The guest's own root has other packages, and is left alone.
IN_THE_ROOT = """
mount -t ext4 -o ro /dev/vdd /mnt
mkdir /run/upper /run/work /run/root
mount -t overlay -o lowerdir=/mnt,upperdir=/run/upper,workdir=/run/work overlay /run/root
for part in dev proc sys; do mount --rbind /$part /run/root/$part; done
env -i PATH="$PATH" chroot /run/root /here/tests/trace
"""


@pytest.mark.parametrize(
    ("suite", "kernel", "backend"), [("bookworm", "6.1", "kprobe"), ("trixie", "6.12", "kprobe-multi")]
)
def test_autopkgtest(suite: str, kernel: str, backend: str, package: Path, tmp_path: Path) -> None:
    """On the kernel of the suite, in a root that has the package and nothing else of pwru."""
    with chroot.use(chroot.root(suite)) as root:
        bring(root, package)
        install(root)
        root.image(tmp_path / "root.img")
    [linux] = find([kernel])
    result = run(Guest(linux, IN_THE_ROOT, bare=True, disks=(tmp_path / "root.img",))).check()
    assert re.search(r"127\.0\.0\.1:9\(udp\) .*(kfree_skb_reason|_drop)\(.*NO_SOCKET", result.stdout), result.stdout
    assert f"functions ({backend})" in result.stdout
