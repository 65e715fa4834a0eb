"""The container image: what is in it, that Docker runs it by the README's line, and what Kubernetes is given."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pwru import __version__
from pwru.cli.options import parse
from pwru.filter.packet.pcap import compile_filter
from tests.packages import docker_line
from vmtest import chroot, guest, kernels
from vmtest.arches import NATIVE
from vmtest.product import CHECKOUT

MACHINE = platform.machine()
ON_NODE = CHECKOUT / "scripts/pwru-on-node"
KUBERNETES = sorted((CHECKOUT / "packaging/kubernetes").glob("*.yaml"))
DOCKER = ("apparmor", "docker.io", "docker-cli")
# What is run on a kernel, as pytest's -k; 6.1 has no kprobe-multi.
GUESTS = {"6.1": "confines or kprobe", "6.12": ""}


def make() -> Path:
    made = subprocess.run(["make", "-s", "image"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return CHECKOUT / f"dist/pwru-image-{MACHINE}.tar"


@pytest.fixture(scope="session")
def image() -> Path:
    return make()


@pytest.fixture
def files(image: Path) -> dict[str, bytes]:
    with tarfile.open(image) as archive:
        return {name: file.read() for name in archive.getnames() if (file := archive.extractfile(name))}


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    algorithm, digest = descriptor["digest"].split(":")
    content = files[f"blobs/{algorithm}/{digest}"]
    assert (hashlib.new(algorithm, content).hexdigest(), len(content)) == (digest, descriptor["size"])
    return content


def test_the_image_is_what_the_containerfile_says(files: dict[str, bytes]) -> None:
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    [entry] = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(files, entry))
    config, [layer] = json.loads(blob(files, manifest["config"])), manifest["layers"]
    assert (config["os"], config["architecture"]) == ("linux", NATIVE)
    source = (CHECKOUT / "packaging/Containerfile").read_text()
    [entrypoint] = re.findall(r"^ENTRYPOINT (.+)$", source, re.MULTILINE)
    [target] = re.findall(r"^COPY pwru-\$\{MACHINE\} /(.+)$", source, re.MULTILINE)
    assert config["config"]["Entrypoint"] == json.loads(entrypoint) == [f"/{target}"]
    with tarfile.open(fileobj=io.BytesIO(blob(files, layer))) as tree:
        assert [member.name for member in tree if not member.isdir()] == [target]
        assert {member.mode & 0o777 for member in tree} == {0o755}
        program = tree.extractfile(target)
        assert program
        assert program.read() == (CHECKOUT / f"dist/pwru-{MACHINE}").read_bytes()


def test_its_name(files: dict[str, bytes]) -> None:
    """As Docker, Podman and containerd look for it, and as it is called everywhere."""
    name = f"pwru:{__version__}"
    [entry] = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == name
    [docker] = json.loads(files["manifest.json"])
    assert docker["RepoTags"] == [name]
    assert {docker["Config"], *docker["Layers"]} <= {*files}
    assert docker_line.run().image == name
    assert f"image=${{PWRU_IMAGE-{name}}}" in ON_NODE.read_text()
    for path in KUBERNETES:
        assert pod(path)["containers"][0]["image"] == name


def test_two_builds_are_the_same(image: Path) -> None:
    first = image.read_bytes()
    time.sleep(1.1)  # more than the resolution of the times in an archive
    assert make().read_bytes() == first


@pytest.fixture(scope="module")
def disk(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of a root with Docker, and with the container image in /image."""
    made = tmp_path_factory.mktemp("disk") / "root.img"
    with chroot.use(chroot.root("trixie", DOCKER, needs_mb=900)) as root:
        (root.files / "image").mkdir()
        shutil.copy(image, root.files / "image")
        root.image(made)
    return made


@pytest.mark.parametrize("kernel", GUESTS)
@pytest.mark.timeout(1800)
def test_in_docker(kernel: str, disk: Path) -> None:
    [found] = kernels.find([kernel])
    command = f"python3 -m pytest -q tests/packages/container_in_guest.py -k '{GUESTS[kernel]}'"
    result = guest.run(guest.Guest(found, command, timeout=1500, bare=True, disks=(disk,)))
    assert result.status == 0, f"{result.error}\n{result.stdout}{result.stderr}"
    assert " passed" in result.stdout


def manifest(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def pod(path: Path) -> dict[str, Any]:
    spec: dict[str, Any] = manifest(path)["spec"]["template"]["spec"]
    return spec


def test_there_is_one_for_a_node_and_one_for_all() -> None:
    assert [manifest(path)["kind"] for path in KUBERNETES] == ["DaemonSet", "Job"]


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)
def test_manifests_keep_to_the_schema(path: Path) -> None:
    kubernetes_validate.validate(manifest(path), kubernetes_validate.latest_version(), strict=True)


