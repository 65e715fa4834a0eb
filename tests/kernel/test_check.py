"""`pwru --check` reports what this kernel then really does."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
from typing import Any

import pytest

from pwru.live.backends import BACKENDS

from .leftovers import PATIENCE
from .refusals import CANNOT_MOUNT, NO_TRACEFS, elsewhere
from .tracing import Start, fails


def check(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = (*before, "pwru", "--check", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stderr == "", done.stderr
    return done


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    done = check("--json")
    assert done.returncode == 0
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_works_or_is_refused_for_that_reason(backend: str, report: dict[str, Any], pwru: Start) -> None:
    entry = report["backends"][backend]
    if entry["works"]:
        only = () if backend == "tracepoint" else ("--filter-func=ip_rcv",)
        with pwru(f"--backend={backend}", *only) as trace:
            assert trace.stop() == 0
    else:
        assert f"{backend}: {entry['detail']}" in fails(f"--backend={backend}")


def test_the_first_that_works_is_taken(report: dict[str, Any], pwru: Start) -> None:
    taken = [name for name, entry in report["backends"].items() if "taken unless" in entry["detail"]]
    assert taken == [next(name for name, entry in report["backends"].items() if entry["works"])]
    with pwru("--filter-func=ip_rcv") as trace:
        trace.stop()
    assert f"({taken[0]})" in trace.err


def test_what_following_sees(report: dict[str, Any]) -> None:
    """All of it on all of our kernels: see test_roles.py for what others may lack."""
    assert report["flags"]["--follow"] == {
        "works": True,
        "detail": "sees clones, copies and segments, IP fragments, reassembly, what TCP splits, merges, transmissions"
        " of TCP, new heads, ends",
    }


def test_the_machine(report: dict[str, Any]) -> None:
    assert report["versions"]["kernel"].split() == [os.uname().release, os.uname().machine]
    assert re.fullmatch(r"\d+\.\d+", report["versions"]["libbpf"])
    machine = report["machine"]
    assert machine["libbpf"]["works"]
    assert machine["libbpf"]["detail"] in ("bundled with pwru", "the system's")
    assert machine["BTF"]["works"]
    assert machine["symbols"]["works"]
    assert machine["tracefs"]["works"] == os.path.exists("/sys/kernel/tracing/events")
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    assert machine["memory lock limit"]["detail"].startswith(("unlimited", f"{soft >> 10} kB"))


@pytest.mark.one_kernel
def test_text_says_the_same_and_fits_the_terminal(report: dict[str, Any]) -> None:
    done = check()
    for section in ("backends", "flags", "machine"):
        for name, entry in report[section].items():
            word = {True: "yes", False: "no", None: "-"}[entry["works"]]
            assert re.search(rf"^  {re.escape(name)} +{word}\b|^  {re.escape(name)} +-", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_without_privileges() -> None:
    done = check("--json", before=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    for entry in report["backends"].values():
        assert not entry["works"]
        assert "CAP_BPF" in entry["detail"]
    assert not report["machine"]["symbols"]["works"]


@pytest.mark.two_kernels
def test_without_tracefs() -> None:
    """Only single kprobes need tracefs."""
    before = (*elsewhere(NO_TRACEFS), *CANNOT_MOUNT)
    done = check("--json", before=before)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert not report["machine"]["tracefs"]["works"]
    assert not report["backends"]["kprobe"]["works"]
    assert "tracefs is not mounted" in report["backends"]["kprobe"]["detail"]
