"""Where fuzzing begins: every message once, and whole jobs of every version, spelled in the targets' own bytes."""

import struct
from collections.abc import Iterable, Iterator

from mover.ndmp import messages as m
from mover.ndmp.enums import ErrorCode, MessageCode
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header
from mover.ndmp.table import EXTENSIONS_FROM, VERSIONS, Kind
from tests.fuzz import script as s
from tests.fuzz.choices import (
    CDBS,
    CHANGER,
    DRIVE,
    LIBRARY,
    LIBRARY_DRIVE,
    LONG,
    OTHER_DRIVE,
    PASSWORD,
    STRINGS,
    USER,
    VOLUME,
)
from tests.fuzz.fakes import Mood
from tests.fuzz.script import DATA, RELAY, TAPE, Op, ask, do, speak
from tests.fuzz.targets import CONNECTION, LENGTH_MAX, SESSIONS
from tests.fuzz.wire import BODY, REQUEST, STREAM, TYPED, UNBOUND, bodies_of, rows_of


def seeds(target: str) -> Iterator[bytes]:
    """The first inputs of a target."""
    if target == CONNECTION:
        for version in VERSIONS:
            for steps in _scripts(version):
                yield bytes([s.FIRST[version]]) + b"".join(steps)
            for steps in _arranged(version):
                yield bytes([s.FIRST[version]]) + b"".join(steps)
            yield bytes([s.FIRST[version] + s.DEBUGGED]) + b"".join(_questions(version))
            yield bytes([s.FIRST[version] + s.OCCUPIED]) + b"".join(_occupied(version))
            for question in _before_the_login(version):
                yield bytes([s.FIRST[version] + 192]) + question
            yield bytes([s.FIRST[version] + 192]) + do(Op.LOOK) + do(Op.TIME_PASSES, 5) * 2  # no login
    elif target in SESSIONS:
        for script in _session_scripts(SESSIONS[target]):
            yield script[: LENGTH_MAX[target]]
    elif target == "client":
        yield from _client_seeds()
    else:
        yield from _wire_seeds(int(target.removeprefix("wire")))


def _client_seeds() -> Iterator[bytes]:
    """Answers to each request: whole, an error in the header, to nobody; then posts, whole and broken."""
    for index, version in enumerate(VERSIONS):
        first = index + 8  # in pieces of one byte
        rows = [row for row in rows_of(version) if row.kind is Kind.REQUEST]
        for number, row in enumerate(rows):
            asked = bytes([first, 1, number])
            yield asked + bytes([0x20, 0]) + bytes([2, 1, 4] * 12)
            yield asked + bytes([0x20, 0]) + bytes(40)
            yield asked + bytes([0x20, 1, 9])
            stranger = mark(SIZE) + Header(1, 0, 1, row.code, 77, 0).encode()
            yield asked + bytes([0, len(stranger)]) + stranger
        unknown = mark(SIZE) + Header(1, 0, 0, 0x9999, 0, 0).encode()
        yield bytes([first, 0, 0, len(unknown)]) + unknown
        for kind in range(0x80, 0x100):
            yield bytes([first, 0, kind]) + bytes([2, 1, 5, 2, 1, 1, 1, 3] * 6)


def _wire_seeds(version: int) -> Iterator[bytes]:
    for index, _ in enumerate(bodies_of(version)):
        for fill in (b"", bytes([1]) * 20, bytes([2, 3, 1, 4]) * 12, bytes([1, 0]), bytes([0, 1])):
            yield bytes([TYPED << 6, index]) + fill
        yield bytes([BODY << 6, index]) + bytes(80)
        for fill in (
            bytes([2]) * 20,
            bytes([37, 1, 37, 1, 37]) * 4,
            bytes([2, 0, 1]) * 4,
            bytes([1, 5]) * 20,
            bytes([1, 1, 1, 1, 2]) * 8,
        ):
            yield bytes([TYPED << 6 | UNBOUND, index, 0, 0, 9, 0x99]) + fill
    for index, row in enumerate(rows_of(version)):
        yield bytes([REQUEST << 6 | 5, index, 7]) + bytes(64)
        body = bytes(40)
        yield bytes([STREAM << 6 | 3]) + mark(SIZE + len(body)) + Header(1, 0, 0, row.code, 0, 0).encode() + body
        yield bytes([TYPED << 6 | UNBOUND, 0]) + struct.pack(">I", row.code)
    for words in (
        (0,), (2, 1), (0, 1), (0, 1, 0x2000_0000), (0, 1, 5, 0), (0, 1, 5, 1, 1), (0, 1, 5, 9), (0, 1, 5, 0, 7),
        (1, 0x7FF0, 1), (0, 2, 0x7FF0, 2, 1, 2, 5, 0),
    ):  # fmt: skip
        body = struct.pack(f">{len(words)}I", *words)
        code = MessageCode.CONFIG_SET_EXT_LIST
        yield bytes([STREAM << 6]) + mark(SIZE + len(body)) + Header(1, 0, 0, code, 0, 0).encode() + body
    yield bytes([STREAM << 6]) + mark(1 << 30)
    for integer in (b"\0", b"\0\0\0\xff" * 10):
        for index, _ in enumerate(bodies_of(version)):
            yield bytes([BODY << 6, index]) + integer


