"""Progress and messages of a job on standard error: a bar on a terminal, plain lines elsewhere."""

import re
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self  # Any: rich is imported late

import click

from mover.cli.output import printable

if TYPE_CHECKING:
    from mover.dma import LogLine, Progress

PLAIN_INTERVAL_S: Final = 5.0  # between plain lines of one phase
HELD_S: Final = 1.0  # for which an error waits for the end of the job
_END_NAME: Final = re.compile("^(source|destination): ")  # of the server of a copy that has said it

PHASES: Final = {
    "connect": "connecting",
    "position": "positioning the tape",
    "transfer": "transferring",
    "finish": "finishing",
    "abort": "aborting",
}


class Reporter(Protocol):
    """Where a job's progress and messages go; a context manager around the job."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def progress(self, progress: "Progress") -> None:
        """About once a second, and at each change of phase."""

    def log(self, line: "LogLine") -> None:
        """Each message of a server and each note of the DMA."""

    def failed(self, text: str) -> None:
        """The job failed, and this will be said of it: what it repeats need not be said before."""


def reporter(*, quiet: bool) -> Reporter:
    """The reporter for this standard error; quiet: none, because the caller prints one JSON document."""
    if quiet:
        return Quiet()
    return Bar() if sys.stderr.isatty() else Plain()


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def encrypted(how: str) -> str:
    """What a summary says of an encrypted data connection, with a comma behind it; nothing of any other."""
    return f"encrypted by {how}, " if how else ""


def duration(seconds: float) -> str:
    """Seconds as H:MM:SS."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def described(progress: "Progress") -> str:
    """Where the job is, in one line."""
    parts = [PHASES.get(progress.phase, progress.phase)]
    if progress.bytes_processed:
        total = f" of {size(progress.total_bytes)}" if progress.total_bytes else ""
        parts.append(size(progress.bytes_processed) + total)
    if progress.files:
        parts.append(f"{progress.files} {'name' if progress.files == 1 else 'names'}")
    if progress.rate_bytes_s and progress.phase == "transfer":
        parts.append(f"{size(progress.rate_bytes_s)}/s")
    if progress.eta_s is not None and progress.phase == "transfer":
        parts.append(f"{duration(progress.eta_s)} to go")
    return ", ".join(parts)


class Quiet:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def progress(self, progress: "Progress") -> None:
        """Passed over."""

    def log(self, line: "LogLine") -> None:
        """Passed over; the result holds it."""

    def failed(self, text: str) -> None:
        """Nothing was said before."""


class _Talking(Quiet):
    """Says each message, but an error, and what follows it, some time later: when it is why the job fails, the
    failure's line has it.
    """

    def __init__(self) -> None:
        self._held: list[LogLine] = []
        self._held_since = 0.0

    def __exit__(self, *_: object) -> None:
        self._release()

    def progress(self, progress: "Progress") -> None:
        if time.monotonic() - self._held_since >= HELD_S:
            self._release()

    def log(self, line: "LogLine") -> None:
        if line.kind == "debug":  # for developers
            return
        if self._held and time.monotonic() - self._held_since >= HELD_S:
            self._release()
        if line.kind == "error" and not self._held:
            self._held_since = time.monotonic()
        if line.kind == "error" or self._held:
            self._held.append(line)
        else:
            self._say(line)

    def failed(self, text: str) -> None:
        self._held = [each for each in self._held if each.kind != "error" or _END_NAME.sub("", each.text) not in text]

    def _release(self) -> None:
        held, self._held = self._held, []
        for line in held:
            self._say(line)

    def _say(self, line: "LogLine") -> None:
        before = {"normal": "", "error": "mover: "}.get(line.kind, f"{line.kind}: ")
        self._print(before + printable(line.text.rstrip()))

    def _print(self, text: str) -> None:
        click.echo(text, err=True)


class Plain(_Talking):
    """A line at each change of phase, and every few seconds while one lasts."""

    def __init__(self) -> None:
        super().__init__()
        self._phase = ""
        self._last = 0.0

    def progress(self, progress: "Progress") -> None:
        super().progress(progress)
        now = time.monotonic()
        if progress.phase != self._phase or now - self._last >= PLAIN_INTERVAL_S:
            self._phase, self._last = progress.phase, now
            self._print(described(progress))


class Bar(_Talking):
    """A live bar with rate and time to go; messages scroll above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
        from rich.table import Column

        super().__init__()
        self._bar: Any = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, table_column=Column(min_width=10, max_width=30, ratio=1)),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._task = self._bar.add_task("connecting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._bar.stop()

    def progress(self, progress: "Progress") -> None:
        super().progress(progress)
        self._bar.update(
            self._task,
            # The bar says that it transfers, and 80 columns are none too many.
            description=described(progress).removeprefix(f"{PHASES['transfer']}, "),
            completed=progress.bytes_processed,
            total=progress.total_bytes,
        )

    def _print(self, text: str) -> None:
        self._bar.console.print(text, markup=False, soft_wrap=True)
