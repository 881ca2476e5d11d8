"""Scripts for the connection target: what their bytes mean, how requests are spelled, and canned beginnings.

A canned beginning takes two bytes of a script and brings the connection far into a job, so that the fuzzer spends its
bytes on what comes then.
"""

import functools
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final

from mover.ndmp import edge
from mover.ndmp import messages as m
from mover.ndmp.enums import HIGHEST_VERSION, MessageCode
from mover.ndmp.table import EXTENSIONS_FROM, ROWS, TABLE, VERSIONS, Kind, Row, class_of
from tests.fuzz.choices import DRIVE, INTEGERS, VOLUME, spell, spell_string


class Op(IntEnum):
    """What a byte of a script does; from REQUEST on it is a request, in the order of their numbers."""

    CANNED = 0
    RAW_BODY = 1
    ANY_NUMBER = 2
    RAW_BYTES = 3
    PIPELINE = 4
    SETTLE = 5
    WORKER_SPEAKS = 6
    WORKER_DIES = 7
    MOOD = 8
    PEER_CONNECTS = 9
    PEERS_FAIL = 10
    TIME_PASSES = 11
    STOP_READING = 12
    LOAD = 13
    SHUT_DOWN = 14
    END = 15
    RESET = 16
    HANG_UP = 17
    HUGE = 0xFB
    OPERATOR = 0xFC
    VANISH = 0xFD
    LOOK = 0xFE
    LOG = 0xFF


REQUEST: Final = 18
FIRST: Final = {version: HIGHEST_VERSION - version for version in VERSIONS}
"""The first byte of a script: the version, logged in; from 192 on without a login."""
DEBUGGED: Final = 4
"""Added to it: every connection has a protocol log."""
OCCUPIED: Final = 8
"""Added to it: another session has the second drive and the library."""

DATA, TAPE, RELAY = range(3)
"""Which worker speaks or dies."""
FINISHED, WANT, RECOVERED, HISTORY, GAUGES, LINE, WAITS = range(7)
"""What a data worker says; a backup's does not wait, and tells of a phase instead."""
PAUSED, HALTED, TAPE_LINE, FILLS = range(4)
"""What a tape worker says."""
ALL: Final = 2**64 - 1
TCP: Final = m.tcp_address(0x7F00_0001, 10)
ENV: Final = (m.Pval(b"FILESYSTEM", VOLUME), m.Pval(b"HIST", b"y"))
FILE_ENV: Final = (
    m.Pval(b"PREFIX", VOLUME), m.Pval(b"HIST", b"f"), m.Pval(b"LEVEL", b"1"), m.Pval(b"DIRECT", b"y"),
)  # fmt: skip


@functools.cache
def requests_of(version: int) -> list[Row]:
    """The requests of a version by number, those of extensions in their default version."""
    rows = [row for (of, _), row in TABLE.items() if of == version and row.kind is not Kind.POST]
    if version >= EXTENSIONS_FROM:
        rows += [ROWS[1, MessageCode.TEST_ECHO]]
    return sorted(rows, key=lambda row: row.code)


def layout(version: int, code: int) -> int:
    """The version by which a message is spelled here."""
    return 1 if class_of(code) else version


@functools.cache
def wire_type(version: int, code: int) -> type[m.Body]:
    """The request of a message as it is on the wire."""
    row = ROWS[layout(version, code), code]
    conversion = edge.CONVERSIONS.get((layout(version, code), code, row.request))
    return row.request if conversion is None else conversion.wire


def ask(version: int, body: m.Body) -> bytes:
    """The step that sends a request."""
    code = edge.message_code(1 if edge.class_of_body(type(body)) else version, body)
    conversion = edge.CONVERSIONS.get((layout(version, code), code, type(body)))
    wire = body if conversion is None else conversion.outward(body)
    index = [row.code for row in requests_of(version)].index(code)
    return bytes([REQUEST + index]) + spell(wire)


def do(op: Op, *details: int) -> bytes:
    """A step that is no request."""
    return bytes([op, *details])


def speak(worker: int, kind: int, number: int = 0, text: bytes = b"") -> bytes:
    """The step in which a worker says something by itself."""
    return bytes([Op.WORKER_SPEAKS, worker, kind, INTEGERS.index(number)]) + spell_string(text)