def _scripts(version: int) -> Iterator[Iterable[bytes]]:
    yield _questions(version)
    if version >= EXTENSIONS_FROM:
        yield from _extensions(version)
    yield _tape(version)
    yield [do(Op.LOG), *_questions(version)]
    for index in range(len(s.canned(version))):
        yield [do(Op.CANNED, index), do(Op.VANISH), do(Op.TIME_PASSES, 5)]
        yield [do(Op.CANNED, index), *[do(Op.TIME_PASSES, 5)] * 4]
    yield from _refused(version)
    for index in range(len(s.canned(version))):
        yield [do(Op.LOG), do(Op.CANNED, index), do(Op.LOOK), *_good_end(version)]
        yield [do(Op.LOG), do(Op.CANNED, index), do(Op.LOOK), do(Op.STOP_READING), *_good_end(version)]
    for row in s.requests_of(version):
        for index in range(len(s.canned(version))):
            yield [do(Op.CANNED, index), bytes([s.REQUEST + s.requests_of(version).index(row)]), bytes([2]) * 3]
    for index in range(len(s.canned(version))):
        for worker in (DATA, TAPE, RELAY):
            yield [do(Op.CANNED, index), do(Op.WORKER_DIES, worker), *_clean_up(version)]
            for kind in range(6):
                for number in range(7):
                    yield [do(Op.CANNED, index), speak(worker, kind, number, b"x"), *_clean_up(version)]
        for op in (Op.END, Op.RESET, Op.HANG_UP, Op.SHUT_DOWN):
            yield [do(Op.CANNED, index), do(op)]
        for mood in Mood:
            for step in range(4):
                fine = do(Op.MOOD, Mood.FINE, 0) * step
                yield [fine, do(Op.MOOD, mood, 9), do(Op.CANNED, index), *_clean_up(version)]
        yield [do(Op.CANNED, index), do(Op.STOP_READING), speak(DATA, s.LINE), do(Op.TIME_PASSES, 3)]
        yield [do(Op.CANNED, index), *_good_end(version)]
    if version == 1:
        return
    yield from _by_address(version)
    yield from _changed_tapes(version)
    yield [*s.joined(version, 0, mover_listens=False), s.start_backup(version)]
    yield [
        *s.joined(version, 1, mover_listens=False),
        s.start_recover(version),
        ask(version, m.MoverReadRequest(0, 512)),
    ]


def _session_scripts(version: int) -> Iterator[bytes]:
    """Every request on its own, behind an open drive, on an open changer and between two machines that are joined."""
    opened = ask(version, m.TapeOpenRequest(DRIVE, 1))
    changer = ask(version, m.ScsiOpenRequest(CHANGER))
    ready = b"".join(s.joined(version, 0)) if version > 1 else opened
    for index, _ in enumerate(s.requests_of(version)):
        request = bytes([s.REQUEST + index])
        for fill in (b"", bytes([1]) * 6, bytes([2, 3, 1, 4, 1])):
            yield request + fill
            yield opened + request + fill
            yield changer + request + fill
            yield ready + do(Op.SETTLE) + request + fill
    for op in Op:
        yield do(op, 1, 1, 1)
        yield opened + do(op, 1, 1, 1) + opened
    for cdb in CDBS:
        yield changer + ask(version, m.ScsiExecuteCdbRequest(1, 0, 255, cdb, b""))
        yield opened + ask(version, m.TapeExecuteCdbRequest(1, 0, 255, cdb, b""))
        yield ask(version, m.ScsiOpenRequest(DRIVE)) + ask(version, m.ScsiExecuteCdbRequest(1, 0, 255, cdb, b""))