def test_the_schema_is_checked() -> None:
    wrong = manifest(KUBERNETES[0])
    wrong["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)
def test_manifests_give_what_the_readme_gives(path: Path) -> None:
    """The README's line is what is tested with a kernel."""
    line, spec = docker_line.run(), pod(path)
    [container] = spec["containers"]
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": line.values("--cap-drop"), "add": line.values("--cap-add")}
    assert ("--read-only" in line.options, context["readOnlyRootFilesystem"]) == (True, True)
    assert (line.values("--pid"), spec["hostPID"]) == (["host"], True)
    assert (line.values("--network"), spec["hostNetwork"]) == (["host"], True)
    [mount], [volume] = container["volumeMounts"], spec["volumes"]
    assert mount["name"] == volume["name"]
    bind = f"{volume['hostPath']['path']}:{mount['mountPath']}:{'ro' if mount['readOnly'] else 'rw'}"
    assert line.values("--volume") == [bind]
    assert "privileged" not in context


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.stem)
def test_the_arguments_of_manifests_are_understood(path: Path) -> None:
    options = parse(pod(path)["containers"][0]["args"])
    assert compile_filter(options.request.filter).l3


# Answers as kubectl 1.32 does, and writes what it is called with. The pod is pending once, then running; it ends
# when it is deleted or, unless $FAKE is `long`, at the end of its log.
KUBECTL = """#!/bin/sh
for word; do printf '<%s>' "$word"; done >>"$CALLS"
echo >>"$CALLS"
case "$FAKE $*" in
refused*) echo 'Error from server (NotFound): nodes "n1" not found' >&2; exit 1 ;;
*\\ debug\\ *) echo "Creating debugging pod node-debugger-n1-x7 with container debugger on node n1." ;;
*.status.phase*)
    [ "$FAKE" != pending ] || exec printf Pending
    [ -e "$CALLS.pending" ] || { touch "$CALLS.pending"; exec printf Pending; }
    [ -e "$CALLS.deleted" ] || printf Succeeded ;;
*waiting.reason*) printf ImagePullBackOff ;;
*terminated.exitCode*) [ -e "$CALLS.deleted" ] || printf 3 ;;
*logs*)
    echo a line
    while [ "$FAKE" = long ] && [ ! -e "$CALLS.deleted" ]; do sleep 0.1; done
    echo the account ;;
*delete*) touch "$CALLS.deleted" ;;
*) exit 9 ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kubectl = tmp_path / "bin/kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{kubectl.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAKE", "")
    return tmp_path / "calls"


def on_node(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ON_NODE, *arguments], capture_output=True, text=True, check=False)


def test_shellcheck() -> None:
    subprocess.run(["shellcheck", ON_NODE], check=True)


def test_on_node(calls: Path) -> None:
    """The pod is made, its log shown, its status returned, and it is deleted."""
    done = on_node("n1", "--output-json", "host 1.1.1.1 and port 80")
    assert (done.returncode, done.stdout, done.stderr) == (3, "a line\nthe account\n", "")
    made, *_, deleted = calls.read_text().splitlines()
    assert made == (
        f"<debug><node/n1><--profile=sysadmin><--image=pwru:{__version__}><--></usr/bin/pwru>"
        "<--output-json><host 1.1.1.1 and port 80>"
    )
    assert deleted == "<delete><pod><node-debugger-n1-x7><--ignore-not-found><--wait=false>"


def test_on_node_elsewhere(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWRU_IMAGE", "registry.example/pwru:1")
    monkeypatch.setenv("NAMESPACE", "debug")
    assert on_node("n1").returncode == 3
    first, *rest = calls.read_text().splitlines()
    assert "<--image=registry.example/pwru:1>" in first
    assert all(line.startswith("<--namespace=debug>") for line in (first, *rest))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_node_is_interrupted(number: signal.Signals, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does it, the whole group gets the signal; the account comes all the same."""
    monkeypatch.setenv("FAKE", "long")
    with subprocess.Popen([ON_NODE, "n1"], stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "a line\n"
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.stdout.read() == "the account\n"
        assert process.wait() == 0
    assert "<delete>" in calls.read_text()


def test_on_node_does_not_start(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "pending")
    sleep = calls.parent / "bin/sleep"
    sleep.symlink_to("/bin/true")
    done = on_node("n1")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"pwru-on-node: pod node-debugger-n1-x7 .* does not start: ImagePullBackOff\n", done.stderr)
    assert "<delete>" in calls.read_text()


def test_on_node_is_refused(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "refused")
    done = on_node("n1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'pwru-on-node: Error from server (NotFound): nodes "n1" not found\n'
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_on_node_wants_a_node(arguments: tuple[str, ...], calls: Path) -> None:
    done = on_node(*arguments)
    assert (done.returncode, done.stderr) == (2, "usage: pwru-on-node NODE [PWRU-ARGUMENT...]\n")
    assert not calls.exists()
