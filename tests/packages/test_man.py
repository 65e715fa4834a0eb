"""The man page as it is read: nothing to complain of for mandoc, and found by man(1) in an environment with the wheel.

The wheel is built here, twice: what is made for it must not depend on when that was.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from pwru.cli.flags import SHELLS
from vmtest.product import CHECKOUT

README = (CHECKOUT / "README.md").read_text()
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "MANPATH": ""}
DOCUMENTS = {
    "man": "share/man/man8/pwru.8",
    "bash": "share/bash-completion/completions/pwru",
    "zsh": "share/zsh/site-functions/_pwru",
    "fish": "share/fish/vendor_completions.d/pwru.fish",
}


def run(*command: str | Path, **environment: str) -> str:
    return subprocess.run(
        command, env={**ENVIRONMENT, **environment}, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def wheel(folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, SOURCE_DATE_EPOCH="1790000000")
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    path = wheel(tmp_path_factory.mktemp("wheel"))
    run(sys.executable, "-m", "pip", "--python", folder, "install", "--quiet", "--no-deps", path)
    return folder


def test_mandoc_has_nothing_to_say(tmp_path: Path) -> None:
    """Of warnings, errors and style."""
    (tmp_path / "pwru.8").write_text(run("pwru", "--man"))
    done = subprocess.run(["mandoc", "-T", "lint", tmp_path / "pwru.8"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_line_of_the_readme() -> None:
    [line] = re.findall(r"^man .*pwru --man.*$", README, re.MULTILINE)
    shown = run("bash", "-c", line, MANPAGER="cat", MANWIDTH="80")
    assert re.search(r"^ +.*show the way of packets", shown, re.MULTILINE)
    assert max(map(len, re.sub(".\b", "", shown).splitlines())) <= 80


def test_man_finds_it(environment: Path) -> None:
    found = run("man", "-w", "pwru", PATH=f"{environment}/bin:{ENVIRONMENT['PATH']}")
    assert Path(found.strip()) == environment / DOCUMENTS["man"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_are_what_the_command_prints(name: str, environment: Path) -> None:
    command = ("pwru", "--man") if name not in SHELLS else ("pwru", "--completion", name)
    shared = (environment / DOCUMENTS[name]).read_text()
    assert shared.splitlines()[1:] == run(*command).splitlines()[1:]  # the first line has the date of the build


def test_two_builds_are_equal(tmp_path: Path) -> None:
    first, second = (wheel(tmp_path / name) for name in ("first", "second"))
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        for name in one.namelist():
            assert one.read(name) == other.read(name), name
    assert first.read_bytes() == second.read_bytes()