def _before_the_login(version: int) -> Iterator[bytes]:
    yield do(Op.HUGE, 1)
    if version > 2:
        yield bytes(
            [s.REQUEST + [row.code for row in s.requests_of(version)].index(MessageCode.CONFIG_GET_SERVER_INFO)]
        )


def _occupied(version: int) -> Iterator[bytes]:
    """What another session has."""
    yield ask(version, m.TapeOpenRequest(OTHER_DRIVE, 1)) + ask(version, m.ScsiOpenRequest(CHANGER))
    for device in (LIBRARY, DRIVE):
        yield ask(version, m.ScsiOpenRequest(device))
        if version < 4:
            yield ask(version, m.ScsiSetTargetRequest(CHANGER, 0, 0, 0)) + ask(version, m.ScsiResetDeviceRequest())
        yield ask(version, m.ScsiExecuteCdbRequest(1, 0, 255, bytes(6), b"")) + ask(version, m.ScsiCloseRequest())


def _arranged(version: int) -> Iterator[Iterable[bytes]]:
    """Where something comes in the moment when it is least expected."""
    yield from _of_the_tape(version)
    yield from _of_the_bus(version)
    yield from _of_the_data_worker(version)
    yield [do(Op.PIPELINE), *[do(Op.HUGE, which) for which in range(5)], do(Op.PIPELINE)]
    yield [do(Op.LOG), *s.joined_or_open(version, 1), do(Op.HUGE, 2), ask(version, m.TapeOpenRequest(DRIVE, 1)),
           do(Op.HUGE, 3), do(Op.HUGE, 3)]  # fmt: skip
    if version == 4:
        yield from _of_extensions()
    if version == 1:
        yield from _of_version_1()
    else:
        yield from _of_the_mover(version)
        yield from _of_the_relay(version)


def _of_the_tape(version: int) -> Iterator[Iterable[bytes]]:
    opened, closed = ask(version, m.TapeOpenRequest(DRIVE, 1)), ask(version, m.TapeCloseRequest())
    state = ask(version, m.TapeGetStateRequest())
    slow, silent = do(Op.MOOD, Mood.SLOW, 0), do(Op.MOOD, Mood.SILENT, 0)
    asked = ask(version, m.DataGetStateRequest())
    yield [opened, slow, state, do(Op.TIME_PASSES, 2), asked, do(Op.TIME_PASSES, 2), asked, do(Op.TIME_PASSES, 3)]
    yield [opened, slow, state, do(Op.TIME_PASSES, 2), do(Op.TIME_PASSES, 3), state]
    yield [opened, slow, state, do(Op.HUGE, 1), do(Op.HUGE, 3), do(Op.TIME_PASSES, 4)]
    yield [opened, closed, opened, state]
    yield [opened, do(Op.WORKER_DIES, TAPE), opened]
    for mood in (do(Op.MOOD, Mood.REFUSED, 6), do(Op.MOOD, Mood.REFUSED, 2), slow, silent):
        yield [opened, mood, closed, closed, state]
        yield [opened, mood, do(Op.HANG_UP), do(Op.END), do(Op.TIME_PASSES, 4)]
        yield [opened, mood, do(Op.END), do(Op.TIME_PASSES, 4)]
        yield [opened, mood, mood, ask(version, m.TapeWriteRequest(LONG)), closed]
    fine = do(Op.MOOD, Mood.FINE, 0)
    for cdb in CDBS:
        execute = ask(version, m.TapeExecuteCdbRequest(1, 0, 255, cdb, b""))
        yield [opened, execute, fine, fine, do(Op.MOOD, Mood.REFUSED, 5), execute]
    yield [opened, *[ask(version, m.TapeMtioRequest(each, 1)) for each in (4, 3, 4)], state]


