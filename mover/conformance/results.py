"""What a run finds: one row a check, with the clause behind it."""

from collections import Counter
from enum import StrEnum

import msgspec


class Result(StrEnum):
    """Outcome of one check."""

    PASS = "pass"  # noqa: S105 -- an outcome
    FAIL = "fail"
    NOT_OFFERED = "not offered"  # the server says that it does not have it, and need not
    SKIPPED = "skipped"  # not judged; the detail says why


class Row(msgspec.Struct, frozen=True, rename="kebab"):
    """One check.

    Attributes:
        check: what was asked, in which state.
        clause: document and section.
        detail: of a failure what was expected and what came; else why there was nothing to judge.
    """

    version: int
    group: str
    check: str
    clause: str
    result: Result
    detail: str = ""


class Report(msgspec.Struct, rename="kebab"):
    """All rows of a run.

    Attributes:
        offered_version: what the server's greeting offers.
    """

    server: str
    offered_version: int
    rows: list[Row]

    def counts(self, version: int | None = None) -> dict[str, int]:
        """Rows by result, of one version or of all."""
        found = Counter(row.result for row in self.rows if version in {None, row.version})
        return {result.value: found[result] for result in Result}


class MismatchError(Exception):
    """The server is wrong; the text says what was expected and what came."""


class NotOfferedError(Exception):
    """The server does not have it, and need not."""


class SkippedError(Exception):
    """Nothing can be judged here; the text says why."""


class ServerGoneError(Exception):
    """No answer in time, the connection ended, or bytes that no message can be read from.

    Attributes:
        closed: whether the connection has ended.
    """

    def __init__(self, text: str, *, closed: bool = False) -> None:
        super().__init__(text)
        self.closed = closed


class NotReachedError(Exception):
    """No TCP connection to the server."""
