"""The live view itself: asks control at every interval, hands rows to the tables, and obeys keys.

Its layout follows the terminal: one table at a time on 80x24, all of them side by side where there is room. It uses the
terminal's own sixteen colours, and says nothing by colour alone.
"""

import asyncio
import os
import signal
import sys
import termios
import time
from functools import partial
from types import FrameType
from typing import Final

import msgspec
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from mover.admin import NoControlProcessError, RefusedError
from mover.admin.messages import Done
from mover.admin.sessions import Kill, SessionStatus, Status, StatusReply
from mover.admin.statistics import StatisticsReply, StatisticsShow
from mover.cli.top.details import what_ends
from mover.cli.top.dialogs import Confirm, Details, Help
from mover.cli.top.drawing import WINDOWS, Look, duration, rate, size
from mover.cli.top.feed import KILL_S, Feed, single_question
from mover.cli.top.panes import BOLD, PLAIN, REVERSE, TONES, Pane
from mover.cli.top.view import Filter, read_filter
from mover.cli.top.views import VIEWS, Totals, clock, totals

WIDE_COLUMNS: Final = 140
WIDE_LINES: Final = 30
NOTICE_S: Final = 8.0
NODE_MAX: Final = 20  # letters of its name
HINTS: Final = " ? help  q quit  / filter  <> sort  r reverse  Enter more  k kill  Space pause"

Part = tuple[str, Style]