def _of_the_bus(version: int) -> Iterator[Iterable[bytes]]:
    def execute(cdb: bytes) -> bytes:
        return ask(version, m.ScsiExecuteCdbRequest(1, 100, 255, cdb, b""))

    everything = [execute(cdb) for cdb in CDBS]
    questions = [ask(version, m.ScsiGetStateRequest()), ask(version, m.ScsiResetDeviceRequest())]
    targets = []
    if version < 4:
        questions.append(ask(version, m.ScsiResetBusRequest()))
        targets = [
            ask(version, m.ScsiSetTargetRequest(name, controller, number, 0))
            for name, controller, number in (
                (DRIVE, 0, 0), (CHANGER, 0, 0), (b"", 0, 0), (b"", 0, 1), (b"", 1, 1), (b"", 0, 9), (b"", 9, 0),
                (b"nowhere", 0, 0),
            )
        ]  # fmt: skip
    for device in (DRIVE, LIBRARY, CHANGER, LIBRARY_DRIVE, b"drives"):
        opened = ask(version, m.ScsiOpenRequest(device))
        yield [opened, *questions, *everything]
        yield [opened, *[target + questions[0] + questions[1] for target in targets], *questions, *everything[:4]]
        yield [opened, *[do(Op.OPERATOR, hand) + execute(CDBS[0]) for hand in range(5)], *everything]
        yield [do(Op.OPERATOR, 0), opened, *everything[9:11], execute(CDBS[10])]
    yield [do(Op.OPERATOR, hand) for hand in (0, 2, 4, 1, 0, 3)]


def _of_the_data_worker(version: int) -> Iterator[Iterable[bytes]]:
    slow = do(Op.MOOD, Mood.SLOW, 0)
    nul = (m.Pval(b"FILESYSTEM", VOLUME + b"\0x"), m.Pval(b"HIST", b"n"))
    direct = (*s.ENV, m.Pval(b"DIRECT", b"y"), m.Pval(b"RECURSIVE", b"n"), m.Pval(b"DEBUG", b"y"))
    address = m.LOCAL if version == 2 else None
    later, ending = do(Op.TIME_PASSES, 3), list(_clean_up(version))
    ready, reading = list(s.joined_or_open(version, 0)), list(s.joined_or_open(version, 1))
    backup, recover = s.start_backup(version), s.start_recover(version)
    yield [*ready, ask(version, m.DataStartBackupRequest(b"dump", nul, address)), *ending]
    directories = (m.Pval(b"FILESYSTEM", VOLUME), m.Pval(b"HIST", b"d"))
    yield [*ready, ask(version, m.DataStartBackupRequest(b"dump", directories, address)), *ending]
    phases = [speak(DATA, s.WAITS, number) for number in (1, 2)]
    yield [*ready, backup, *phases, speak(DATA, s.FINISHED), *ending]
    misspelt = (*directories, m.Pval(b"nowhere", b"x"), m.Pval(b"EXLUDE", b"x"))
    yield [*ready, ask(version, m.DataStartBackupRequest(b"dump", misspelt, address)), *ending]
    not_closed = [do(Op.MOOD, Mood.REFUSED, ErrorCode.IO_ERR), ask(version, m.TapeCloseRequest())]
    yield [ask(version, m.TapeOpenRequest(DRIVE, 1)), do(Op.SETTLE), *not_closed, *ending]
    yield [
        *ready,
        ask(version, m.DataStartBackupRequest(b"dump", direct, address)),
        speak(DATA, s.FINISHED, 1),
        *ending,
    ]
    yield [*reading, ask(version, m.DataStartRecoverRequest(direct, (), b"dump", address)), later, *ending]
    for name in (
        m.RecoverName(b"x", b"", name=b"/usr/y"), m.RecoverName(b"x", b"/usr", name=b"y"),
        m.RecoverName(b"x", b"", name=b"y"), m.RecoverName(b"x/z", b"", name=b"y"),
    ):  # fmt: skip
        if version > 2:
            yield [*reading, ask(version, m.DataStartRecoverRequest(direct, (name,), b"dump")), *ending]
    for start, opened in ((backup, ready), (recover, reading)):
        for happens in (speak(TAPE, s.HALTED, 1), speak(TAPE, s.HALTED, 3), do(Op.WORKER_DIES, TAPE)):
            yield [*opened, slow, start, happens, later, *ending]
            yield [*opened, start, do(Op.SETTLE), do(Op.STOP_READING), speak(DATA, s.LINE, 512), happens,
                   do(Op.STOP_READING), later, *ending]  # fmt: skip
        yield [*opened, start, do(Op.SETTLE), speak(DATA, s.FINISHED, 2), do(Op.WORKER_DIES, DATA), later, *ending]
    held = ask(version, m.MoverAbortRequest() if version > 1 else m.DataAbortRequest())
    for happens in (speak(DATA, s.HISTORY), speak(DATA, s.LINE, 512), do(Op.WORKER_DIES, DATA)):
        yield [*ready, backup, do(Op.SETTLE), do(Op.MOOD, Mood.HUNG, 0), held, happens, happens, later, *ending]
    if version > 1:
        asked = ask(version, m.MoverReadRequest(0, 512))
        yield [*reading, recover, do(Op.SETTLE), slow, asked, speak(DATA, s.LINE, 512), do(Op.WORKER_DIES, TAPE), later]
        yield [*reading, recover, do(Op.SETTLE), slow, asked, speak(DATA, s.LINE, 512), later, *ending]
        yield [*reading, recover, do(Op.SETTLE), speak(TAPE, s.PAUSED, 2), do(Op.SETTLE), speak(DATA, s.WANT, 1024),
               ask(version, m.DataAbortRequest()), later, *ending]  # fmt: skip


