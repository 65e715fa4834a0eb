"""A browser that looks at reports, and notes whatever a report must not do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Locator, Page

# Before anything of the page runs.
_WATCH = (
    'document.addEventListener("securitypolicyviolation", (e) => console.error(`refused: ${e.violatedDirective}`));'
)


class Viewer:
    """`complaints`: requests other than for the page itself, errors, dialogs, and what the page's policy refused."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._pages: list[Page] = []
        self.complaints: list[str] = []

    def open(
        self, path: Path, *, width: int = 1440, scheme: Literal["light", "dark"] = "light", packet: int | None = None
    ) -> Page:
        """Open a report, at a packet if its number is given."""
        page = self._browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        self._pages.append(page)
        url = path.as_uri() + ("" if packet is None else f"#{packet}")
        page.add_init_script(_WATCH)
        page.on("request", lambda request: self._note(f"asked for {request.url}", request.url != path.as_uri()))
        page.on("console", lambda message: self._note(message.text, True))
        page.on("pageerror", lambda error: self._note(str(error), True))
        page.on("dialog", lambda dialog: self._note(f"dialog {dialog.message}", True))
        page.goto(url)
        page.wait_for_selector("html[data-ready]")
        return page

    def close(self) -> None:
        for page in self._pages:
            page.close()

    def _note(self, complaint: str, wrong: bool) -> None:
        if wrong:
            self.complaints.append(complaint)


def rows(panel: Locator) -> list[list[str]]:
    """Return the cells of a table's body."""
    return [row.locator("td").all_inner_texts() for row in panel.locator("tbody tr").all()]


def search(page: Page, words: str) -> str:
    """Search, and return how many packets the page says are shown."""
    page.fill("#search", words)
    page.wait_for_timeout(150)  # it waits for more to be typed
    count: str = page.inner_text("#count")
    return count
