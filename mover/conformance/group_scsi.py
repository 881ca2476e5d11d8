"""Group scsi: the SCSI interface with no device open, and a changer where one may be used. Source: states.md 6."""

from collections.abc import Iterator
from functools import partial
from os import fsencode
from typing import Final

from mover.conformance.checks import READS_TAPE, Check, Need, clause
from mover.conformance.results import NotOfferedError
from mover.conformance.session import Session, must
from mover.conformance.stages import open_tape
from mover.ndmp import messages as m
from mover.ndmp.enums import CdbFlag, ErrorCode, TapeMode

CLOSED: Final = ErrorCode.DEV_NOT_OPEN_ERR.name
NO_DEVICE: Final = ErrorCode.NO_DEVICE_ERR.name
OPENED: Final = ErrorCode.DEVICE_OPENED_ERR.name
INQUIRY_BYTES: Final = 96
INQUIRY: Final = m.ScsiExecuteCdbRequest(
    CdbFlag.DATA_IN, 30_000, INQUIRY_BYTES, bytes([0x12, 0, 0, 0, INQUIRY_BYTES, 0])
)
_UNIT_READY = m.ScsiExecuteCdbRequest(0, 30_000, 0, bytes(6))


def checks(version: int) -> Iterator[Check]:
    """The checks of this group."""
    requests: dict[str, tuple[m.Body, tuple[str, ...]]] = {
        "CLOSE": (m.ScsiCloseRequest(), (CLOSED,)),
        "GET_STATE": (m.ScsiGetStateRequest(), (CLOSED,)),
        "RESET_DEVICE": (m.ScsiResetDeviceRequest(), (CLOSED,)),
        "EXECUTE_CDB": (_UNIT_READY, (CLOSED,)),
    }
    if version < 4:
        requests["RESET_BUS"] = (m.ScsiResetBusRequest(), (CLOSED,))
        # V3 lists no DEV_NOT_OPEN_ERR
        others = (NO_DEVICE, ErrorCode.NO_BUS_ERR.name) if version == 3 else ()
        requests["SET_TARGET"] = (m.ScsiSetTargetRequest(b"bogus", 0, 0, 0), (CLOSED, *others))
    for name, (request, allowed) in requests.items():
        run = partial(_closed, request=request, allowed=allowed)
        yield Check(f"SCSI_{name}, closed", _clause(version, name), run, interface="SCSI")
    yield Check("SCSI_OPEN of an unknown device", _clause(version, "OPEN"), _bogus, interface="SCSI")
    yield Check(
        "SCSI_OPEN while a tape is open", _clause(version, "OPEN", "states.md 1"), _tape_open, READS_TAPE, "SCSI"
    )
    changer = frozenset({Need.CHANGER})
    yield Check("SCSI_OPEN twice", _clause(version, "OPEN"), _twice, changer, "SCSI")
    yield Check("TAPE_OPEN while a changer is open", clause(version, "TAPE_OPEN", "states.md 1"),
                _changer_open, changer, "SCSI")  # fmt: skip
    yield Check("SCSI_GET_STATE of an open device", _clause(version, "GET_STATE"), _state, changer, "SCSI")
    yield Check("INQUIRY", _clause(version, "EXECUTE_CDB"), _inquiry, changer, "SCSI")
    yield Check("a CDB that the device does not know", _clause(version, "EXECUTE_CDB"), _sense, changer, "SCSI")
    yield Check("SCSI_CLOSE, then SCSI_OPEN again", _clause(version, "CLOSE"), _again, changer, "SCSI")


def _clause(version: int, name: str, notes: str = "states.md 6") -> str:
    return clause(version, f"SCSI_{name}", notes)


def _closed(session: Session, request: m.Body, allowed: tuple[str, ...]) -> None:
    session.expect_or_not_offered(request, *allowed)


def _bogus(session: Session) -> None:
    session.expect_or_not_offered(m.ScsiOpenRequest(b"bogus"), NO_DEVICE)


def _tape_open(session: Session) -> None:
    open_tape(session, TapeMode.READ)
    session.expect_or_not_offered(m.ScsiOpenRequest(b"bogus"), OPENED)


def _open(session: Session) -> m.ScsiOpenRequest:
    assert session.options.changer is not None
    request = m.ScsiOpenRequest(fsencode(session.options.changer))
    session.done(request)
    return request


def _twice(session: Session) -> None:
    session.expect(_open(session), OPENED)


def _changer_open(session: Session) -> None:
    _open(session)
    session.expect_or_not_offered(m.TapeOpenRequest(b"bogus", TapeMode.READ), OPENED)


def _state(session: Session) -> None:
    _open(session)
    session.expect_or_not_offered(m.ScsiGetStateRequest(), "NO_ERR")


def _inquiry(session: Session) -> None:
    _open(session)
    reply = session.ok(INQUIRY, m.ScsiExecuteCdbReply)
    must(reply.status == 0, "SCSI status 0", reply.status)
    must(36 <= len(reply.datain) <= INQUIRY_BYTES, f"36 to {INQUIRY_BYTES} bytes", len(reply.datain))
    must(not reply.ext_sense, "no sense data", f"{len(reply.ext_sense)} bytes")


def _sense(session: Session) -> None:
    """NO_ERR whenever the command reached the device; CHECK CONDITION comes with the sense data."""
    _open(session)
    answer = session.ask(m.ScsiExecuteCdbRequest(0, 30_000, 0, b"\xff" + bytes(5)))
    if not answer.good or not isinstance(answer.body, m.ScsiExecuteCdbReply):
        raise NotOfferedError(f"the command is held back: {answer.error}")
    must(answer.body.status == 2, "SCSI status 2 (check condition)", answer.body.status)
    must(bool(answer.body.ext_sense), "sense data", "none")


def _again(session: Session) -> None:
    request = _open(session)
    session.done(m.ScsiCloseRequest())
    session.expect(m.ScsiCloseRequest(), CLOSED)
    session.done(request)