def _of_extensions() -> Iterator[Iterable[bytes]]:
    listed = ask(4, m.ConfigGetExtListRequest())
    for chosen in (
        (), ((0x7FF0, 1),), ((0x7FF0, 2),), ((0x7FF0, 99),), ((99, 1),), ((0x7FF0, 1), (0x7FF0, 2)), ((0x7FF0, 1),) * 2,
    ):  # fmt: skip
        choice = ask(4, m.ConfigSetExtListRequest(tuple(m.SelectedExt(*each) for each in chosen)))
        yield [listed, choice, listed, choice]
        yield [choice, listed, listed, choice, do(Op.ANY_NUMBER, 0x7F, 0xF0, 0, 0, 4, 0, 0, 0, 0), choice]


def _of_version_1() -> Iterator[Iterable[bytes]]:
    later = do(Op.TIME_PASSES, 3)
    reading = list(s.set_up(1, writes=False))
    yield [*reading, s.start_backup(1)]
    yield [*reading, do(Op.MOOD, Mood.REFUSED, 9), s.start_backup(1)]
    for step in range(4):
        fine, refused = do(Op.MOOD, Mood.FINE, 0) * step, do(Op.MOOD, Mood.REFUSED, 9)
        yield [*s.set_up(1, writes=True), do(Op.SETTLE), fine, refused, s.start_backup(1), *_clean_up(1)]
    recover = [*reading, s.start_recover(1), do(Op.SETTLE)]
    paused = [*recover, speak(DATA, s.WAITS), speak(TAPE, s.PAUSED, 2), later]
    on = ask(1, m.DataContinueRequest())
    yield [*paused, on, later, ask(1, m.DataGetStateRequest()), ask(1, m.DataAbortRequest()), *_clean_up(1)]
    yield [*recover, speak(TAPE, s.PAUSED, 2), ask(1, m.DataAbortRequest()), later, *_clean_up(1)]
    yield [*recover, speak(TAPE, s.PAUSED, 2), do(Op.WORKER_DIES, TAPE), later, *_clean_up(1)]
    yield [*recover, speak(TAPE, s.PAUSED, 2), do(Op.WORKER_DIES, DATA), later, *_clean_up(1)]
    yield [*paused, ask(1, m.TapeCloseRequest()), on, ask(1, m.TapeOpenRequest(OTHER_DRIVE, 0)), on, *_clean_up(1)]
    yield [ask(1, m.TapeOpenRequest(DRIVE, 1)), ask(1, m.TapeSetRecordSizeRequest(512)), do(Op.MOOD, Mood.REFUSED, 5),
           ask(1, m.TapeWriteRequest(LONG)), ask(1, m.TapeReadRequest(1024))]  # fmt: skip


