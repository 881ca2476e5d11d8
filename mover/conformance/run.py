"""Runs the checks one after another, each on a session and under a deadline of its own, and collects the rows."""

from collections.abc import Callable
from typing import Final

from mover.conformance import group_notices
from mover.conformance.checks import Check, Need
from mover.conformance.groups import GROUPS_BY_VERSION
from mover.conformance.options import Options
from mover.conformance.results import (
    MismatchError,
    NotOfferedError,
    NotReachedError,
    Report,
    Result,
    Row,
    ServerGoneError,
    SkippedError,
)
from mover.conformance.session import Answer, Offer, open_session
from mover.ndmp import messages as m
from mover.ndmp.enums import AddressType, ErrorCode

SILENT_IN_A_ROW: Final = 5
"""So many checks in a row without an answer, and no session that opens behind them, end a version."""
SILENT_AT_ALL: Final = 60
"""So many checks without an answer end a version: else a server that hangs would take hours."""
NOT_SUPPORTED: Final = ErrorCode.NOT_SUPPORTED_ERR.name
MESSAGES_OF_GROUP: Final = "header and length of every message of this group"

Progress = Callable[[Row], None]
_MISSING: Final = {
    Need.TAPE: "needs --tape-device",
    Need.WRITE: "needs --write: it overwrites the tape, or opens it for writing",
    Need.FILESYSTEM: "needs --filesystem",
    Need.RECOVER_TO: "needs --recover-to",
    Need.CHANGER: "needs --changer",
    Need.SESSIONS: "needs --sessions: it takes the sessions of others away",
}


def run(options: Options, progress: Progress) -> Report:
    """Every check of the versions and groups asked for; `progress` is told each row as it is found.

    Raises:
        NotReachedError: no TCP connection to the server at the start.
    """
    report = Report(f"{options.host}:{options.port}", 0, [])
    offers: dict[int, Offer] = {}
    for version in options.versions:
        offer = _Version(options, version, report, progress).run()
        if offer is not None:
            offers[version] = offer
    if group_notices.GROUP in options.groups:
        for row in group_notices.shutdown_rows(options, offers):
            report.rows.append(row)
            progress(row)
    return report


