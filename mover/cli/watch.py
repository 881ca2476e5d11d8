"""The same look again and again, until Ctrl-C: in place on a terminal, one block after the other elsewhere."""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final, TypeVar  # Any: any command function, and what a JSON document holds

import click

from mover.cli.failure import NoControlProcess
from mover.cli.output import local_time, print_json, printable

INTERVAL_MIN_S: Final = 0.1
INTERVAL_MAX_S: Final = 86_400.0
INTERVAL_DEFAULT_S: Final = 1.0

_Seen = TypeVar("_Seen")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def watch_options(command: _Command) -> _Command:
    """Add ``--watch`` and ``--interval``; the command gets ``watched`` and ``interval_s``, None = not given."""
    command = click.option(
        "--interval",
        "interval_s",
        type=click.FloatRange(INTERVAL_MIN_S, INTERVAL_MAX_S),
        metavar="S",
        help=f"Seconds between two looks of --watch [default: {INTERVAL_DEFAULT_S:g}].",
    )(command)
    return click.option(
        "--watch", "watched", is_flag=True, help="Look again and again, until Ctrl-C; with --json a document a line."
    )(command)


def watch(
    look: Callable[[], _Seen],
    interval_s: float | None,
    *,
    as_json: bool,
    document: Callable[[_Seen], Mapping[str, Any]],
    lines: Callable[[_Seen, int | None], list[str]],
) -> None:
    """Look, show and wait, until SIGINT, SIGTERM or SIGHUP, by which it is meant to end.

    A control process that goes away later is waited for.

    Args:
        look: asks control.
        document, lines: what was seen, for scripts, and for people at a terminal of that width or at none.

    Raises:
        Failure: control is not there at the first look, or refuses.
    """
    interval_s = interval_s or INTERVAL_DEFAULT_S
    with _signals_interrupt():
        try:
            seen, lost = look(), ""
            with _in_place() if sys.stdout.isatty() and not as_json else _below() as show:
                while True:
                    now = time.time()
                    if as_json:
                        print_json({"time": round(now, 3), **({"error": lost} if lost else document(seen))})
                    else:
                        show(
                            f"{local_time(now)}, every {interval_s:g} s",
                            f"trying again: {printable(lost)}" if lost else "",
                            partial(lines, seen),
                        )
                    time.sleep(interval_s)
                    try:
                        seen, lost = look(), ""
                    except NoControlProcess as error:
                        lost = error.message
        except KeyboardInterrupt:
            return


# A heading, what is wrong, and the lines of what was seen last, for a width.
_Show = Callable[[str, str, Callable[[int | None], list[str]]], None]


@contextmanager
def _below() -> Iterator[_Show]:
    """A block below the other; of a server that is not there only that."""

    def show(heading: str, wrong: str, lines: Callable[[int | None], list[str]]) -> None:
        for line in [heading, *([wrong] if wrong else lines(None)), ""]:
            click.echo(line)

    yield show


@contextmanager
def _in_place() -> Iterator[_Show]:
    """On the same lines of a terminal; what was seen last stays when the server is gone."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def show(heading: str, wrong: str, lines: Callable[[int | None], list[str]]) -> None:
            width = shutil.get_terminal_size().columns
            block = [heading, wrong, *lines(width)]
            live.update(Text("\n".join(block), no_wrap=True, overflow="crop"), refresh=True)

        yield show


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP are as Ctrl-C, so that the terminal gets its cursor back."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