def _of_the_mover(version: int) -> Iterator[Iterable[bytes]]:
    hung, later = do(Op.MOOD, Mood.HUNG, 0), do(Op.TIME_PASSES, 3)
    abort, stop = ask(version, m.MoverAbortRequest()), ask(version, m.MoverStopRequest())
    close, on = ask(version, m.MoverCloseRequest()), ask(version, m.MoverContinueRequest())
    ending = list(_clean_up(version))
    state = ask(version, m.MoverGetStateRequest())
    running = [*s.joined(version, 0), s.start_backup(version), do(Op.SETTLE)]
    paused = [*running, speak(TAPE, s.PAUSED, 1), do(Op.SETTLE)]
    yield [*paused, on, state, *ending]
    yield [*paused, ask(version, m.MoverSetWindowRequest(1024, s.ALL)), on, state, *ending]
    yield [*running, hung, abort, speak(TAPE, s.PAUSED, 1), later, *ending]
    yield [*running, hung, abort, do(Op.TIME_PASSES, 4), ask(version, m.DataAbortRequest()), stop,
           ask(version, m.DataStopRequest()), *s.joined(version, 0), s.start_backup(version), *ending]  # fmt: skip
    for ended in (Op.HANG_UP, Op.RESET, Op.END):
        yield [*running, hung, abort, do(ended), later]
    for said in (speak(TAPE, s.PAUSED, 1), speak(TAPE, s.HALTED, 1), later):
        yield [*running, speak(DATA, s.FINISHED, 1), do(Op.SETTLE), close, said, later, *ending]
    delivering = [*s.joined(version, 1), s.start_recover(version), do(Op.SETTLE), speak(TAPE, s.FILLS)]
    yield [*delivering, close, later, *ending]
    yield [*delivering, close, do(Op.HANG_UP), later]


def _of_the_relay(version: int) -> Iterator[Iterable[bytes]]:
    later, ending = do(Op.TIME_PASSES, 3), list(_clean_up(version))
    for mode in (0, 1):
        listening = [*s.set_up(version, writes=mode == 0), ask(version, m.MoverListenRequest(mode, 1)), do(Op.SETTLE)]
        asked = ask(version, m.MoverGetStateRequest())
        for how in (3, 8, 4):
            yield [*listening, do(Op.PEER_CONNECTS, how), asked, later, do(Op.PEER_CONNECTS, 0), asked, *ending]
            yield [*listening, do(Op.PEER_CONNECTS, how), asked, do(Op.TIME_PASSES, 2), do(Op.PEER_CONNECTS, 0), later,
                   asked, *ending]  # fmt: skip
        joined = [*listening, do(Op.PEER_CONNECTS, 0), do(Op.SETTLE)]
        for last in (speak(RELAY, 4), speak(RELAY, 1), speak(RELAY, 4) + speak(RELAY, 3), do(Op.WORKER_DIES, RELAY)):
            yield [*joined, speak(TAPE, s.HALTED, 1), do(Op.TIME_PASSES, 2), do(Op.HANG_UP), last, later]
            yield [*joined, do(Op.MOOD, Mood.HUNG, 0), ask(version, m.MoverAbortRequest()), last, later, *ending]
            yield [*joined, speak(TAPE, s.HALTED, 1), last, later, *ending]
            yield [*joined, speak(TAPE, s.PAUSED, 1), do(Op.SETTLE), last, later, *ending]
    for start in (s.start_backup(version, local=False), s.start_recover(version, local=False)):
        joined = [*s.data_over_tcp(version), start, do(Op.SETTLE)]
        for last in (speak(RELAY, 4), speak(RELAY, 1), speak(RELAY, 0), do(Op.WORKER_DIES, RELAY)):
            yield [*joined, last, later, later, *ending]
            yield [*joined, speak(DATA, s.FINISHED, 1), do(Op.WORKER_DIES, DATA), last, later, *ending]
            yield [*joined, speak(DATA, s.FINISHED, 1), do(Op.TIME_PASSES, 2), do(Op.HANG_UP), last, later]
            yield [*s.data_over_tcp(version), do(Op.MOOD, Mood.SLOW, 0), start, do(Op.SETTLE), last, later, *ending]


