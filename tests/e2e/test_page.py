"""The status page of a real server in a browser, with a job that runs, ends, and has a name like an attack."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from mover.admin.client import AdminClient
from mover.admin.jobs import Jobs, JobsReply, JobStatus
from mover.ndmp.enums import DataHaltReason, MoverHaltReason, MoverMode
from mover.ndmp.messages import (
    DataStartBackupRequest,
    MoverContinueRequest,
    MoverSetWindowRequest,
    NotifyMoverPausedPost,
)
from tests.e2e.conftest import MakeServer
from tests.e2e.test_web import scrape, total
from tests.support.ndmp_client import ALL, Job, pairs
from tests.support.peers import require
from tests.support.processes import settle
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file, make_small_files

pytestmark = [pytest.mark.slow, pytest.mark.peer("chromium"), pytest.mark.timeout(300)]
DEADLINE_MS = 60_000
MIB = 1 << 20
WINDOW = 4 * MIB
HOSTILE = "<img src=x onerror='document.title=\"owned\"'>\x1b[31m\u202e"
SHOWN = "<img src=x onerror='document.title=\"owned\"'>\\x1b[31m\\xe2\\x80\\xae"  # as every view shows it


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # No sandbox: root has none, and what is shown is our own.
        running = playwright.chromium.launch(
            executable_path=require("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which any error and any breach of its policy fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(DEADLINE_MS)
    wrong: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if "Policy" in message.text else None)
    opened.on("dialog", lambda dialog: wrong.append(dialog.message))
    yield opened
    context.close()
    assert wrong == []


def show(page: Page, server: Server) -> None:
    page.goto(f"http://{server.ready.metrics}/")
    expect(page.locator("#state")).to_have_text("live", timeout=DEADLINE_MS)


def last_job(server: Server) -> JobStatus:
    with AdminClient(server.ready.admin_socket) as client:
        reply = client.ask(Jobs())
    assert isinstance(reply, JobsReply)
    return reply.jobs[-1]


def test_a_job_is_shown_while_it_runs_and_when_it_has_ended(
    make_server: MakeServer, login: Login, shm: Path, page: Page
) -> None:
    source = shm / HOSTILE
    make_small_files(source, files=50, directories=3)
    make_large_file(source / "large", size=16 * MIB)
    server = make_server("server", metrics="127.0.0.1:0")
    show(page, server)
    expect(page.locator("#jobs")).to_have_text("No job is running.")
    with Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.READ, window_length=WINDOW)
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), HIST="y")))
        job.tape.wait_for(NotifyMoverPausedPost)  # where it stands still until we go on
        card = page.locator("#jobs .job")
        expect(card).to_contain_text(SHOWN, timeout=DEADLINE_MS)
        expect(card).to_contain_text("backup · dump level 0")
        expect(card).to_contain_text("files")
        assert float(card.locator("progress").get_attribute("value") or 0) > 0
        assert page.locator("#rings .ring h3").all_inner_texts()[0].startswith("data-")
        assert page.locator("#sessions tbody tr").count() == 1
        assert page.locator("#drives tbody tr").count() == 1
        kinds = page.locator("#processes tbody tr td:nth-child(2)").all_inner_texts()
        assert {"data", "tape"} <= set(kinds)
        assert "owned" not in page.title()
        assert page.locator("img").count() == 0
        plot = card.locator("svg.plot polyline")
        expect(plot).to_have_count(1, timeout=DEADLINE_MS)  # two samples are there
        drawn = plot.get_attribute("points")
        assert drawn is not None
        # It comes by itself: more samples, and nobody has asked.
        settle(lambda: plot.get_attribute("points") != drawn, "the plot goes on", DEADLINE_MS / 1000)
        page.screenshot(path=shm / "running.png", full_page=True)
        job.tape.ok(MoverSetWindowRequest(WINDOW, ALL))
        job.tape.ok(MoverContinueRequest())
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        (probed,) = msgspec.convert(server.ask("probe")["sessions"], list[dict[str, object]])
        job.data.hang_up()
    summary = last_job(server)
    (ended,) = msgspec.convert(server.ask("top")["ended-jobs"], list[dict[str, object]])
    for told in (probed["data-bytes-processed"], ended["stream-bytes"]):
        assert told == summary.stream_bytes
    assert ended["entries"] == probed["data-entries"] == sum(summary.entries.values())
    row = page.locator("#ended tbody tr").first
    expect(row).to_contain_text("successful", timeout=DEADLINE_MS)
    cells = dict(
        zip(page.locator("#ended thead th").all_inner_texts(), row.locator("td").all_inner_texts(), strict=True)
    )
    assert cells["job"] == f"#{summary.number}"
    assert cells["path"].endswith(SHOWN)
    assert cells["bytes"] == f"{summary.stream_bytes:,}"
    assert len(row.locator("svg.plot polyline").get_attribute("points") or "") > 0
    assert cells["entries"] == f"{sum(summary.entries.values()):,}"
    scraped = scrape(server)
    assert total(scraped, "mover_data_bytes_total") == total(scraped, "mover_mover_bytes_total") == summary.stream_bytes
    assert total(scraped, "mover_files_total") == sum(summary.entries.values())
    assert total(scraped, "mover_file_history_entries_total") == summary.history_entries
    assert page.locator("#totals div", has_text="backup streams").get_attribute("title") == (
        f"{summary.stream_bytes:,} bytes since the start"
    )
    expect(page.locator("#jobs")).to_have_text("No job is running.", timeout=DEADLINE_MS)


def test_it_fits_a_phone_and_follows_the_light(make_server: MakeServer, browser: Browser) -> None:
    server = make_server("server", metrics="127.0.0.1:0")
    papers = []
    for scheme in ("light", "dark"):
        context = browser.new_context(
            viewport={"width": 360, "height": 740}, color_scheme="dark" if scheme == "dark" else "light"
        )
        page = context.new_page()
        show(page, server)
        expect(page.locator("#drives tbody tr")).to_have_count(1, timeout=DEADLINE_MS)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert papers[0] != papers[1]


def test_a_server_that_is_gone_is_said_so_and_found_again(make_server: MakeServer, page: Page) -> None:
    server = make_server("server", metrics="127.0.0.1:0")
    show(page, server)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        expect(page.locator("#state")).to_contain_text("no news", timeout=DEADLINE_MS)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    expect(page.locator("#state")).to_have_text("live", timeout=DEADLINE_MS)
    server.stop()
    expect(page.locator("#state")).to_contain_text("does not answer", timeout=DEADLINE_MS)


def test_a_token_is_a_password_for_a_browser(make_server: MakeServer, browser: Browser) -> None:
    token = "the token of the tests"
    server = make_server("server", metrics="127.0.0.1:0", node=f'metrics_token = "{token}"')
    context = browser.new_context(http_credentials={"username": "anybody", "password": token})
    page = context.new_page()
    show(page, server)
    context.close()
