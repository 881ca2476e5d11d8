"""The widgets of the live view: a table that draws only the lines that are seen, and a page of text.

A refresh hands over new rows and draws the pane's lines again, so that it costs by what is on the screen and not by
what there is. Everything is drawn as plain segments: nothing that a row says is taken for markup.
"""

from typing import Any, Final  # Any: rows of any table

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from mover.cli.top.drawing import Look
from mover.cli.top.view import GAP, Column, Tone, View, sort_rows

PLAIN: Final = Style()
BOLD: Final = Style(bold=True)
REVERSE: Final = Style(reverse=True)
TONES: Final[dict[Tone, Style]] = {
    "": PLAIN,
    "good": Style(color="green"),
    "warn": Style(color="yellow", bold=True),
    "bad": Style(color="red", bold=True),
}
MARK: Final = ">"  # of the row that keys act on: it is seen without colour, too


class Pane(Widget, can_focus=True):
    """One table with a cursor.

    Attributes:
        rows: those that are shown, in order.
    """

    class Chosen(Message):
        """Enter or a double click: the details of a row are wanted."""

        def __init__(self, pane: "Pane") -> None:
            super().__init__()
            self.pane = pane

    BINDINGS = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1000000000)", show=False),
        Binding("end", "move(1000000000)", show=False),
        Binding("enter", "choose", show=False),
        Binding("tab", "app.next_pane(1)", show=False),
        Binding("shift+tab", "app.next_pane(-1)", show=False),
    ]
    DEFAULT_CSS = "Pane { height: 1fr; width: 1fr; }"

    def __init__(self, view: View[Any]) -> None:
        super().__init__(id=view.name)
        self.view = view
        self.rows: list[Any] = []
        self.look = Look()
        self.titled = False
        self._all = 0
        self._unsorted: list[Any] = []
        self._sorted_by, self._descending = view.sort
        self._cursor: str | None = None  # the row's identity: it moves with the row
        self._at = 0
        self._first = 0

    # --- what is shown ----------------------------------------------------------------------------------------

    def show(self, rows: list[Any], of: int, look: Look) -> None:
        """The rows that passed the filter, of how many."""
        self._unsorted, self._all, self.look = rows, of, look
        self._arrange()

    def _arrange(self) -> None:
        column = self.view.column(self._sorted_by)
        self.rows = sort_rows(self._unsorted, column, descending=self._descending)
        identities = [self.view.identity(row) for row in self.rows]
        if self._cursor in identities:
            self._at = identities.index(self._cursor)
        else:
            self._at = max(0, min(self._at, len(self.rows) - 1))
            self._cursor = identities[self._at] if identities else None
        self._scroll()
        self.refresh()

    def _scroll(self) -> None:
        lines = self.lines
        self._first = max(self._at - lines + 1, min(self._first, self._at, len(self.rows) - lines), 0)

    @property
    def lines(self) -> int:
        """How many rows fit."""
        return max(1, self.size.height - 1 - self.titled)

    @property
    def selected(self) -> Any | None:
        """The row that keys act on."""
        return self.rows[self._at] if self.rows else None

    def order(self) -> str:
        """What the rows are sorted by, in words."""
        return f"by {self._sorted_by}{', from the largest' if self._descending else ''}"

    # --- keys and mouse ---------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """The cursor some rows down."""
        if self.rows:
            self._at = max(0, min(len(self.rows) - 1, self._at + by))
            self._cursor = self.view.identity(self.rows[self._at])
            self._scroll()
            self.refresh()

    def action_page(self, by: int) -> None:
        """The cursor a page down."""
        self.action_move(by * self.lines)

    def action_choose(self) -> None:
        """Tell the application that details are wanted."""
        if self.rows:
            self.post_message(self.Chosen(self))

    def sort_next(self, by: int) -> None:
        """By the next column, of those that are seen."""
        titles = [column.title for column, _ in self.view.fitting(self.size.width - 1)]
        at = titles.index(self._sorted_by) if self._sorted_by in titles else -1
        self._sorted_by = titles[(at + by) % len(titles)]
        self._arrange()

    def reverse(self) -> None:
        """The other way round."""
        self._descending = not self._descending
        self._arrange()

    def on_resize(self) -> None:
        """More or fewer lines."""
        self._scroll()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A heading sorts by its column, or the other way round; a row gets the cursor."""
        line = event.y - self.titled
        if line == 0:
            at = 1
            for column, width in self.view.fitting(self.size.width - 1):
                if at <= event.x < at + width + GAP:
                    if column.title == self._sorted_by:
                        self.reverse()
                    else:
                        self._sorted_by = column.title
                        self._arrange()
                at += width + GAP
        elif 0 < line <= len(self.rows) - self._first:
            self.action_move(self._first + line - 1 - self._at)
            if event.chain == 2:
                self.action_choose()

    def on_mouse_scroll_down(self) -> None:
        """As the key."""
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        """As the key."""
        self.action_move(-1)

    # --- drawing ----------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of the pane: title, heading, or a row."""
        width = self.size.width
        if self.titled and y == 0:
            return self._title(width)
        number = y - self.titled - 1
        columns = self.view.fitting(width - 1)
        if number < 0:
            return Strip([Segment(" ", BOLD), *self._heading(columns)]).adjust_cell_length(width)
        at = self._first + number
        if at >= len(self.rows):
            text = f" {self.view.nothing}" if number == 0 and not self._all else ""
            if number == 0 and self._all:
                text = f" none of {self._all} passes the filter"
            return Strip([Segment(text, PLAIN)]).adjust_cell_length(width)
        return Strip(self._row(columns, self.rows[at], at == self._at)).adjust_cell_length(width)

    def _title(self, width: int) -> Strip:
        shown = f"{len(self.rows)}" if len(self.rows) == self._all else f"{len(self.rows)} of {self._all}"
        text = self.look.fit(f" {self.view.title} {shown}, {self.order()}", width)
        return Strip([Segment(text, BOLD + REVERSE if self.has_focus else BOLD)])

    def _heading(self, columns: list[tuple[Column[Any], int]]) -> list[Segment]:
        segments = []
        for column, width in columns:
            title = column.title
            if title == self._sorted_by:
                glyphs = self.look.glyphs
                mark = glyphs.descending if self._descending else glyphs.ascending
                # Without room for both the mark is what cannot be guessed.
                title = mark + title if column.right else title[: width - 1] + mark
            text = self.look.fit(title, width, right=column.right)
            segments.append(Segment(text + " " * GAP, Style(bold=True, underline=True)))
        return segments

    def _row(self, columns: list[tuple[Column[Any], int]], row: Any, at_cursor: bool) -> list[Segment]:
        marked = at_cursor and self.has_focus
        base = REVERSE if marked else PLAIN
        segments = [Segment(MARK if marked else " ", base)]
        for column, width in columns:
            text = self.look.fit(self.look.clean(column.text(row, self.look, width)), width, right=column.right)
            tone: Tone = column.tone(row) if column.tone is not None else ""
            segments.append(Segment(text + " " * GAP, base + TONES[tone] if tone else base))
        return segments