def _by_address(version: int) -> Iterator[Iterable[bytes]]:
    """CONNECT to a peer that answers, and to one that does not; a worker that refuses a stream."""
    recover = [*s.joined(version, 1), s.start_recover(version), do(Op.SETTLE)]
    yield [*recover, do(Op.MOOD, Mood.REFUSED, 23), speak(DATA, s.WANT, 1024), *_clean_up(version)]
    yield [*recover, speak(TAPE, s.PAUSED, 2), speak(DATA, s.WANT, 1024), ask(version, m.MoverContinueRequest())]
    if version == 2:
        return
    for before in (b"", do(Op.PEERS_FAIL)):
        for mode in (0, 1):
            setting = s.set_up(version, writes=mode == 0)
            yield [*setting, before, ask(version, m.MoverConnectRequest(mode, s.TCP)), *_clean_up(version)]
        yield [before, ask(version, m.DataConnectRequest(s.TCP)), s.start_backup(version), *_clean_up(version)]


def _changed_tapes(version: int) -> Iterator[Iterable[bytes]]:
    """A mover that pauses, and goes on with another drive, a protected one, or none."""
    paused = [*s.joined(version, 0), s.start_backup(version), do(Op.SETTLE), speak(TAPE, s.PAUSED, 1), do(Op.SETTLE)]
    closed = ask(version, m.TapeCloseRequest())
    window, on = ask(version, m.MoverSetWindowRequest(1024, (1 << 64) - 512)), ask(version, m.MoverContinueRequest())
    yield [*paused, closed, on, *_good_end(version)]
    for mode in (0, 1, 2):
        yield [*paused, closed, ask(version, m.TapeOpenRequest(DRIVE, mode)), window, on, *_good_end(version)]
    finished = [*s.joined(version, 0), s.start_backup(version), do(Op.SETTLE), speak(DATA, s.FINISHED, 1)]
    yield [*finished, ask(version, m.MoverCloseRequest()), speak(TAPE, s.HALTED, 1), *_clean_up(version)]


def _refused(version: int) -> Iterator[Iterable[bytes]]:
    """Arguments of jobs that are refused for one reason each."""
    ready, recovering = list(s.joined_or_open(version, 0)), list(s.joined_or_open(version, 1))
    address = m.LOCAL if version == 2 else None
    for env in (
        (), (m.Pval(b"FILESYSTEM", b"/outside"),), (m.Pval(b"PREFIX", b"../.."),), (m.Pval(b"FILESYSTEM", b"\0"),),
        (*s.ENV, m.Pval(b"LEVEL", b"10")), (*s.ENV, m.Pval(b"LEVEL", b"x")), (*s.ENV, m.Pval(b"HIST", b"")),
        (*s.ENV, m.Pval(b"DIRECT", b"x"), m.Pval(b"RECURSIVE", b"n")),
    ):  # fmt: skip
        yield [*ready, ask(version, m.DataStartBackupRequest(b"dump", env, address))]
        yield [*recovering, ask(version, m.DataStartRecoverRequest(env, (), b"dump", address))]
        if version > 2:
            for name in (
                m.RecoverName(b"x", b""), m.RecoverName(b"../..", b"/usr"), m.RecoverName(b"x", b"relative/name"),
                m.RecoverName(b"x", b"/outside"), m.RecoverName(b"", b"/usr"),
            ):  # fmt: skip
                yield [*recovering, ask(version, m.DataStartRecoverRequest(env, (name, name), b"dump", address))]
    yield [*ready, ask(version, m.DataStartBackupRequest(b"tar", s.ENV, address))]
    if version == 1:
        return
    for mode in (0, 1):
        for offset, length in ((0, 0), (5, 1000), (1024, s.ALL), (1 << 40, (1 << 64) - 512), (0, 1024), (512, 10)):
            window = ask(version, m.MoverSetWindowRequest(offset, length))
            size = ask(version, m.MoverSetRecordSizeRequest(1024))
            opened = ask(version, m.TapeOpenRequest(DRIVE, 1))
            yield [window, size, window, opened, ask(version, m.MoverListenRequest(mode, 0)), window]
            yield [*s.joined(version, mode), speak(TAPE, s.PAUSED, 1), window, ask(version, m.MoverContinueRequest())]
            yield [*s.joined(version, mode), ask(version, m.MoverReadRequest(offset, length))]


