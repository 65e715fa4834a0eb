"""The wheel: what is in it, the same each time, and installed where there is Python and nothing else."""

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pwru import __version__
from pwru.sinks.report.page import PROGRAM
from tests.packages import elf, pypi
from vmtest import chroot
from vmtest.product import CHECKOUT, SOURCES

MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
# what `pwru --check` says
BUNDLED = "bundled with pwru"
LIBRARY = "pwru/libbpf/libbpf.so"

# where pip and uv look for packages instead of PyPI
PIP = "export PATH=/usr/local/bin:$PATH PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\n"
UV = 'no-index = true\nfind-links = ["/wheels"]\npython-downloads = "never"\n'
# Debian's pipx and uv are older or missing; these come from PyPI
TOOLS = "python3 -m venv /tools && /tools/bin/pip install -q pipx uv && PATH=/tools/bin:$PATH\n"
TRACE = """
/usr/local/bin/pwru --output-limit-lines 3 'udp dst port 9' >/out 2>/err &
while kill -0 $! 2>/dev/null; do
    python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))'
done
wait $! || cat /err
cat /out
"""


def run(*words: object, cwd: Path = CHECKOUT, **environment: str) -> str:
    command = list(map(str, words))
    env = {**os.environ, **environment}
    done = subprocess.run(
        command, check=False, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(to: Path, cwd: Path = CHECKOUT, **environment: str) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", to, cwd=cwd, **environment)
    [wheel] = to.glob("*.whl")
    return wheel


@pytest.fixture(scope="module", params=MACHINES)
def wheel(request: pytest.FixtureRequest) -> Path:
    run("make", "-s", "wheel", f"PWRU_MACHINE={request.param}")
    return CHECKOUT / f"dist/pwru-{__version__}-py3-none-manylinux_2_28_{request.param}.whl"


@pytest.fixture(scope="module")
def native() -> Path:
    run("make", "-s", "wheel")
    return CHECKOUT / f"dist/pwru-{__version__}-py3-none-manylinux_2_28_{platform.machine()}.whl"


def test_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"pwru-{__version__}.dist-info"
    assert {LIBRARY, f"{LIBRARY}.LICENSES", "pwru/pwru.bpf.o", f"{info}/licenses/LICENSE"} <= names
    others = {name for name in names if not name.endswith(".py")} - {LIBRARY, f"{LIBRARY}.LICENSES"}
    beside = (f"{info}/", f"pwru-{__version__}.data/data/share/")
    report = {f"pwru/sinks/report/{name}" for name in (*PROGRAM, "page.css", "page.html")}
    assert {name for name in others if not name.startswith(beside)} == {"pwru/pwru.bpf.o", "pwru/pwru.8", *report}
    assert all(name.startswith(("pwru/", *beside)) for name in names)


def test_the_tag_is_true(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        library = Path(archive.extract(LIBRARY, tmp_path))
    tag = re.fullmatch(r"pwru-[0-9.]+-py3-none-manylinux_(\d+)_(\d+)_(\w+)\.whl", wheel.name)
    assert tag
    assert elf.newest_glibc(library) <= (int(tag[1]), int(tag[2]))
    assert elf.machine(library) == MACHINES[tag[3]]
    # PEP 600: what a manylinux wheel may take from the system; glibc's own suffice
    assert elf.needed(library) <= {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def test_the_same_bytes_each_time(native: Path, tmp_path: Path) -> None:
    """Also if the checkout is elsewhere, its files are new, and its folder is read in another order."""
    other = tmp_path / "elsewhere"
    for source in reversed(SOURCES):
        if (CHECKOUT / source).is_dir():
            shutil.copytree(
                CHECKOUT / source, other / source, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("*.o")
            )
        else:
            shutil.copyfile(CHECKOUT / source, other / source)
    (other / "vendor/libbpf/fetch").chmod(0o755)
    bundle = str(CHECKOUT / "build/libbpf" / platform.machine())
    again = build(tmp_path, cwd=other, PWRU_LIBBPF=bundle)
    assert again.name == native.name
    assert again.read_bytes() == native.read_bytes()


def test_source_date_epoch_is_the_time_of_all_files(native: Path, tmp_path: Path) -> None:
    bundle = str(native.parents[1] / "build/libbpf" / platform.machine())
    first = build(tmp_path / "1", PWRU_LIBBPF=bundle, SOURCE_DATE_EPOCH="1790000000")
    second = build(tmp_path / "2", PWRU_LIBBPF=bundle, SOURCE_DATE_EPOCH="1790000000")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {info.date_time[:3] for info in archive.infolist()} == {(2026, 9, 21)}


def test_the_sources_build_without_a_network_and_without_libbpf(native: Path, tmp_path: Path) -> None:
    """As a distribution builds them."""
    sources = native.parent / f"pwru-{__version__}.tar.gz"
    pip = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index")
    run("unshare", "--net", *pip, "-w", tmp_path, sources)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name == f"pwru-{__version__}-py3-none-linux_{platform.machine()}.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert "pwru/pwru.bpf.o" in archive.namelist()
        assert not [name for name in archive.namelist() if ".so" in name]


def test_a_libbpf_that_is_missing_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=CHECKOUT,
        env={**os.environ, "PWRU_LIBBPF": str(tmp_path), "PWRU_MACHINE": "aarch64"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (f"PWRU_LIBBPF: {tmp_path}/libbpf.so is missing: make -C vendor/libbpf ARCH=aarch64")


@pytest.fixture(scope="module", params=pypi.SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def root(suite: str) -> Path:
    return chroot.root(suite, ("python3-venv",))


@pytest.fixture(scope="module")
def wheels(suite: str, native: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would take from PyPI for the Python of that release, in a folder."""
    to = tmp_path_factory.mktemp("wheels")
    pypi.download(suite, to, native, "pipx", "uv", "pip")
    return to


def line_of_readme(start: str) -> str:
    """Return the line to paste that begins so."""
    [line] = re.findall(rf"^{re.escape(start)}.*$", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    return str(line)


@pytest.mark.parametrize(
    ("line", "before"),
    [
        ("python3 -m venv /opt/pwru && /opt/pwru/bin/pip install dist", ""),
        ("pipx ", TOOLS),
        ("UV_TOOL_BIN_DIR=", TOOLS),
    ],
    ids=["pip", "pipx", "uv"],
)
def test_installed_where_there_is_only_python(line: str, before: str, root: Path, wheels: Path, native: Path) -> None:
    assert not [*root.glob("usr/lib/*/libpcap*"), *root.glob("usr/lib/*/libbpf*"), *root.glob("usr/lib/*/libelf*")]
    with chroot.use(root) as debian:
        shutil.copytree(wheels, debian.files / "wheels")
        (debian.files / "dist").mkdir()
        shutil.copy(native, debian.files / "dist")
        (debian.files / "etc/uv").mkdir(parents=True)
        (debian.files / "etc/uv/uv.toml").write_text(UV)
        debian.run(PIP + before + line_of_readme(line))
        assert debian.run("/usr/local/bin/pwru --version").strip() == f"pwru {__version__}"
        said = debian.run("/usr/local/bin/pwru --check || true")
        assert BUNDLED in said
        assert re.search(r"^  PCAP-FILTER +yes", said, re.MULTILINE), said
        if re.search(r"^  \S+ +yes +taken", said, re.MULTILINE):  # this machine allows a backend
            assert debian.run(TRACE).count("127.0.0.1:9(udp)") == 3


def test_traces_in_a_guest(native: Path) -> None:
    """With the libbpf of the wheel, not the guest's: every backend attaches, and gives events."""
    command = "pwru --check && python3 -m pytest -q tests/kernel/test_backends.py"
    bundle = f"build/libbpf/{platform.machine()}"
    said = run(sys.executable, "-m", "vmtest", "--timeout=2000", "6.12", "--", command, PWRU_LIBBPF=bundle)
    assert BUNDLED in said
