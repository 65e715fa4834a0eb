"""Makes the container image that packaging/Containerfile describes: `packaging/image.py x86_64|aarch64`.

dist/pwru-image-ARCH.tar is what `docker save` writes: an OCI archive, which also has the manifest.json by which Docker
finds an image where it does not keep images in containerd. buildah builds it from dist/pwru-ARCH, without a daemon.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
sys.path.insert(0, str(CHECKOUT))

from pwru import __version__  # noqa: E402
from vmtest.arches import BY_UNAME  # noqa: E402

NAME = f"pwru:{__version__}"


def build(machine: str, layout: Path) -> None:
    """Make an OCI image layout of dist/pwru-`machine`, the same each time. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(
            [
                *("buildah", f"--root={tmp}/root", f"--runroot={tmp}/run", "--storage-driver=vfs"),
                *("build", "--quiet", f"--timestamp={os.environ.get('SOURCE_DATE_EPOCH', '0')}"),
                *(f"--arch={BY_UNAME[machine]}", f"--build-arg=MACHINE={machine}"),
                *(f"--file={CHECKOUT}/packaging/Containerfile", f"--tag=oci:{layout}:{NAME}", CHECKOUT / "dist"),
            ],
            stdout=subprocess.DEVNULL,
            check=True,
        )


def add_names(layout: Path) -> None:
    """Name the image for containerd and in manifest.json, as Docker does: moby's image/tarexport reads nothing else."""

    def blob(of: dict[str, str]) -> str:
        return f"blobs/{of['digest'].replace(':', '/')}"

    index = json.loads((layout / "index.json").read_text())
    [image] = index["manifests"]
    image["annotations"]["io.containerd.image.name"] = f"docker.io/library/{NAME}"
    (layout / "index.json").write_text(json.dumps(index))
    manifest = json.loads((layout / blob(image)).read_text())
    layers = [blob(layer) for layer in manifest["layers"]]
    entry = {"Config": blob(manifest["config"]), "RepoTags": [NAME], "Layers": layers}
    (layout / "manifest.json").write_text(json.dumps([entry]))


def pack(layout: Path, file: Path) -> None:
    """Write the archive, with names in order and without times and owners."""
    new = file.with_name(f".{file.name}.new")
    with tarfile.open(new, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(layout.rglob("*")):
            member = tarfile.TarInfo(str(path.relative_to(layout)))
            if path.is_dir():
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            else:
                member.size = path.stat().st_size
                with path.open("rb") as content:
                    archive.addfile(member, content)
    new.rename(file)


def main(machine: str) -> None:
    file = CHECKOUT / f"dist/pwru-image-{machine}.tar"
    with tempfile.TemporaryDirectory() as tmp:
        layout = Path(tmp, "layout")
        build(machine, layout)
        add_names(layout)
        pack(layout, file)
    print(f"{file.relative_to(CHECKOUT)}: {NAME}, {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