def set_up(version: int, *, writes: bool) -> Iterator[bytes]:
    """Drive open, record size and window set."""
    yield ask(version, m.TapeOpenRequest(DRIVE, 1 if writes else 0))
    if version == 1:
        yield ask(version, m.TapeSetRecordSizeRequest(1024))
        return
    yield ask(version, m.MoverSetRecordSizeRequest(1024))
    yield ask(version, m.MoverSetWindowRequest(0, ALL))


def joined(version: int, mode: int, *, mover_listens: bool = True) -> Iterator[bytes]:
    """Both machines on the LOCAL data connection; in version 2 the start joins them."""
    yield from set_up(version, writes=mode == 0)
    if mover_listens or version == 2:
        yield ask(version, m.MoverListenRequest(mode, 0))
        if version > 2:
            yield ask(version, m.DataConnectRequest(m.LOCAL))
    else:
        yield ask(version, m.DataListenRequest(0)) + ask(version, m.MoverConnectRequest(mode, m.LOCAL))


def joined_or_open(version: int, mode: int) -> Iterator[bytes]:
    """Ready for a start."""
    yield from joined(version, mode) if version > 1 else set_up(version, writes=mode == 0)


def data_over_tcp(version: int) -> Iterator[bytes]:
    """The data connection of DATA alone, to a peer that connects; in version 2 the start connects out."""
    if version > 2:
        yield ask(version, m.DataListenRequest(1)) + do(Op.SETTLE) + do(Op.PEER_CONNECTS, 0) + do(Op.SETTLE)


def start_backup(version: int, env: tuple[m.Pval, ...] = ENV, *, local: bool = True) -> bytes:
    """START_BACKUP."""
    address = None if version != 2 else m.LOCAL if local else TCP
    return ask(version, m.DataStartBackupRequest(b"dump", env, address))


def start_recover(version: int, *, local: bool = True) -> bytes:
    """START_RECOVER."""
    address = None if version != 2 else m.LOCAL if local else TCP
    names = (m.RecoverName(b"x", VOLUME),) if version > 2 else ()
    return ask(version, m.DataStartRecoverRequest(ENV, names, b"dump", address))


def _beginnings_of_version_1() -> Iterator[Iterable[bytes]]:
    """It has no MOVER: DATA moves the tape of its own session."""
    yield [*set_up(1, writes=True), start_backup(1)]
    yield [*set_up(1, writes=True), start_backup(1, FILE_ENV)]
    yield [*set_up(1, writes=False), start_recover(1)]
    yield [*set_up(1, writes=True), start_backup(1), do(Op.SETTLE), speak(TAPE, PAUSED, 1), do(Op.SETTLE)]
    yield [*set_up(1, writes=False), start_recover(1), do(Op.SETTLE), speak(TAPE, PAUSED, 2), do(Op.SETTLE)]


def _beginnings(version: int) -> Iterator[Iterable[bytes]]:
    yield set_up(version, writes=True)
    if version == 1:
        yield from _beginnings_of_version_1()
        return
    yield joined(version, 0)
    yield [*joined(version, 0), start_backup(version)]
    yield [*joined(version, 1), start_recover(version)]
    yield [*set_up(version, writes=True), ask(version, m.MoverListenRequest(0, 1)), do(Op.SETTLE),
           do(Op.PEER_CONNECTS, 0), do(Op.SETTLE)]  # fmt: skip
    yield [*set_up(version, writes=False), ask(version, m.MoverListenRequest(1, 1)), do(Op.SETTLE),
           do(Op.PEER_CONNECTS, 0), do(Op.SETTLE)]  # fmt: skip
    yield [*data_over_tcp(version), start_backup(version, FILE_ENV, local=False)]
    yield [*data_over_tcp(version), start_recover(version, local=False)]
    yield [*joined(version, 0), start_backup(version), do(Op.SETTLE), speak(TAPE, PAUSED, 1), do(Op.SETTLE)]
    yield [*joined(version, 0), start_backup(version), do(Op.SETTLE), speak(DATA, FINISHED, 1), speak(TAPE, HALTED, 1)]


@functools.cache
def canned(version: int) -> list[bytes]:
    """The canned beginnings of a version; the requests of each in one go."""
    pipeline = do(Op.PIPELINE)
    return [pipeline + b"".join(steps) + pipeline for steps in _beginnings(version)]
