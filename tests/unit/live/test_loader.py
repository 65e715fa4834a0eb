"""The BPF object is found wherever the Python code is."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.records import OBJECT


def test_the_object_in_an_archive_with_the_code(tmp_path: Path) -> None:
    package = OBJECT.parent
    archive = tmp_path / "pwru.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in (*package.rglob("*.py"), OBJECT):
            made.write(path, path.relative_to(package.parent))
    script = "import pwru.live.loader as loader; print(loader.__file__, loader.object_wire().constant('MAX_VALUES'))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": str(archive)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    file, constant = done.stdout.split()
    assert file.startswith(str(archive))
    assert int(constant) > 0
