"""A real browser on a real server: Debian's chromium, Daphne, the test database and Valkey."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.wait import until

#: Chromium calls home at each start unless told not to; its own sandbox does not run as root.
ARGUMENTS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


def chromium() -> str | None:
    """Find a browser: Playwright's own download is not asked for."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("There is no chromium here (on Debian: apt-get install chromium).")
    # Playwright leaves an event loop running in this thread, in which Django would refuse to work.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    try:
        with sync_playwright() as playwright:
            root = ["--no-sandbox"] if os.geteuid() == 0 else []
            launched = playwright.chromium.launch(
                executable_path=program,
                args=[*ARGUMENTS, *root],
                ignore_default_args=["--disable-back-forward-cache"],
            )
            yield launched
            launched.close()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console said as a warning or error, CSP violations included.

    A test that provokes an error on purpose takes it out; what is left fails the test.
    """
    return []


@pytest.fixture
def pardons() -> list[str]:
    """Parts of complaints that a test provokes on purpose, and that may come at any time."""
    return []


@pytest.fixture
def page(
    browser: Browser, complaints: list[str], pardons: list[str], tmp_path: Path
) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    # A deadline, not a goal: the machine may be busy with the rest of the tests.
    page.set_default_timeout(30_000)
    expect.set_options(timeout=15_000)

    def say(what: str, request: Request) -> None:
        # pytest shows it with a test that fails.
        if request.resource_type in {"document", "fetch", "xhr"}:
            print(f"{time.strftime('%X')} {what} {request.method} {request.url}")

    page.on("request", lambda request: say("asks", request))
    page.on("response", lambda answer: say(f"gets {answer.status} for", answer.request))
    page.on("requestfailed", lambda request: say(f"{request.failure}:", request))

    def note(message: ConsoleMessage) -> None:
        # Who leaves a page while its socket still connects cuts it off; that is no fault.
        left = "closed before the connection is established" in message.text
        if any(part in message.text for part in pardons):
            return
        if message.type in {"error", "warning"} and not left:
            complaints.append(f"{message.type}: {message.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    yield page
    context.close()
    assert not complaints, complaints


class Server:
    """A Daphne of its own process, which can be killed and started again on its port."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment, self.log = environment, log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ["daphne", "-b", "127.0.0.1", "-p", str(self.port), "config.asgi:application"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], env=self.environment, stdout=log, stderr=log
            )
        until(self.answers, seconds=40, what="Daphne to answer")

    def answers(self) -> bool:
        assert self.process and self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.url}/accounts/login/", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def daphne(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One web process for all tests of this folder: its start takes longer than most of them."""
    home = tmp_path_factory.mktemp("web")
    found = connection.settings_dict
    host, name = quote(found["HOST"], safe="/"), found["NAME"]
    login = quote(found["USER"]) + (f":{quote(found['PASSWORD'])}" if found["PASSWORD"] else "")
    where = f"localhost:{found['PORT']}" if found["PORT"] else ""
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql://{login}@{where}/{name}?host={host}",
        "REDIS_URL": settings.REDIS_URL,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "TUTTI_HOME": str(home),
        "TUTTI_SOURCE_ROOTS": str(tmp_path_factory.getbasetemp()),
        "ALLOWED_HOSTS": "127.0.0.1",
    }
    made = Server(environment, home / "daphne.log")
    yield made
    made.kill()


@pytest.fixture
def tutti_home(settings: Any, daphne: Server, tmp_path: Path) -> Path:
    """The data directory that the test and the web process share."""
    settings.TUTTI_HOME = Path(daphne.environment["TUTTI_HOME"])
    settings.TUTTI_SOURCE_ROOTS = [tmp_path]
    return Path(settings.TUTTI_HOME)


@pytest.fixture
def server(transactional_db: None, tutti_home: Path, daphne: Server) -> Server:
    if daphne.process is None:
        daphne.start()
    return daphne


@pytest.fixture
def shot(page: Page):
    """Take a picture of the page, into the folder that TUTTI_SHOTS names; without it, none."""
    folder = os.environ.get("TUTTI_SHOTS")

    def take(name: str) -> None:
        if folder:
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return take
