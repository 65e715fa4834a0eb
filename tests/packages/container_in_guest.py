"""The container image, run by Docker on the guest's kernel; test_container.py runs this in guests.

Docker and the image are in a Debian root, the guest's fifth disk; so AppArmor, seccomp, masked paths and the rest are
what Docker makes of the README's line.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.leftovers import probes, wait_for
from tests.kernel.tracing import Trace
from tests.packages import docker_line
from vmtest.network import Network, sh

ROOT = Path("/run/root")
CHROOT = ("env", "-i", f"PATH={os.environ['PATH']}", "chroot", str(ROOT))
PORT = 9999
DROPPED = re.compile(rf"127\.0\.0\.1:\d+->127\.0\.0\.1:{PORT}\(udp\) (kfree_skb|sk_skb_reason_drop)")
LINE = docker_line.run()
TO_PORT = f"udp and dst port {PORT}"


@pytest.fixture(scope="session", autouse=True)
def docker() -> Iterator[None]:
    """dockerd, with the image loaded by the README's line."""
    for folder in ("/run/lower", "/run/upper", "/run/work", str(ROOT)):
        Path(folder).mkdir()
    sh("mount", "-t", "ext4", "-o", "ro", "/dev/vdd", "/run/lower")
    sh("mount", "-t", "overlay", "-o", "lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work", "root", str(ROOT))
    for part in ("dev", "proc", "sys"):
        sh("mount", "--rbind", f"/{part}", str(ROOT / part))
    for part in ("run", "tmp", "var/lib/docker"):
        (ROOT / part).mkdir(exist_ok=True)
        sh("mount", "-t", "tmpfs", part, str(ROOT / part))
    with Path("/tmp/dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            [*CHROOT, "dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false"], stdout=log, stderr=log
        )
    try:
        wait_for(lambda: call("docker", "version").returncode == 0, Path("/tmp/dockerd.log").read_text)
        sh(*CHROOT, "sh", "-c", f"cd /image && {' '.join(docker_line.load())}")
        yield
    finally:
        daemon.terminate()
        daemon.wait()


def call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CHROOT, *command], capture_output=True, text=True, check=False)


def pwru(*arguments: str, line: docker_line.DockerLine = LINE) -> subprocess.CompletedProcess[str]:
    return call("docker", "run", *line.options, line.image, *arguments)


def without(*options: str) -> docker_line.DockerLine:
    """The README's line without these options, each of which must be in it."""
    assert all(any(word.startswith(option) for word in LINE.options) for option in options)
    return LINE._replace(options=tuple(word for word in LINE.options if not word.startswith(options)))


@dataclass
class Contained(Trace):
    """A trace in a container."""

    line: docker_line.DockerLine = LINE

    @property
    def command(self) -> list[str]:
        return [*CHROOT, "docker", "run", *self.line.options, self.line.image, *self.arguments]


def send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"lost", ("127.0.0.1", PORT))


def drop(trace: Trace) -> None:
    """Send until a drop is seen, and end the trace, which must have lost nothing."""

    def seen() -> bool:
        send()
        return bool(DROPPED.search(trace.out))

    trace.wait_for(seen)
    assert trace.stop() == 0, trace.err
    events, lost = trace.totals()
    assert (events, lost) == (len(trace.rows()), 0)


def test_docker_confines() -> None:
    """Otherwise the other tests say little."""
    info = call("docker", "info", "--format", "{{json .SecurityOptions}}").stdout
    assert "name=apparmor" in info
    assert "name=seccomp,profile=builtin" in info


def test_the_line(tmp_path: Path) -> None:
    with Contained(tmp_path, (TO_PORT,)) as trace:
        [pid] = call("docker", "ps", "--quiet").stdout.split()
        state = json.loads(call("docker", "inspect", pid).stdout)[0]
        assert state["AppArmorProfile"] == "docker-default"
        assert state["HostConfig"]["MaskedPaths"]
        drop(trace)
    assert re.match(r"Attached to \d+ functions \((kprobe|fentry)-multi\)\.\n", trace.err)
    assert f":{os.getpid()} " in trace.out


