"""Makes the picture in the README: `python -m tests.report.screenshot PNG [REPORT PACKET]`; or of made-up traffic.

pngquant(1) makes it a third of the size.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support.traffic import write_made_up


def main(picture: str, report: str = "", packet: str = "31") -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(report or f"{folder}/report.html").absolute()
        if not report:
            write_made_up(path, 400)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1420})
        page.goto(f"{path.as_uri()}#{packet}")
        page.wait_for_selector("html[data-ready]")
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
