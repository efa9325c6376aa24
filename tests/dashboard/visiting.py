"""Somebody who visits the page with a browser, and notes whatever must not happen."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playwright.async_api import Browser, Page, expect

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 15_000
SHOTS = Path(__file__).resolve().parents[2] / "var" / "screenshots"

expect.set_options(timeout=PATIENCE_MS)


class Visitor:
    """A browser without a past. `wrong` holds errors of scripts and of the console (those of the content security
    policy are among them), requests to anybody else, dialogs of scripts, and requests that failed.
    """

    def __init__(self, browser: Browser, port: int, scheme: str = "http", **options: Any) -> None:
        self._browser, self._options = browser, options
        self.origin = f"{scheme}://127.0.0.1:{port}"
        self.wrong: list[str] = []
        self.allowed: tuple[str, ...] = ()
        self.requests: list[str] = []

    async def __aenter__(self) -> Self:
        self.context = await self._browser.new_context(**self._options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.on("page", self._watch)
        self.page = await self.context.new_page()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.context.close()

    async def go(self, path: str) -> Page:
        """The page at `path`."""
        await self.page.goto(f"{self.origin}{path}")
        return self.page

    async def shoot(self, name: str) -> None:
        """Keeps a picture of the whole page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def _watch(self, page: Page) -> None:
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("request", lambda request: self._request(request.url))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(words in text for words in self.allowed):
            self.wrong.append(f"console: {text}")

    def _request(self, url: str) -> None:
        self.requests.append(url)
        if not url.startswith(f"{self.origin}/"):
            self.wrong.append(f"request: {url}")