def test_the_filter_of_the_line() -> None:
    done = pwru("--output-limit-lines=1", "port no-such-service")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"pwru: pcap filter 'port no-such-service': .*\n", done.stderr)


@pytest.mark.parametrize("name", ["BPF", "PERFMON"])
def test_no_trace_without(name: str) -> None:
    done = pwru(TO_PORT, line=without(f"--cap-add={name}"))
    assert done.returncode == 1
    assert f"CAP_{name} missing, even for root; add them to the container" in done.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [("--cap-add=SYSLOG", "to be shown them takes CAP_SYSLOG"), ("--volume=", "refused by the kernel")],
)
def test_less_is_traced_without(option: str, said: str, tmp_path: Path) -> None:
    with Contained(tmp_path, (TO_PORT,), line=without(option)) as trace:
        assert trace.stop() == 0
    assert said in trace.err


def test_without_tracefs(tmp_path: Path) -> None:
    """kprobe-multi works, and kprobe is refused with the line that helps."""
    line = without("--volume=")
    with Contained(tmp_path, (TO_PORT,), line=line) as trace:
        drop(trace)
    refused = pwru("--backend=kprobe", TO_PORT, line=line)
    assert refused.returncode == 1
    assert "tracefs is not mounted and cannot be (Operation not permitted): mount -t tracefs" in refused.stderr
    assert "for a container, --volume=/sys/kernel/tracing:/sys/kernel/tracing" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_kprobe(tmp_path: Path) -> None:
    """By the README's line for it; tracefs is mounted where only pwru sees it."""

    def mounts() -> list[str]:
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " tracefs " in line]

    before = mounts()
    with Contained(tmp_path, ("--backend=kprobe", TO_PORT), line=docker_line.privileged()) as trace:
        assert probes()
        drop(trace)
    wait_for(lambda: not probes())
    assert mounts() == before


def test_pids(tmp_path: Path) -> None:
    """Those given are the host's or the container's, as --pid says; those printed are the host's."""
    with Contained(tmp_path, (f"--filter-pid={os.getpid()}", TO_PORT)) as trace:
        drop(trace)
    assert {row["process"].rpartition(":")[2] for row in trace.rows()} == {str(os.getpid())}
    hidden = pwru(f"--filter-pid={os.getpid()}", TO_PORT, line=without("--pid="))
    assert hidden.returncode == 1
    assert f"no process {os.getpid()} in this container, whose PIDs are not the host's" in hidden.stderr
    (tmp_path / "2").mkdir()
    with Contained(tmp_path / "2", (TO_PORT,), line=without("--pid=")) as trace:
        drop(trace)
    assert f":{os.getpid()} " in trace.out


def test_names_of_the_host(tmp_path: Path) -> None:
    """Interfaces of the host, its namespaces by number and, with the README's option, by name."""
    with Contained(tmp_path, ("--filter-ifname=lo", TO_PORT)) as trace:
        drop(trace)
    with Network() as network:
        inode = os.stat("/run/netns/client").st_ino
        (ROOT / "run/netns").mkdir(exist_ok=True)
        sh("mount", "--rbind", "/run/netns", str(ROOT / "run/netns"))
        by_name = LINE._replace(options=(*LINE.options, "--volume=/run/netns:/run/netns:ro"))
        for netns, line in ((f"inode:{inode}", LINE), ("client", by_name)):
            folder = tmp_path / line.options[-1].replace("/", "_")
            folder.mkdir()
            with Contained(folder, (f"--filter-netns={netns}", "--output-limit-lines=1", "icmp"), line=line) as trace:
                network.ping()
                trace.wait_until_it_ends()
            assert [row["netns"] for row in trace.rows()] == [str(inode)]
        sh("umount", "--lazy", str(ROOT / "run/netns"))


def test_containerd_knows_the_name() -> None:
    """As kubelet looks for it."""
    address = "/run/docker/containerd/containerd.sock"
    sh(*CHROOT, "ctr", "--address", address, "images", "import", f"/image/{docker_line.load()[-1]}")
    names = sh(*CHROOT, "ctr", "--address", address, "images", "list", "--quiet").stdout.split()
    assert names == [f"docker.io/library/{LINE.image}"]
