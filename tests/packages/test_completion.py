"""Completion in the shells themselves: bash with bash-completion, zsh and fish, which find the scripts where they look,
or are told by the README's line.

What is offered is said by `pwru` of the PATH; a process of this test's own has a name that a shell would run.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pwru.cli.flags import FLAGS, SHELLS
from pwru.live.backends import BACKENDS

README = Path(__file__).parents[2] / "README.md"
PATIENCE = 30  # seconds
HOSTILE = "zq$(id>x);a 'b"  # 15 bytes at most
PLACES = {"bash": "completions/pwru", "zsh": "_pwru", "fish": "pwru.fish"}
SHOWN = [name for flag in FLAGS if not flag.hidden for name in flag.names.split() if name.startswith("--")]
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "TERM": "dumb",
    "LC_ALL": "C.UTF-8",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script of each shell, in places below it that the shell is told of."""
    folder = tmp_path_factory.mktemp("completion")
    for shell, place in PLACES.items():
        path = folder / shell / place
        path.parent.mkdir(parents=True)
        with path.open("w") as file:
            subprocess.run(["pwru", "--completion", shell], stdout=file, env=ENVIRONMENT, check=True)
    return folder


@pytest.fixture
def hostile() -> Iterator[str]:
    """A process whose name is HOSTILE."""
    code = f"import sys; open('/proc/self/comm', 'w').write({HOSTILE!r}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield HOSTILE


# How each shell is started, and told where the scripts are.
COMMANDS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
START = {
    "bash": "BASH_COMPLETION_USER_DIR={folder}/bash; . /usr/share/bash-completion/bash_completion",
    "zsh": "fpath=({folder}/zsh $fpath); autoload -Uz compinit; compinit -u -D; unsetopt zle_bracketed_paste",
}


class Terminal:
    """A shell that somebody types into. It has a command `said`, which tells the test the words that follow it."""

    def __init__(self, shell: str, start: str, home: Path) -> None:
        os.mkfifo(home / "words")
        self._words = os.open(home / "words", os.O_RDWR | os.O_NONBLOCK)
        self._process, self._fd = pty.fork()
        if not self._process:
            os.chdir(home)
            os.execvpe(shell, COMMANDS[shell], {**ENVIRONMENT, "HOME": str(home)})
        self._type(f"{start}; said() {{ printf '<%s>' \"$@\" $'\\n' >~/words; }}; said\n")
        self._said()

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._words)
        os.waitpid(self._process, 0)

    def completed(self, line: str) -> str:
        """Return the words that the shell sees in a line after a TAB at its end, each as <word>."""
        self._type(f"{line}\t")
        self._type("\x01said \x05\n")  # before the line, which is not run
        return self._said()

    def _type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def _said(self) -> str:
        words = shown = b""
        deadline = time.monotonic() + PATIENCE
        while not words.endswith(b"<\n>"):
            ready, _, _ = select.select([self._fd, self._words], [], [], max(0, deadline - time.monotonic()))
            assert ready, shown
            if self._fd in ready:
                shown += os.read(self._fd, 4096)
            if self._words in ready:
                words += os.read(self._words, 4096)
        return words.decode().removesuffix("<\n>")


@pytest.fixture(params=COMMANDS)
def terminal(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Iterator[Terminal]:
    shell = request.param
    terminal = Terminal(shell, START[shell].format(folder=shlex.quote(str(folder))), tmp_path)
    yield terminal
    terminal.close()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_line_of_the_readme(shell: str, tmp_path: Path) -> None:
    [line] = re.findall(rf"`([^`]*pwru --completion {shell}[^`]*)`", README.read_text())
    if shell == "fish":
        assert words(shell, "pwru --filter-drop-r", line) == ["--filter-drop-reason"]
        return
    start = f"autoload -Uz compinit; compinit -u -D; {line}" if shell == "zsh" else line
    terminal = Terminal(shell, start, tmp_path)
    assert terminal.completed("pwru --filter-drop-r") == "<pwru><--filter-drop-reason>"
    terminal.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--filter-drop-r", "--filter-drop-reason"),
        ("--backend tr", "--backend tracepoint"),
        ("--backend=tr", "--backend=tracepoint"),
        ("--output-json tcp --timestamp rel", "--output-json tcp --timestamp relative"),
        ("--output-meta=f", "--output-meta=false"),
    ],
)
def test_a_key_completes(line: str, words: str, terminal: Terminal) -> None:
    assert terminal.completed(f"pwru {line}") == "".join(f"<{word}>" for word in ["pwru", *words.split()])


