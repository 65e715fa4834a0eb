"""Fixtures of the tests of reports: a real browser without a window, and pages that it opens from disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.traffic import write_made_up

from .viewer import Viewer


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "chromium is missing: make test-report installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # root has no sandbox
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_made_up(path, 400)
    return path


@pytest.fixture
def viewer(browser: Browser) -> Iterator[Viewer]:
    """Fail the test if a page asks for anything, breaks its own policy, or has an error."""
    viewer = Viewer(browser)
    yield viewer
    viewer.close()
    assert not viewer.complaints
