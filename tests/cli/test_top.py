"""`mover top` on a terminal that is none: every key, what it shows, and a control process that comes and goes."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from textual.pilot import Pilot

from mover.admin.messages import Failed, Reply, Request
from mover.admin.sessions import Kill, SessionStatus, Status, StatusReply
from mover.admin.statistics import EndedJob, StatisticsReply
from mover.cli.top.app import Top
from mover.cli.top.dialogs import HELP
from mover.cli.top.drawing import ASCII, Look
from mover.cli.top.views import VIEWS
from tests.support.moments import NOON, FakeServer, fake_server, jobs, many, moment, sessions
from tests.support.screens import compare, screen_text, universal_time

__all__ = ["universal_time"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # half a second each
DEADLINE_S = 120.0
SELDOM_S = 3600.0  # the display changes when a test says so

Script = Callable[[Pilot[None], FakeServer], Awaitable[None]]


@pytest.fixture
def drive(socket_path: str) -> Callable[..., None]:
    """Run the view against a fake control, and a script beside it."""

    def run(
        script: Script,
        *,
        now: StatisticsReply | None = None,
        size: tuple[int, int] = (80, 24),
        interval_s: float = SELDOM_S,
        look: Look | None = None,
    ) -> None:
        async def both() -> None:
            first = now or moment()
            async with asyncio.timeout(DEADLINE_S), fake_server(socket_path, first) as server:
                app = Top(socket_path, first, interval_s=interval_s, look=look)
                async with app.run_test(size=size) as pilot:
                    await until(pilot, lambda: server.asked > 0)
                    await script(pilot, server)
                assert app.return_code in {None, 0}

        asyncio.run(both())

    return run


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Wait for something to become true; the test's own deadline ends it."""
    while not true():
        await pilot.pause(0.02)


def shown(pilot: Pilot[None]) -> str:
    return screen_text(pilot.app)


def marked(pilot: Pilot[None]) -> str:
    """The line that keys act on."""
    (line,) = [line for line in shown(pilot).splitlines() if line.startswith(">")]
    return line


def hint(pilot: Pilot[None]) -> str:
    """The line for what has just happened."""
    return shown(pilot).splitlines()[-2].strip()


# --- what it looks like -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_each_table_on_80_columns(drive: Callable[..., None], view: object) -> None:
    number = [*VIEWS].index(view) + 1  # type: ignore[arg-type]  # parametrize gives them back

    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.press(str(number))
        await pilot.pause()
        compare(f"narrow-{VIEWS[number - 1].name}", shown(pilot))

    drive(script)


@pytest.mark.parametrize(("name", "size"), [("wide", (160, 50)), ("very-wide", (220, 50))])
def test_all_tables_where_there_is_room(drive: Callable[..., None], name: str, size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.pause()
        compare(name, shown(pilot))

    drive(script, size=size)


@pytest.mark.parametrize(("prefix", "size"), [("", (80, 24)), ("wide-", (160, 50))], ids=["narrow", "wide"])
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("help", ["question_mark"]),
        ("kill", ["k"]),
        ("details", ["enter"]),
        ("filter", ["slash", *"home"]),
        ("sorted", ["3", "greater_than_sign", "r"]),
        ("paused", ["space"]),
    ],
)
def test_what_keys_put_on_the_screen(
    drive: Callable[..., None], name: str, keys: list[str], prefix: str, size: tuple[int, int]
) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        server.answer = lambda _: Failed("not-found", "gone")
        await pilot.press(*keys)
        await pilot.pause()
        compare(prefix + name, shown(pilot))

    drive(script, size=size)


