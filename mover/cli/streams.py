"""Standard streams that may be closed, full, or without a reader.

Standard error never fails: what is said there must not end a job. Standard output fails with OutputLost, until the
command's work is done and only the telling of it is left.
"""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

import click

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NOBODY_READS: Final = frozenset({errno.EPIPE, errno.EBADF})


class OutputLost(click.ClickException):
    """Standard output takes no more; quiet where nobody reads it."""

    exit_code = 1

    def __init__(self, error: OSError) -> None:
        super().__init__("" if error.errno in _NOBODY_READS else f"mover: standard output: {error.strerror}")

    def show(self, file: object = None) -> None:
        if self.message:
            click.echo(self.message, err=True)


class _Descriptor(io.FileIO):
    """Writes to a descriptor until that fails once; what is written then goes nowhere."""

    def __init__(self, number: int, *, forgiving: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self.forgiving = forgiving
        self._failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        if not self._failed:
            try:
                return super().write(data)
            except OSError as error:
                self._failed = True
                if not self.forgiving:
                    raise OutputLost(error) from None
        return memoryview(data).nbytes


class _Text(io.TextIOWrapper):
    """A standard stream as text."""

    def __init__(self, descriptor: _Descriptor, before: TextIO | None) -> None:
        super().__init__(
            io.BufferedWriter(descriptor),
            encoding=before.encoding if before is not None else "utf-8",
            errors="backslashreplace" if descriptor.forgiving or before is None else before.errors,
            line_buffering=True,
        )
        self.descriptor = descriptor


def guard_standard_streams() -> None:
    """Replace the process's own standard streams, which are None where a descriptor is closed.

    A closed descriptor is opened first: else the next file or socket would get its number, and what is printed.
    Streams that somebody has put in their place stay.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # Lower ones are open, so that this gets the number. Output cannot be written there, and that is found.
            os.open(os.devnull, flags)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open as long as the process lives
    if sys.stdout is sys.__stdout__:
        sys.stdout = _Text(_Descriptor(1, forgiving=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _Text(_Descriptor(2, forgiving=True), sys.stderr)


def work_is_done() -> None:
    """From here on output only tells of what has been done, so that losing it is no failure."""
    if isinstance(sys.stdout, _Text):
        sys.stdout.descriptor.forgiving = True