def test_after_another_command(terminal: Terminal) -> None:
    assert terminal.completed("sudo -u root pwru --backend tr") == "<sudo><-u><root><pwru><--backend><tracepoint>"


def test_a_name_is_one_word_and_runs_nothing(terminal: Terminal, hostile: str, tmp_path: Path) -> None:
    """As it is typed, and in quotes."""
    assert terminal.completed("pwru --filter-comm zq") == f"<pwru><--filter-comm><{hostile}>"
    assert terminal.completed('pwru --filter-comm "zq') == f"<pwru><--filter-comm><{hostile}>"
    assert not (tmp_path / "x").exists()


# How a shell without a terminal is told of the script, and what it then runs for the line $1.
TOLD = {
    "bash": START["bash"],
    "zsh": "compdef() {{ }}; source {folder}/zsh/_pwru",
    "fish": "source {folder}/fish/pwru.fish",
}
ASK = {
    "bash": """
        _comp_load pwru 2>/dev/null || __load_completion pwru
        COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
        _python_argcomplete_pwru pwru
        printf '%s\\n' "${COMPREPLY[@]}" """,
    "zsh": """
        _describe() { print -rl -- ${(P)2}; }  # word:description, each
        BUFFER=$1 CURSOR=${#1}
        _python_argcomplete_pwru""",
    "fish": "complete -C $argv[1]",
}
WITHOUT_TERMINAL = {
    "bash": ["bash", "-c", "{code}", "bash"],
    "zsh": ["zsh", "-f", "-c", "{code}", "zsh"],
    "fish": ["fish", "--no-config", "-c", "{code}"],
}


def words(shell: str, line: str, start: Path | str) -> list[str]:
    """Return what the shell's own functions offer for the line, up to its end. `start`: as above, or the folder."""
    if isinstance(start, Path):
        start = TOLD[shell].format(folder=shlex.quote(str(start)))
    command = [part.replace("{code}", f"{start}\n{ASK[shell]}") for part in WITHOUT_TERMINAL[shell]]
    done = subprocess.run(
        [*command, line], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert not done.stderr
    if shell == "zsh":
        return [re.sub(r"\\(.)", r"\1", re.split(r"(?<!\\):", each)[0]) for each in done.stdout.splitlines()]
    return [word.partition("\t")[0].strip() for word in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
def test_all_flags_are_offered(shell: str, folder: Path) -> None:
    assert set(words(shell, "pwru --", folder)) == set(SHOWN)
    assert words(shell, "pwru --backend ", folder) == list(BACKENDS) or shell == "fish"
    assert set(words(shell, "pwru --backend ", folder)) == set(BACKENDS)


@pytest.mark.parametrize("shell", SHELLS)
def test_values_of_this_machine(shell: str, folder: Path, tmp_path: Path) -> None:
    assert "lo" in words(shell, "pwru --filter-ifname ", folder)
    assert str(os.getpid()) in words(shell, f"pwru --filter-pid {os.getpid()}", folder)
    (tmp_path / "events").touch()
    (tmp_path / "folder").mkdir()
    assert set(words(shell, f"pwru --output-file {tmp_path}/", folder)) == {f"{tmp_path}/events", f"{tmp_path}/folder/"}


def test_fish_says_what_they_are(folder: Path) -> None:
    code = f"source {folder}/fish/pwru.fish; complete -C 'pwru --filter-drop'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    [line] = done.stdout.splitlines()
    assert line.startswith("--filter-drop-reason\tonly where they are dropped")


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_said_where_pwru_fails(shell: str, folder: Path, tmp_path: Path) -> None:
    """Whatever it prints, and however it ends: here it is another program."""
    other = tmp_path / "pwru"
    other.write_text("#!/bin/sh\necho out; echo err >&2; exit 3\n")
    other.chmod(0o755)
    code = {
        "bash": f". {folder}/bash/{PLACES['bash']}; COMP_LINE='pwru -' COMP_POINT=6; _python_argcomplete_pwru pwru",
        "zsh": f"compdef() {{ }}; _describe() {{ }}; BUFFER='pwru -' CURSOR=6; eval \"$(cat {folder}/zsh/_pwru)\"; "
        "_python_argcomplete_pwru",
        "fish": f"source {folder}/fish/pwru.fish; complete -C 'pwru -'",
    }[shell]
    environment = {**ENVIRONMENT, "PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"}
    arguments = {"bash": ["bash"], "zsh": ["zsh", "-f"], "fish": ["fish", "--no-config"]}[shell]
    done = subprocess.run([*arguments, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")
