"""The tables of `mover top` without a terminal: cells, widths, order, filters, details, plain lines."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mover.admin.sessions import SESSION_FIELDS, SessionStatus, WorkerStatus
from mover.admin.statistics import EndedJob, JobRow, Rates
from mover.cli.top.details import described, found, probed, what_ends
from mover.cli.top.drawing import ASCII, UNICODE, Glyphs, Look, count, duration, rate, size, utf8
from mover.cli.top.plain import plain_lines
from mover.cli.top.view import GAP, Filter, View, read_filter, sort_rows
from mover.cli.top.views import DRIVES, ENDED, JOBS, PROCESSES, RINGS, SESSIONS, VIEWS, done, shares
from tests.support.moments import MIB, jobs, moment

EITHER = pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1.0K"), (1024 * 999, "999K"), (1024 * 1000, "1.0M"), (1536 * MIB, "1.5G"),
     (2**50, "1P"), (102_300, "99.9K"), (102_399, "100K")],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@given(st.integers(0, 2**53))
def test_sizes_and_rates_keep_their_width(number: int) -> None:
    assert len(size(number)) <= 5
    assert len(rate(number)) <= 7


def test_rates_numbers_and_times() -> None:
    assert [rate(0.4), rate(1.0), rate(2.5 * MIB)] == ["", "1B/s", "2.5M/s"]
    assert [count(0), count(1234567), count(12_345_678)] == ["0", "1,234,567", "12.3M"]
    assert [duration(each) for each in (None, 0, 59.9, 3600, 359_999, 360_000)] == [
        "", "0:00", "0:59", "1:00:00", "99:59:59", "4d 4h",
    ]  # fmt: skip


@EITHER
@given(fraction=st.none() | st.floats(-1, 2), width=st.integers(0, 40))
def test_a_gauge_keeps_its_width_and_is_full_at_the_end_only(
    glyphs: Glyphs, fraction: float | None, width: int
) -> None:
    drawn = Look(glyphs).gauge(fraction, width)
    if fraction is None:
        assert drawn == ""
    else:
        assert cell_len(drawn) == (width if width >= 8 else len(f"{int(min(1, max(0, fraction)) * 100)}%"))
        assert drawn.endswith("100%") == (fraction >= 1)


def test_gauges_and_sparklines_as_they_look() -> None:
    unicode, ascii_only = Look(UNICODE), Look(ASCII)
    assert unicode.gauge(0.5, 13) == "████····  50%"
    assert unicode.gauge(0.55, 13) == "████▍···  55%"
    assert ascii_only.gauge(0.55, 13) == "####....  55%"
    assert ascii_only.gauge(1.0, 13) == "######## 100%"
    assert unicode.sparkline([0, 1, 4, 8], 10) == " ▁▄█"
    assert unicode.sparkline([0, 1, 4, 8], 2) == "▄█"
    assert unicode.sparkline([0.001, 1.0], 10, 1.0) == "▁█"
    assert ascii_only.sparkline([0, 1, 4, 8], 10) == " .=#"
    assert [unicode.sparkline([], 5), unicode.sparkline([0.0, 0.0], 5), unicode.sparkline([1.0], 0)] == ["", "  ", ""]


@EITHER
@given(text=st.text(), width=st.integers(0, 30), right=st.booleans())
def test_whatever_a_text_holds_it_fits_and_cannot_be_obeyed(glyphs: Glyphs, text: str, width: int, right: bool) -> None:
    look = Look(glyphs)
    fitted = look.fit(look.clean(text), width, right=right)
    assert cell_len(fitted) == width
    assert fitted.isprintable()
    if glyphs is ASCII:
        assert fitted.isascii()


@pytest.mark.parametrize(
    ("environment", "takes"),
    [({"LANG": "en_US.UTF-8"}, True), ({"LANG": "de_DE.utf8", "LC_ALL": ""}, True), ({"LANG": "de_DE@euro"}, False),
     ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, False), ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True), ({}, False)],
)  # fmt: skip
def test_the_locale_says_what_the_terminal_takes(environment: dict[str, str], takes: bool) -> None:
    assert utf8(environment) == takes


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@pytest.mark.parametrize("width", [1, 20, 79, 139, 400])
def test_columns_fill_the_width_and_no_more(view: View[object], width: int) -> None:
    fitting = view.fitting(width)
    used = sum(each + GAP for _, each in fitting)
    assert fitting[0][0] is view.columns[0]
    assert used <= width + GAP or len(fitting) == 1
    if width == 400:
        assert [column for column, _ in fitting] == list(view.columns)
        assert used == width + GAP or not any(column.flexible for column in view.columns)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_column_draws_and_sorts_every_row(view: View[object]) -> None:
    rows = view.rows(moment())
    assert rows
    assert len({view.identity(row) for row in rows}) == len(rows)
    for column in view.columns:
        for look in (Look(UNICODE), Look(ASCII, window=60)):
            assert all(isinstance(column.text(row, look, column.width), str) for row in rows)
        for descending in (False, True):
            assert len(sort_rows(list(rows), column, descending=descending)) == len(rows)
    assert view.column(view.sort[0]) in view.columns


def test_rows_that_have_nothing_to_be_sorted_by_come_last() -> None:
    for descending, numbers in ((False, [5, 6, None]), (True, [6, 5, None])):
        ordered = sort_rows(jobs(), JOBS.column("job"), descending=descending)
        assert [job.number for job in ordered] == numbers


def test_the_rate_is_that_over_the_window() -> None:
    job = JobRow(number=1, session_id=1, operation="backup", rate=Rates(over_1=1e3, over_10=2e3, over_60=3e3))
    cell = JOBS.column("rate").text
    assert [cell(job, Look(window=window), 8) for window in (1, 10, 60)] == ["1.0K/s", "2.0K/s", "2.9K/s"]


def test_how_far_a_job_is() -> None:
    job = jobs()[0]
    assert done(job) == 0.75
    assert done(msgspec.structs.replace(job, stream_bytes_left=None)) == 51_200 / 80_000
    assert done(msgspec.structs.replace(job, stream_bytes_left=None, entries_expected=None)) is None
    assert done(msgspec.structs.replace(job, stream_bytes=0, stream_bytes_left=0, entries_expected=0)) is None
    scanning = msgspec.structs.replace(job, stream_bytes_left=None, entries_expected=None, phase="scan")
    assert JOBS.column("progress").text(scanning, Look(), 12) == "scan"


def test_the_shares_of_a_job_s_time() -> None:
    assert shares({"tape": 60.0, "read": 20.0, "scan": 0.1, "network": 200.0}, 90.0) == "network 100% tape 67% read 22%"
    assert shares({"tape": 1.0}, 0.0) == ""


def kept(text: str) -> dict[str, list[str]]:
    """What a filter leaves of a moment, by table."""
    now = moment()
    vservers = {session.session_id: session.vserver for session in now.sessions}
    words = read_filter(text)
    return {
        view.name: [view.identity(row) for row in view.rows(now) if words.passes(view, row, vservers, Look())]
        for view in VIEWS
    }


def test_a_filter_of_a_session_shows_what_is_its_own() -> None:
    assert kept("session:3") == {
        "jobs": ["job 5"],
        "rings": ["ring data-3", "ring history-3"],
        "processes": ["process 811", "process 812"],
        "drives": ["drive vtl0/drive0"],
        "sessions": ["session 3"],
        "ended": [],
    }


def test_a_filter_of_a_vserver_goes_by_the_session_where_a_row_has_none() -> None:
    found_rows = kept("VSERVER:vs1")
    assert found_rows["jobs"] == ["job 6"]
    assert found_rows["rings"] == ["ring data-12"]
    assert found_rows["processes"] == ["process 820"]
    assert found_rows["ended"] == ["job 3"]


def test_filters_of_kinds_and_words() -> None:
    assert kept("kind:template")["processes"] == ["process 701"]
    assert kept("kind:backup")["jobs"] == ["job 5"]
    assert kept("kind:dump session:3")["jobs"] == ["job 5"]
    assert kept("HOME tape")["jobs"] == ["job 5"]
    assert kept("home network")["jobs"] == []
    assert kept("[bold]")["jobs"] == ["job 6"]
    assert kept("colour:red") == {view.name: [] for view in VIEWS}  # no such property: a word like others
    assert read_filter("  ") == Filter()


def test_details_tell_every_field_exactly() -> None:
    job = moment().ended_jobs[0]
    lines = described(job, Look(), 80)
    assert [line.split(":")[0].strip() for line in lines] == [
        name.replace("_", "-") for name in EndedJob.__struct_fields__
    ]
    assert "   stream-bytes: 987654321" in lines
    assert "        entries: 1234567" in lines
    hostile = described(jobs()[0], Look(), 80)
    assert r"               at: /srv/home/anna/[red]plan\x1b[31m.txt" in hostile
    assert all(line.isprintable() for line in hostile)


def test_details_of_a_session_are_those_of_probe() -> None:
    lines = probed(SessionStatus(session_id=3, workers=[WorkerStatus(pid=7, kind="data")]), Look(), 80)
    assert [line.split(":")[0].strip() for line in lines[:-1]] == list(SESSION_FIELDS[:-1])
    assert lines[-1] == "worker data 7: 0.0% CPU, 0B"


def test_a_job_that_is_over_is_found_among_those_that_ended() -> None:
    now = moment()
    assert found(JOBS, "job 5", now) == now.jobs[0]
    assert found(JOBS, "job 4", now) is None
    assert found(ENDED, "job 4", now) == now.ended_jobs[0]


def test_what_ends_with_a_session() -> None:
    now = moment()
    assert what_ends(now, 3) == [
        "of 192.0.2.7, user ndmp, there for 1:35",
        "job 5: backup of /srv/home, 2.9G done (75%) at 33.3M/s",
        "drive vtl0/drive0",
        "workers data 811, tape 812",
    ]
    assert what_ends(now, 12)[0] == "of 2001:db8::77, user vsbackup, vserver vs1, there for 1:01:40"
    assert what_ends(now, 14)[1] == "mover-read, 121K done at 2.0K/s"
    assert what_ends(now, 15) == ["of 192.0.2.9, there for 0:00", "no job is running in it"]
    assert what_ends(now, 99) == []


def test_plain_lines_have_every_table_that_has_rows() -> None:
    lines = plain_lines(moment(), Look(ASCII))
    assert [line for line in lines if line in {view.title for view in VIEWS}] == [
        "Jobs", "Rings", "Processes", "Drives", "Sessions", "Ended",
    ]  # fmt: skip
    assert all(line.isprintable() and line.isascii() for line in lines)
    none = moment(sessions=[], jobs=[], rings=[], processes=[], drives=[], ended_jobs=[])
    assert len(plain_lines(none, Look())) == 4


def test_states_that_want_an_eye_have_a_tone() -> None:
    now = moment()
    hung, failed = now.drives[2], now.ended_jobs[1]
    assert DRIVES.column("state").tone is not None
    assert [DRIVES.column("state").tone(hung), ENDED.column("state").tone(failed)] == ["bad", "bad"]  # type: ignore[misc]  # they have one
    assert RINGS.column("is").tone(now.rings[0]) == "warn"  # type: ignore[misc]  # it has one
    assert PROCESSES.column("state").tone(now.processes[0]) == ""  # type: ignore[misc]  # it has one
    assert SESSIONS.column("session").tone is None