def _questions(version: int) -> Iterable[bytes]:
    if version > 1:
        yield ask(version, m.ConfigGetAuthAttrRequest(2))
        yield ask(version, m.ConnectClientAuthRequest(m.AuthMd5(USER, bytes(16))))
    yield ask(version, m.ConnectClientAuthRequest(m.AuthText(USER, PASSWORD)))
    yield ask(version, m.ConnectClientAuthRequest(m.AuthText(USER, STRINGS[1])))
    yield ask(version, m.ConnectClientAuthRequest(m.AUTH_NONE))
    yield do(Op.ANY_NUMBER, 0, 0, 0x99, 0x99, 0)
    yield do(Op.RAW_BODY, 7, 3, 1, 2, 3)
    login = [row.code for row in s.requests_of(version)].index(MessageCode.CONNECT_CLIENT_AUTH)
    yield do(Op.RAW_BODY, login, 3, 1, 2, 3) + do(Op.RAW_BODY, login, 8, 0, 0, 0, 9, 0, 0, 0, 0)
    for cdb in (b"", bytes(6), b"\x12\0\0\0\0\0"):
        yield ask(version, m.TapeExecuteCdbRequest(0, 0, 0, cdb, b""))
    yield do(Op.RAW_BYTES, 5, 0x80, 0, 0, 1, 9)
    yield ask(version, m.ConnectCloseRequest())


def _extensions(version: int) -> Iterator[Iterable[bytes]]:
    """Listed, chosen and used; used at once; chosen too early and twice."""
    listed, echo = ask(version, m.ConfigGetExtListRequest()), ask(version, m.TestEchoRequest(STRINGS[1]))
    lists = [
        ask(version, m.ConfigSetExtListRequest(tuple(m.SelectedExt(*each) for each in chosen)))
        for chosen in ((), ((0x7FF0, 1),), ((0x7FF0, 2),), ((0x7FF0, 1), (0x7FF0, 1)), ((0x7FF0, 9),), ((1, 1),))
    ]
    for each in lists:
        yield [do(Op.LOG), each, listed, listed, each, echo, each, listed, echo]
    yield [do(Op.LOG), echo, listed, *lists]


def _tape(version: int) -> Iterable[bytes]:
    yield ask(version, m.TapeOpenRequest(DRIVE, 1))
    yield ask(version, m.TapeGetStateRequest())
    for operation in range(8):
        yield ask(version, m.TapeMtioRequest(operation, 1))
    yield ask(version, m.TapeWriteRequest(LONG))
    yield ask(version, m.TapeReadRequest(512))
    yield do(Op.MOOD, Mood.REFUSED, 5) + ask(version, m.TapeReadRequest(512))
    yield do(Op.LOAD) + ask(version, m.TapeCloseRequest()) + do(Op.LOAD)
    yield ask(version, m.TapeOpenRequest(DRIVE, 2)) + do(Op.WORKER_DIES, TAPE)
    yield ask(version, m.TapeGetStateRequest())


def _good_end(version: int) -> Iterable[bytes]:
    if version == 1:
        yield speak(DATA, s.HISTORY) + speak(DATA, s.GAUGES, 1 << 20) + ask(version, m.DataGetStateRequest())
        yield speak(TAPE, s.PAUSED, 1) + ask(version, m.DataContinueRequest()) + speak(DATA, s.FINISHED, 1)
        yield speak(TAPE, s.HALTED, 1) + do(Op.TIME_PASSES, 1) + ask(version, m.DataGetEnvRequest())
        yield from _clean_up(version)
        return
    yield speak(DATA, s.HISTORY) + speak(DATA, s.GAUGES, 1 << 20) + ask(version, m.DataGetStateRequest())
    yield speak(TAPE, s.PAUSED, 3) + ask(version, m.MoverSetWindowRequest(1024, s.ALL))
    yield ask(version, m.MoverContinueRequest()) + speak(DATA, s.FINISHED, 1) + speak(RELAY, 1)
    yield speak(TAPE, s.HALTED, 1) + do(Op.TIME_PASSES, 1) + ask(version, m.DataGetEnvRequest())
    yield from _clean_up(version)


def _clean_up(version: int) -> Iterable[bytes]:
    yield ask(version, m.DataStopRequest())
    if version > 1:
        yield ask(version, m.MoverStopRequest())
    yield ask(version, m.TapeCloseRequest()) + ask(version, m.ConnectCloseRequest())
