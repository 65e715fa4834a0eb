"""What the Python code asks of the one file's program, which has no library to load at run time."""

import re
import sys
from pathlib import Path

import pytest

import pwru
from onefile import build
from pwru.libbpf import origin


def functions_of_libc(source: str) -> set[str]:
    """Return the functions of libc that a module calls through ctypes: at once, by a variable, or by a function."""
    opened = r"CDLL\(None[^)]*\)"
    variables = re.findall(rf"(\w+) = (?:ctypes\.)?{opened}$", source, re.MULTILINE)
    openers = re.findall(rf"def (\w+)\(\).*\n    return (?:ctypes\.)?{opened}$", source, re.MULTILINE)
    names = (*variables, *(rf"{opener}\(\)" for opener in openers))
    patterns = [rf"{opened}\.(\w+)", *(rf"\b{name}\.(\w+)" for name in names)]
    return {name for pattern in patterns for name in re.findall(pattern, source)}


def test_functions_are_found() -> None:
    source = "libc = ctypes.CDLL(None, use_errno=True)\nlibc.setns(3)\nself.f = CDLL(None).vsnprintf\n"
    source += "_libc().capget(1)\ndef _libc() -> CDLL:\n    return CDLL(None)\n"
    assert functions_of_libc(source) == {"capget", "setns", "vsnprintf"}


def test_the_program_has_the_functions_of_libc_that_are_called() -> None:
    called = {name for path in Path(pwru.__file__).parent.rglob("*.py") for name in functions_of_libc(path.read_text())}
    assert "syscall" in called
    assert called <= set(build.linked_functions())


def test_the_modules_of_the_program_are_read_from_its_table() -> None:
    assert {"_ctypes", "posix", "marshal", "sys"} <= set(build.linked_modules())


def test_its_libbpf_is_not_the_system_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert origin() == "bundled with pwru"