def test_ascii_only_where_the_terminal_takes_no_more(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.pause()
        compare("ascii", shown(pilot))
        for keys in (["tab"], ["question_mark"], ["escape", "1", "k"], ["n", "slash"], ["a"], ["escape", "enter"]):
            await pilot.press(*keys)
            await pilot.pause()
            assert shown(pilot).isascii(), keys

    drive(script, size=(160, 50), look=Look(ASCII))


def test_every_key_of_the_help_is_there() -> None:
    bound = {key for binding in Top.BINDINGS for key in binding.key.split(",")}  # type: ignore[union-attr]  # all are Binding
    assert {"k", "r", "w", "space", "slash", "q", "ctrl+c", "less_than_sign", "1", "6"} <= bound
    for word in ("Tab", "Enter", "Esc", "< >", "Space", "Ctrl-Z", *(view.name for view in VIEWS[:5])):
        assert word in HELP
    assert all(len(line) <= 79 for line in HELP.splitlines())


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (79, 10), (400, 100)])
def test_any_size_of_terminal(drive: Callable[..., None], size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        for key in ("k", "escape", "enter", "escape", "question_mark", "down", "escape", "end", "slash", "escape"):
            await pilot.press(key)
        await pilot.resize_terminal(160, 50)
        await pilot.pause()
        assert "Ended 2" in shown(pilot)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "[1 Jobs 3]" in shown(pilot)

    drive(script, size=size)


# --- keys -------------------------------------------------------------------------------------------------------


def test_tables_are_chosen_by_number_and_tab(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.press("tab")
        assert "[2 Rings 3]" in shown(pilot)
        await pilot.press("shift+tab", "shift+tab")
        assert "[6 Ended 2]" in shown(pilot)
        await pilot.press("4")
        assert marked(pilot).split()[:2] == [">nst0", "hung"]

    drive(script)


def test_the_cursor_stays_with_its_row(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        await pilot.press("down")
        assert marked(pilot).split()[:2] == [">", "6"]
        await pilot.press("r")
        assert marked(pilot).split()[:2] == [">", "6"]
        await pilot.press("home")
        assert marked(pilot).split()[:2] == [">", "6"]
        await pilot.press("end", "up", "down", "pageup", "pagedown")
        assert "mover-read" in marked(pilot)
        server.now = moment(jobs=jobs()[:1])
        await until(pilot, lambda: "[1 Jobs 1]" in shown(pilot))
        assert marked(pilot).split()[:2] == [">", "5"]
        server.now = moment(jobs=[])
        await until(pilot, lambda: "no jobs" in shown(pilot))
        await pilot.press("down", "enter", "k")

    drive(script, interval_s=0.2)


def test_a_long_table_scrolls_with_the_cursor(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.press("5", "end")
        await pilot.pause()
        assert marked(pilot).split()[1] == "99"
        await pilot.press("pageup")
        assert marked(pilot).split()[1] == str(99 - 18)
        await pilot.press("home")
        assert marked(pilot).split()[1] == "0"
        assert shown(pilot).splitlines()[4] == marked(pilot)

    drive(script, now=many())


def test_sorting(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.press("3")
        assert "▼CPU" in shown(pilot)
        await pilot.press("r")
        assert "▲CPU" in shown(pilot)
        assert hint(pilot) == "Processes by CPU"
        await pilot.press("greater_than_sign", "r")
        assert hint(pilot) == "Processes by CPU time, from the largest"
        assert shown(pilot).splitlines()[4].split()[0:2] == [">", "811"] or "811" in shown(pilot).splitlines()[4]
        await pilot.press("left", "left", "less_than_sign")
        assert hint(pilot) == "Processes by session, from the largest"

    drive(script)


def test_the_window_of_the_rates(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        for seconds in (60, 1, 10):
            await pilot.press("w")
            assert f"rates over {seconds} s" in shown(pilot)

    drive(script)


def test_filter(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.press("slash", *"session:3")
        assert "[1 Jobs 1]" in shown(pilot)
        await pilot.press("enter")
        assert hint(pilot) == "filter: session:3  (Esc: all)"
        await pilot.press("6")
        assert "none of 2 passes the filter" in shown(pilot)
        await pilot.press("slash", *"x", "escape")
        assert "[6 Ended 2]" in shown(pilot)
        assert hint(pilot) == ""
        await pilot.press("slash", *"q?k", "enter")  # letters there, and no keys
        assert hint(pilot) == "filter: q?k  (Esc: all)"
        await pilot.press("escape")
        assert "1 Jobs 3" in shown(pilot)

    drive(script)


def test_pause_and_on(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        await pilot.press("space")
        assert "PAUSED" in shown(pilot)
        server.now = moment(node="other")
        asked = server.asked
        await until(pilot, lambda: server.asked > asked + 1)
        assert "on fs1" in shown(pilot)
        await pilot.press("p")
        assert "on other" in shown(pilot)
        assert "PAUSED" not in shown(pilot)

    drive(script, interval_s=0.2)


def test_help_and_back(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        for key, back in (("question_mark", "escape"), ("h", "q"), ("f1", "enter")):
            await pilot.press(key)
            await pilot.pause()
            assert "help (Esc: back)" in shown(pilot)
            await pilot.press("pagedown", "end")
            await pilot.pause()
            assert "Sizes are in powers of 1024" in shown(pilot)
            await pilot.press("home", back)
            await pilot.pause()
            assert "[1 Jobs 3]" in shown(pilot)

    drive(script)


@pytest.mark.parametrize(
    "keys",
    [["q"], ["ctrl+c"], ["ctrl+q"], ["slash", "q", "ctrl+c"], ["k", "ctrl+c"], ["enter", "ctrl+c"]],
    ids="-".join,
)
def test_leaving(drive: Callable[..., None], keys: list[str]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.press(*keys)
        await until(pilot, lambda: not pilot.app.is_running)
        assert pilot.app.return_code == 0

    drive(script)


# --- ending a session -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [["n"], ["escape"], ["enter"], ["right", "left", "enter"], ["q"]], ids="-".join)
def test_a_session_is_not_ended_without_a_yes(drive: Callable[..., None], keys: list[str]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        await pilot.press("k")
        await pilot.pause()
        assert "End session 3?" in shown(pilot)
        await pilot.press(*keys)
        await pilot.pause()
        assert "End session" not in shown(pilot)
        assert server.requests == []

    drive(script)


@pytest.mark.parametrize("keys", [["y"], ["right", "enter"], ["tab", "enter"]], ids="-".join)
def test_a_session_is_ended(drive: Callable[..., None], keys: list[str]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        await pilot.press("3", "k")  # of the row of its data worker
        await pilot.pause()
        await pilot.press(*keys)
        await until(pilot, lambda: hint(pilot) == "session 3 is ended")
        assert server.requests == [Kill(3)]

    drive(script)


def test_what_control_says_against_it_is_shown(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        server.answer = lambda _: Failed("failed", "session 3 has \x1b[31mnot ended")
        await pilot.press("k", "y")
        await until(pilot, lambda: hint(pilot) == r"session 3: session 3 has \x1b[31mnot ended")

    drive(script)


def test_rows_without_a_session_end_none(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        await pilot.press("4", "k")
        assert hint(pilot) == "drive nst0 belongs to no session that is there"
        await pilot.press("6", "k")
        assert hint(pilot) == "job 4 belongs to no session that is there"
        assert server.requests == []

    drive(script)


# --- details ----------------------------------------------------------------------------------------------------


def test_details_follow_a_job_to_its_end(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        def probe(request: Request) -> Reply:
            assert request == Status(3)
            return StatusReply([SessionStatus(session_id=3, mover_record_size=65536)])

        server.answer = probe
        await pilot.press("enter")
        await until(pilot, lambda: "Session 3" in shown(pilot))
        assert "job 5 (Esc: back)" in shown(pilot)
        await pilot.press("end")
        await pilot.pause()
        assert "data-entries: 0" in shown(pilot)
        await pilot.press("home")
        assert "stream-bytes: 3145728000" in shown(pilot)
        ended = EndedJob(number=5, session_id=3, operation="backup", state="successful", started=NOON, ended=NOON + 9,
                         entries=80_001, stream_bytes=4_194_305)  # fmt: skip
        server.now = moment(jobs=[], sessions=sessions()[1:], ended_jobs=[ended])
        await until(pilot, lambda: "job 5: over" in shown(pilot))
        assert "stream-bytes: 4194305" in shown(pilot)
        assert "entries: 80001" in shown(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert "[1 Jobs 0]" in shown(pilot)

    drive(script, interval_s=0.2, size=(80, 40))


def test_details_of_what_has_gone_stay(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        await pilot.press("4", "enter")
        server.now = moment(drives=[])
        await until(pilot, lambda: "drive nst0: gone; what was known last" in shown(pilot))
        assert "state: hung" in shown(pilot)

    drive(script, interval_s=0.2)


# --- the mouse --------------------------------------------------------------------------------------------------


def test_the_mouse(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        await pilot.click(offset=(20, 2))
        assert "[2 Rings 3]" in shown(pilot)
        await pilot.click("#rings", offset=(20, 0))  # the heading
        assert "fill▲" in shown(pilot)
        await pilot.click("#rings", offset=(20, 0))
        assert "fill▼" in shown(pilot)
        await pilot.click("#rings", offset=(5, 3))
        assert marked(pilot).startswith(">data-12")
        await pilot.click("#rings", offset=(5, 20))  # no row there
        await pilot.click("#rings", offset=(5, 1), times=2)
        await pilot.pause()
        assert "ring data-3 (Esc: back)" in shown(pilot)
        await pilot.press("escape", "k")
        await pilot.pause()
        lines = shown(pilot).splitlines()
        (line,) = [number for number, text in enumerate(lines) if "Yes, end it" in text]
        await pilot.click(offset=(lines[line].index("Yes"), line))
        await until(pilot, lambda: Kill(3) in server.requests)

    drive(script)


def test_a_click_into_another_table_of_the_wide_view_makes_it_current(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.click("#processes", offset=(5, 3))
        assert any(">    812 tape" in line for line in shown(pilot).splitlines())

    drive(script, size=(160, 50))


# --- hostile and lost ------------------------------------------------------------------------------------------


def test_hostile_names_are_shown_and_not_obeyed(drive: Callable[..., None]) -> None:
    name = "/srv/[red]\x1b[2J[/]\n\u202egpj.\\"
    hostile = moment(
        node=name,
        sessions=[_with(session, user=name) for session in sessions()],
        jobs=[_with(job, path=name, at=name, vserver=name, backup_type=name, phase=name) for job in jobs()],
    )

    async def script(pilot: Pilot[None], _: FakeServer) -> None:
        await pilot.press("k")
        await pilot.pause()
        text = shown(pilot)
        assert "  live  " in text
        assert r"[red]\x1b[2J[/]\n\u202egpj" in text
        assert all(line.isprintable() for line in text.splitlines())
        await pilot.press("n", "enter")
        await pilot.pause()
        assert r"path: /srv/[red]\x1b[2J[/]\n\u202egpj." in shown(pilot)

    drive(script, now=hostile, size=(220, 50))


def _with(row: object, **changed: object) -> object:
    return msgspec.structs.replace(row, **changed)  # type: ignore[type-var]  # rows are structs


def test_a_control_process_that_goes_and_comes_again(drive: Callable[..., None]) -> None:
    async def script(pilot: Pilot[None], server: FakeServer) -> None:
        await server.stop()
        await until(pilot, lambda: "NO ANSWER" in shown(pilot))
        await until(pilot, lambda: hint(pilot).startswith("trying again: no control process"))
        assert "[1 Jobs 3]" in shown(pilot)  # what was known last
        server.now = moment(node="again")
        await server.start()
        await until(pilot, lambda: "on again" in shown(pilot) and "live" in shown(pilot))
        server.now = Failed("failed", "statistics are off")
        await until(pilot, lambda: hint(pilot) == "statistics are off")

    drive(script, interval_s=0.2)