class Page(Widget, can_focus=True):
    """Lines of text that can be scrolled."""

    BINDINGS = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home", "move(-1000000000)", show=False),
        Binding("end", "move(1000000000)", show=False),
    ]
    DEFAULT_CSS = "Page { height: 1fr; width: 1fr; }"

    def __init__(self, look: Look, lines: list[str] | None = None) -> None:
        super().__init__()
        self._look = look
        self._lines = lines or []
        self._first = 0

    def show(self, lines: list[str]) -> None:
        """Other lines, at the same place."""
        self._lines = lines
        self.action_move(0)

    def action_move(self, by: int) -> None:
        """Some lines down."""
        self._first = max(0, min(self._first + by, len(self._lines) - self.size.height))
        self.refresh()

    def action_page(self, by: int) -> None:
        """A page down."""
        self.action_move(by * max(1, self.size.height - 1))

    def on_mouse_scroll_down(self) -> None:
        """As the key, threefold."""
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        """As the key, threefold."""
        self.action_move(-3)

    def on_resize(self) -> None:
        """More or fewer lines."""
        self.action_move(0)

    def render_line(self, y: int) -> Strip:
        """One line of text; one that begins with ``#`` is a heading."""
        at = self._first + y
        text = self._lines[at] if at < len(self._lines) else ""
        heading = text.startswith("# ")
        fitted = self._look.fit(text.removeprefix("# "), self.size.width)
        return Strip([Segment(fitted, BOLD if heading else PLAIN)])