class Band(Widget):
    """Some lines of parts, each with its style."""

    DEFAULT_CSS = "Band { height: 1; width: 1fr; }"

    def __init__(self, look: Look, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._look = look
        self.parts: list[list[Part]] = []

    def show(self, *lines: list[Part]) -> None:
        """Other lines."""
        self.parts = list(lines)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        parts = self.parts[y] if y < len(self.parts) else []
        return Strip([Segment(self._look.clean(text), style) for text, style in parts]).adjust_cell_length(
            self.size.width
        )


class Tabs(Band):
    """The names of the tables; a click chooses one."""

    def on_click(self, event: events.Click) -> None:
        """The table whose name was hit."""
        at = 0
        for (text, _), view in zip(self.parts[0], VIEWS, strict=True):
            at += len(text)
            if event.x < at:
                assert isinstance(self.app, Top)
                self.app.action_pane(view.name)
                return


class Top(App[None]):
    """`mover top`.

    Attributes:
        refreshes_s: how long each of the last refreshes took, its drawing not included.

    Args:
        first: the reply to begin with.
    """

    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False  # Ctrl-C leaves, whatever was marked
    TITLE = "mover top"
    BINDINGS = [
        Binding("q", "quit", show=False),
        Binding("ctrl+c,ctrl+q", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
        Binding("question_mark,h,f1", "help", show=False),
        Binding("slash", "filter", show=False),
        Binding("escape", "all", show=False),
        Binding("less_than_sign,left", "sort(-1)", show=False),
        Binding("greater_than_sign,right", "sort(1)", show=False),
        Binding("r", "reverse", show=False),
        Binding("w", "window", show=False),
        Binding("space,p", "pause", show=False),
        Binding("k,delete", "kill", show=False),
        *(Binding(str(number), f"pane('{view.name}')", show=False) for number, view in enumerate(VIEWS, 1)),
    ]
    CSS = """
    Screen { background: ansi_default; color: ansi_default; layout: vertical; overflow: hidden; }
    #head { height: 2; }
    #tabs, #notice, #hints { height: 1; }
    #filter {
        height: 1; border: none; padding: 0 1; display: none;
        background: ansi_default; color: ansi_default;
    }
    #panes { height: 1fr; layout: vertical; background: ansi_default; }
    #panes > Pane { display: none; background: ansi_default; }
    #panes > Pane.current { display: block; }
    .wide #tabs { display: none; }
    .wide #panes {
        layout: grid; grid-size: 2; grid-rows: 1fr 1fr 1fr 1fr; grid-gutter: 0 2;
    }
    .wide #panes > Pane { display: block; }
    .wide #jobs, .wide #ended { column-span: 2; }
    """

    def __init__(self, path: str, first: StatisticsReply, *, interval_s: float = 1.0, look: Look | None = None) -> None:
        super().__init__(ansi_color=True)
        self._path = path
        self._interval_s = interval_s
        self._look = look or Look()
        self._latest = first
        self._shown = first
        self._before: StatisticsReply | None = None
        self._filter_text = ""
        self._filter = Filter()
        self._paused = False
        self._lost = ""
        self._notice: Part | None = None
        self._notice_until = 0.0
        self._current = VIEWS[0].name
        self.refreshes_s: list[float] = []

    def compose(self) -> ComposeResult:
        """Head, tables, and two lines below."""
        yield Band(self._look, id="head")
        yield Tabs(self._look, id="tabs")
        with Container(id="panes"):
            for view in VIEWS:
                yield Pane(view)
        yield Band(self._look, id="notice")
        yield Input(id="filter", placeholder="words, session:N, vserver:NAME, kind:WORD", select_on_focus=False)
        yield Band(self._look, id="hints")

    def on_mount(self) -> None:
        """Begin to ask."""
        if not self.is_headless:
            for number in (signal.SIGTERM, signal.SIGHUP):  # else the terminal is left as it is drawn on
                signal.signal(number, partial(self._leave, asyncio.get_running_loop()))
        self.query_one("#hints", Band).show([(HINTS, PLAIN)])
        self.action_pane(self._current)
        self._show()
        self.run_worker(self._poll(), name="poll")

    def _leave(self, loop: asyncio.AbstractEventLoop, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM or SIGHUP: leave the terminal as it was, if it is there."""
        try:
            termios.tcgetattr(sys.__stdin__ or 0)
        except termios.error:  # it has hung up; Textual would wait for its last words to be written, for ever
            os._exit(0)
        loop.call_soon_threadsafe(self.exit)

    # --- asking -----------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        async with single_question(self._path) as feed:
            while True:
                began = time.monotonic()
                await self._look_again(feed)
                await asyncio.sleep(max(0.05, self._interval_s - (time.monotonic() - began)))

    async def _look_again(self, feed: Feed) -> None:
        try:
            reply = await feed.ask(StatisticsShow(history=True), StatisticsReply)
        except NoControlProcessError as error:
            self._lost = f"trying again: {error}"
        except RefusedError as error:
            self._lost = str(error)
        else:
            self._lost = ""
            self._before, self._latest = self._latest, reply
        self._show()
        for screen in self.screen_stack:
            if isinstance(screen, Details):
                await screen.renew()

    async def _probe(self, session_id: int) -> SessionStatus | None:
        try:
            async with single_question(self._path) as feed:
                reply = await feed.ask(Status(session_id), StatusReply)
        except (NoControlProcessError, RefusedError):
            return None  # the tables say that nobody answers, or the title that it is gone
        return reply.sessions[0] if reply.sessions else None

    async def _end(self, session_id: int) -> None:
        self.say(f"ending session {session_id} ...", lasts_s=KILL_S)
        try:
            async with single_question(self._path) as feed:
                done = await feed.ask(Kill(session_id), Done, KILL_S)
        except (NoControlProcessError, RefusedError) as error:
            self.say(f"session {session_id}: {error}", TONES["bad"])
        else:
            self.say(done.text)

    # --- showing ----------------------------------------------------------------------------------------------

    def say(self, text: str, style: Style = BOLD, lasts_s: float = NOTICE_S) -> None:
        """Something that has just happened; it stands for some seconds."""
        self._notice = (text, style)
        self._notice_until = time.monotonic() + lasts_s
        self._show_notice()

    def _show(self) -> None:
        began = time.perf_counter()
        if not self._paused:
            self._shown = self._latest
        sums = totals(self._shown, self._look)
        counts = []
        for pane in self.query(Pane):
            rows = pane.view.rows(self._shown)
            passed = (
                rows
                if self._filter.empty
                else [row for row in rows if self._filter.passes(pane.view, row, sums.vservers, self._look)]
            )
            pane.show(passed, len(rows), self._look)
            counts.append(len(passed))
        self._show_head(sums)
        tabs: list[Part] = []
        for number, (view, count) in enumerate(zip(VIEWS, counts, strict=True), 1):
            text = f"{number} {view.title} {count}"
            here = view.name == self._current
            tabs.append((f"[{text}]" if here else f" {text} ", BOLD + REVERSE if here else PLAIN))
        self.query_one(Tabs).show(tabs)
        self._show_notice()
        self.refreshes_s = [*self.refreshes_s[-99:], time.perf_counter() - began]

    def _show_head(self, sums: Totals) -> None:
        reply, before = self._shown, self._before
        cost = reply.cost_seconds / reply.uptime_seconds if reply.uptime_seconds > 0 else 0.0
        if before is not None and before.uptime_seconds < reply.uptime_seconds and not self._paused:
            cost = (reply.cost_seconds - before.cost_seconds) / (reply.uptime_seconds - before.uptime_seconds)
        state = "PAUSED" if self._paused else "NO ANSWER" if self._lost else "live"
        state_style = PLAIN if state == "live" else BOLD + REVERSE
        first: list[Part] = [
            (f" mover {reply.version} on {self._node_name(reply.node)}", BOLD),
            (f"  up {duration(reply.uptime_seconds)}  {clock(reply.time)}  ", PLAIN),
            (f"{state}", state_style),
            (f"  rates over {self._look.window} s  cost {cost:.1%}", PLAIN),
        ]
        second = (
            f" sessions {len(reply.sessions)}  jobs {len(reply.jobs)} {rate(sums.stream_rate) or '0/s'}"
            f"  tape w {rate(sums.written_rate) or '0/s'} r {rate(sums.read_rate) or '0/s'}"
            f"  CPU {sums.cpu:.0%}  mem {size(sums.resident_bytes)}"
        )
        self.query_one("#head", Band).show(first, [(second, PLAIN)])

    def _node_name(self, node: str) -> str:
        """The node's, cut so that what stands behind it can be seen."""
        cut = self._look.clean(node)[:NODE_MAX]
        return cut if len(cut) < NODE_MAX else cut + self._look.glyphs.cut

    def _show_notice(self) -> None:
        parts: list[Part] = []
        if self._lost:
            parts.append((f" {self._lost} ", TONES["bad"] + REVERSE))
        elif self._notice is not None and time.monotonic() < self._notice_until:
            parts.append((f" {self._notice[0]}", self._notice[1]))
        elif self._filter_text:
            parts.append((f" filter: {self._filter_text}  (Esc: all)", BOLD))
        self.query_one("#notice", Band).show(parts)

    def on_resize(self, event: events.Resize) -> None:
        """One table, or all of them."""
        wide = event.size.width >= WIDE_COLUMNS and event.size.height >= WIDE_LINES
        self.screen_stack[0].set_class(wide, "wide")
        for pane in self.screen_stack[0].query(Pane):
            pane.titled = wide
            pane.refresh()

    @property
    def pane(self) -> Pane:
        """The table that keys act on."""
        return self.screen_stack[0].query_one(f"#{self._current}", Pane)

    # --- keys -------------------------------------------------------------------------------------------------

    def action_pane(self, name: str) -> None:
        """Another table."""
        self._current = name
        for pane in self.query(Pane):
            pane.set_class(pane.id == name, "current")
        self.pane.focus()
        self._show()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A click into a table, or Tab in the filter, makes it the one that keys act on."""
        if isinstance(event.widget, Pane) and event.widget.id is not None:
            if event.widget.id != self._current:
                self.action_pane(event.widget.id)
            self._hide_filter()

    def action_next_pane(self, by: int) -> None:
        """The next table."""
        names = [view.name for view in VIEWS]
        self.action_pane(names[(names.index(self._current) + by) % len(names)])

    def action_sort(self, by: int) -> None:
        """By another column."""
        self.pane.sort_next(by)
        self.say(f"{self.pane.view.title} {self.pane.order()}", PLAIN)

    def action_reverse(self) -> None:
        """The other way round."""
        self.pane.reverse()
        self.say(f"{self.pane.view.title} {self.pane.order()}", PLAIN)

    def action_window(self) -> None:
        """Rates over another time."""
        window = WINDOWS[(WINDOWS.index(self._look.window) + 1) % len(WINDOWS)]
        self._look = msgspec.structs.replace(self._look, window=window)
        self._show()

    def action_pause(self) -> None:
        """Stand still, or go on with the latest figures."""
        self._paused = not self._paused
        self._show()

    def action_help(self) -> None:
        """The keys."""
        self.push_screen(Help(self._look))

    def on_pane_chosen(self, event: Pane.Chosen) -> None:
        """All of the row."""
        pane = event.pane
        if pane.selected is not None:
            self.push_screen(Details(pane.view, pane.selected, self._look, lambda: self._latest, self._probe))

    def action_filter(self) -> None:
        """Ask for words."""
        box = self.query_one(Input)
        box.display = True
        self.query_one("#hints").display = False
        box.value = self._filter_text
        box.cursor_position = len(box.value)
        box.focus()

    def action_all(self) -> None:
        """No filter any more."""
        self.query_one(Input).value = ""
        self._set_filter("")
        self._filter_done()

    def on_input_changed(self, event: Input.Changed) -> None:
        """The tables follow what is typed."""
        if event.input.display:
            self._set_filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the tables."""
        self._set_filter(event.value)
        self._filter_done()

    def _set_filter(self, text: str) -> None:
        self._filter_text = text.strip()
        self._filter = read_filter(text)
        self._show()

    def _filter_done(self) -> None:
        self._hide_filter()
        self.pane.focus()

    def _hide_filter(self) -> None:
        self.screen_stack[0].query_one(Input).display = False
        self.screen_stack[0].query_one("#hints").display = True

    def action_kill(self) -> None:
        """Ask whether the session of the row is to be ended."""
        pane = self.pane
        row = pane.selected
        if row is None:
            return
        session_id = pane.view.session(row)
        ends = what_ends(self._latest, session_id) if session_id is not None else []
        if session_id is None or not ends:
            self.say(f"{pane.view.identity(row)} belongs to no session that is there")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._end(session_id), name=f"end session {session_id}")

        self.push_screen(Confirm(session_id, ends, self._look), answered)