class _Version:
    """The checks of one version."""

    def __init__(self, options: Options, version: int, report: Report, progress: Progress) -> None:
        self._options = options
        self._version = version
        self._report = report
        self._progress = progress
        self._offer = Offer()
        self._silent = 0  # checks in a row without an answer
        self._silent_at_all = 0
        self._given_up = ""

    def run(self) -> Offer | None:
        """Every check of the groups asked for; returns what the server has, if sessions open."""
        groups = GROUPS_BY_VERSION[self._version]
        verdict = self._look_around()
        for name in (each for each in self._options.groups if each in groups):
            faults: list[str] = []
            for check in groups[name](self._version):
                if self._options.match not in check.name:
                    continue
                result, detail = verdict or self._outcome(check, faults)
                self._add(self._row(name, check.name, check.clause, result, detail))
            self._judge_messages(name, faults, verdict)
        return self._offer if verdict is None else None

    def _row(self, group: str, check: str, clause: str, result: Result, detail: str) -> Row:
        return Row(self._version, group, check, clause, result, detail)

    def _add(self, row: Row) -> None:
        self._report.rows.append(row)
        self._progress(row)

    def _look_around(self) -> tuple[Result, str] | None:
        """Open a session and ask what the server has; what is then to be said of every check, if anything."""
        clause = f"NDMPv{self._version} CONNECT_OPEN; wire.md 7"
        try:
            with open_session(self._options, self._version, Offer(), []) as session:
                self._seen(session.offered_version)
        except NotOfferedError as why:
            return Result.NOT_OFFERED, f"version {self._version}: {why}"
        except NotReachedError:
            if self._report.offered_version:
                return Result.SKIPPED, "the server is not reached any more"
            raise
        except (ServerGoneError, MismatchError) as why:
            self._add(self._row("connect", "a session opens", clause, Result.FAIL, str(why)))
            return Result.SKIPPED, "no session opens"
        self._add(self._row("connect", "a session opens", clause, Result.PASS, ""))
        self._offer = self._found()
        return None

    def _seen(self, offered: int) -> None:
        self._report.offered_version = max(self._report.offered_version, offered)

    def _found(self) -> Offer:
        """Which interfaces and address types the server has; one that says nothing is judged by its checks."""
        probes: list[tuple[str, m.Body]] = [
            ("DATA", m.DataGetStateRequest()),
            ("TAPE", m.TapeGetStateRequest()),
            ("SCSI", m.ScsiCloseRequest()),
        ]
        if self._version > 1:
            probes.append(("MOVER", m.MoverGetStateRequest()))
        if self._version > 2:  # DATA_GET_STATE may be answered all the same
            probes.append(("DATA", m.DataListenRequest(AddressType.LOCAL)))
        missing = {name for name, body in probes if (answer := self._probe(body)) and answer.error == NOT_SUPPORTED}
        types = self._probe(m.ConfigGetConnectionTypeRequest()) if self._version > 1 else None
        listed = types.body.addr_types if types and isinstance(types.body, m.ConfigGetConnectionTypeReply) else ()
        return Offer(frozenset(missing), frozenset(listed))

    def _probe(self, body: m.Body) -> Answer | None:
        try:
            with open_session(self._options, self._version, Offer(), []) as session:
                return session.ask(body)
        except (MismatchError, NotOfferedError, ServerGoneError, NotReachedError):
            return None

    def _outcome(self, check: Check, faults: list[str]) -> tuple[Result, str]:
        """Run one check, unless something it needs is missing."""
        for need, given in self._given().items():
            if need in check.needs and not given:
                return Result.SKIPPED, _MISSING[need]
        if check.interface in self._offer.missing:
            return Result.NOT_OFFERED, f"the server has no {check.interface} interface"
        if self._given_up:
            return Result.SKIPPED, self._given_up
        return self._judged(check, faults)

    def _given(self) -> dict[Need, object]:
        options = self._options
        return {
            Need.TAPE: options.tape_device,
            Need.WRITE: options.write,
            Need.FILESYSTEM: options.filesystem,
            Need.RECOVER_TO: options.recover_to,
            Need.CHANGER: options.changer,
            Need.SESSIONS: options.sessions,
        }

    def _judged(self, check: Check, faults: list[str]) -> tuple[Result, str]:
        found: list[str] = []
        try:
            with open_session(
                self._options, self._version, self._offer, found,
                negotiated=check.negotiated, logged_in=check.logged_in,
            ) as session:  # fmt: skip
                check.run(session)
        except MismatchError as why:
            outcome = Result.FAIL, str(why)
        except OSError as error:  # the control connection's are told by ServerGoneError
            outcome = Result.FAIL, f"the data connection broke: {error.strerror or error}"
        except NotOfferedError as why:
            outcome = Result.NOT_OFFERED, str(why)
        except SkippedError as why:
            outcome = Result.SKIPPED, str(why)
        except (ServerGoneError, NotReachedError) as why:
            self._count_silence()
            return Result.FAIL, str(why)
        else:
            outcome = Result.PASS, ""
        finally:
            faults += [f"{check.name}: {text}" for text in found]
        self._silent = 0
        return outcome

    def _count_silence(self) -> None:
        self._silent += 1
        self._silent_at_all += 1
        if self._silent_at_all >= SILENT_AT_ALL:
            self._given_up = f"given up: {SILENT_AT_ALL} checks of this version had no answer"
        elif self._silent >= SILENT_IN_A_ROW:
            self._silent = 0
            try:
                with open_session(self._options, self._version, self._offer, []):
                    return
            except (MismatchError, NotOfferedError, ServerGoneError, NotReachedError) as why:
                self._given_up = f"given up: no session opens any more ({why})"

    def _judge_messages(self, group: str, faults: list[str], verdict: tuple[Result, str] | None) -> None:
        """One row for what the messages of all checks of a group had wrong besides."""
        result, detail = verdict or (Result.PASS, "")
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            result, detail = Result.FAIL, faults[0] + more
        clause = f"NDMPv{self._version} header; wire.md 4, 4.1, 4.3"
        self._add(self._row(group, MESSAGES_OF_GROUP, clause, result, detail))
