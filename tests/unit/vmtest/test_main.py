"""The command line of the guest harness, without starting a guest."""

import subprocess
import sys
from pathlib import Path

import pytest

from pwru.live.backends import BACKENDS
from vmtest.__main__ import passed
from vmtest.errors import VmtestError
from vmtest.kernels import KERNELS, find

CHECKOUT = Path(__file__).parents[3]


def vmtest(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vmtest", *arguments],
        cwd=CHECKOUT,
        env=None if path is None else {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_list() -> None:
    done = vmtest("--list")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [kernel.name for kernel in KERNELS]


def test_kernels_are_found_once_and_in_order() -> None:
    assert [kernel.name for kernel in find(["7.2", "all"])] == ["7.2", "5.10", "6.1", "6.12", "6.18"]
    assert {kernel.arch for kernel in find(["all"])} == {"amd64"}


def test_backends_are_listed_best_first() -> None:
    for kernel in KERNELS:
        assert list(kernel.backends) == sorted(kernel.backends, key=BACKENDS.index)
        assert len({*kernel.backends}) == len(kernel.backends)


def test_an_unknown_kernel_is_answered_with_near_names() -> None:
    with pytest.raises(VmtestError, match=r"no kernel '6\.13' .*6\.12"):
        find(["6.13"])
    with pytest.raises(VmtestError, match=r"no kernel 'x' .*5\.10.* all"):
        find(["x"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which KERNEL?"),
        (["6.1", "6.12", "--", "true"], "one KERNEL"),
        (["6.1"], "no terminal for a shell"),
        (["6.1", "--"], "no command after"),
        (["--smp", "two", "6.1", "--", "true"], "invalid int value"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str) -> None:
    done = vmtest(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["6.13", "--", "true"], "no kernel '6.13'"), (["6.12", "--", "true"], "qemu-system-x86_64 is missing")],
)
def test_an_error_is_one_line(arguments: list[str], message: str) -> None:
    done = vmtest(*arguments, path="/nonexistent")
    assert done.returncode == 1
    assert done.stderr.startswith("vmtest: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", []),
        ("tests/kernel/test_a.py ..", []),
        ("tests/kernel/test_a.py ..s [ 10%]\ntests/kernel/test_b.py ...", ["tests/kernel/test_a.py"]),
        (  # a file with two lines is finished once the next has begun
            "tests/kernel/test_a.py .. [ 10%]\n.x. [ 20%]\ntests/kernel/test_b.py ",
            ["tests/kernel/test_a.py"],
        ),
        (  # other lines may begin with an F or E, too
            "Error: of a tool\ntests/kernel/test_a.py .. [ 10%]\ntests/kernel/test_b.py ",
            ["tests/kernel/test_a.py"],
        ),
        ("tests/kernel/test_a.py .F. [ 10%]\ntests/kernel/test_b.py ...", None),
        ("tests/kernel/test_a.py ... [ 10%]\n..E [ 20%]\ntests/kernel/test_b.py ...", None),
    ],
)
def test_what_had_passed_when_a_guest_was_cut_off(output: str, expected: list[str] | None) -> None:
    assert passed(output) == expected
