"""What the live view puts above its tables: help, the details of a row, and the question before a session is ended."""

from collections.abc import Awaitable, Callable
from typing import Any, Final  # Any: a row of any table

from rich.segment import Segment
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen, Screen
from textual.strip import Strip
from textual.widget import Widget

from mover.admin.sessions import SessionStatus
from mover.admin.statistics import EndedJob, JobRow, StatisticsReply
from mover.cli.top.details import described, found, probed
from mover.cli.top.drawing import Look
from mover.cli.top.panes import BOLD, PLAIN, REVERSE, Page
from mover.cli.top.view import View
from mover.cli.top.views import ENDED

HELP: Final = """\
# Moving
1 to 6, Tab     another table: jobs, rings, processes, drives, sessions, ended
Up, Down        the row; Page Up, Page Down, Home, End
Enter           the row's figures, exactly, and what mover probe says of it
Esc             back; in the tables: no filter any more

# What is shown
< > Left Right  sort by another column
r               sort the other way round
/               filter: rows that have all the words; session:N, vserver:NAME
                and kind:WORD look at that alone
w               rates over 1, 10 or 60 seconds
Space           pause the display; the server goes on

# What is done
k               end the session that the row belongs to, after a question
q, Ctrl-C       leave; Ctrl-Z suspends

The mouse works: a heading sorts, two clicks on a row show its details.

# What it means
waits for       what the job waits for now: scan, read (the disk), tape,
                network, file-history (the DMA), ring-full and ring-empty
                (neither side stands out), idle
time went to    the shares of the job's time that it waited so
is full, empty  of a ring: who writes it waits; who reads it waits
stood           how often a drive stopped for want of data, or room
cost            processor time that the server spends on these figures

Sizes are in powers of 1024: K, M, G, T. What is not printable in a name is
shown with escapes.
"""


class Titled(Widget):
    """A line of title and hints."""

    DEFAULT_CSS = "Titled { height: 1; width: 1fr; }"

    def __init__(self, look: Look, text: str) -> None:
        super().__init__()
        self._look = look
        self._text = text

    def say(self, text: str) -> None:
        """Another title."""
        self._text = text
        self.refresh()

    def render_line(self, y: int) -> Strip:
        return Strip([Segment(self._look.fit(self._text, self.size.width), BOLD + REVERSE)])


class Help(Screen[None]):
    """The keys, and what the words mean."""

    BINDINGS = [Binding("escape,q,question_mark,h,enter", "app.pop_screen", show=False)]

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look

    def compose(self) -> ComposeResult:
        """A title above the text."""
        yield Titled(self._look, " mover top: help (Esc: back)")
        yield Page(self._look, HELP.splitlines())


class Details(Screen[None]):
    """All of one row, as of now.

    Args:
        latest: the last reply.
        probe: asks control for a session; None where it is gone, or nobody answers.
    """

    BINDINGS = [Binding("escape,q,enter", "app.pop_screen", show=False)]

    def __init__(
        self,
        view: View[Any],
        row: Any,
        look: Look,
        latest: Callable[[], StatisticsReply | None],
        probe: Callable[[int], Awaitable[SessionStatus | None]],
    ) -> None:
        super().__init__()
        self._view, self._row, self._look = view, row, look
        self._identity = view.identity(row)
        self._latest = latest
        self._probe = probe
        self._title = Titled(look, "")
        self._page = Page(look)

    def compose(self) -> ComposeResult:
        """A title above the fields."""
        yield self._title
        yield self._page

    async def on_screen_resume(self) -> None:
        """As soon as its size is known."""
        await self.renew()

    async def renew(self) -> None:
        """The figures of now; those it had last when it is gone, or what came of the job."""
        over = ""
        reply = self._latest()
        if reply is not None:
            row = found(self._view, self._identity, reply)
            if row is None and isinstance(self._row, JobRow):
                row = found(ENDED, self._identity, reply)
            if row is None:
                over = ": gone; what was known last"
            else:
                self._row = row
        if isinstance(self._row, EndedJob):
            over = ": over"
        self._title.say(f" {self._identity}{over} (Esc: back)")
        width = self.size.width
        lines = ["# Figures", *described(self._row, self._look, width)]
        session_id = self._view.session(self._row)
        if session_id is not None and not over:
            status = await self._probe(session_id)
            if status is not None:
                lines += ["", f"# Session {session_id}", *probed(status, self._look, width)]
        self._page.show(lines)


class Choice(Widget, can_focus=True):
    """The two answers to a question: keys, arrows with Enter, or the mouse."""

    BINDINGS = [
        Binding("left,right,tab,shift+tab", "other", show=False),
        Binding("enter", "answer", show=False),
    ]
    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"
    ANSWERS: Final = ("  No (n)  ", "  Yes, end it (y)  ")

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def action_other(self) -> None:
        """The other answer."""
        self.at = 1 - self.at
        self.refresh()

    def action_answer(self) -> None:
        """The one that is marked."""
        self.screen.dismiss(bool(self.at))

    def on_click(self, event: events.Click) -> None:
        """The answer that was hit."""
        no, yes = map(len, self.ANSWERS)
        if event.x < no:
            self.screen.dismiss(False)
        elif event.x < no + yes:
            self.screen.dismiss(True)

    def render_line(self, y: int) -> Strip:
        segments = [
            Segment(f"[{text[1:-1]}]" if number == self.at else text, BOLD + REVERSE if number == self.at else PLAIN)
            for number, text in enumerate(self.ANSWERS)
        ]
        return Strip(segments).adjust_cell_length(self.size.width)


class Confirm(ModalScreen[bool]):
    """Whether a session is to be ended; says what ends with it. No is what Enter means."""

    BINDINGS = [
        Binding("y,Y", "dismiss(True)", show=False),
        Binding("n,N,escape,q", "dismiss(False)", show=False),
    ]
    CSS = """
    Confirm { align: center middle; background: transparent; }
    Confirm > #box {
        width: 76; max-width: 100%; height: auto; padding: 0 1;
        background: ansi_default; border: ascii ansi_default;
    }
    """

    def __init__(self, session_id: int, ends: list[str], look: Look) -> None:
        super().__init__()
        self._session_id = session_id
        self._ends = ends
        self._look = look

    def compose(self) -> ComposeResult:
        """What ends, and the two answers."""
        lines = [f"# End session {self._session_id}?", *map(self._look.clean, self._ends), ""]
        page = Page(self._look, lines)
        page.can_focus = False
        page.styles.height = len(lines)
        with Box(id="box"):
            yield page
            yield Choice()


class Box(Widget):
    """The frame of a question."""

    DEFAULT_CSS = "Box { layout: vertical; }"
