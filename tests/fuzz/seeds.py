"""Where fuzzing begins: every message once, and whole jobs of every version, spelled in the targets' own bytes."""

from collections.abc import Iterable, Iterator

from mover.ndmp import messages as m
from mover.ndmp.enums import MessageCode
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header
from mover.ndmp.table import EXTENSIONS_FROM, VERSIONS, Kind
from tests.fuzz import script as s
from tests.fuzz.choices import DRIVE, PASSWORD, STRINGS, USER
from tests.fuzz.fakes import Mood
from tests.fuzz.script import DATA, RELAY, TAPE, Op, ask, do, speak
from tests.fuzz.targets import CONNECTION
from tests.fuzz.wire import BODY, REQUEST, STREAM, TYPED, bodies_of, rows_of


def seeds(target: str) -> Iterator[bytes]:
    """The first inputs of a target."""
    if target == CONNECTION:
        for version in VERSIONS:
            for steps in _scripts(version):
                yield bytes([s.FIRST[version]]) + b"".join(steps)
            yield bytes([s.FIRST[version] + 192]) + do(Op.LOOK) + do(Op.TIME_PASSES, 5) * 2  # no login
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
            yield asked + bytes([0x20, 1, 9])
            stranger = mark(SIZE) + Header(1, 0, 1, row.code, 77, 0).encode()
            yield asked + bytes([0, len(stranger)]) + stranger
        unknown = mark(SIZE) + Header(1, 0, 0, 0x9999, 0, 0).encode()
        yield bytes([first, 0, 0, len(unknown)]) + unknown
        for kind in range(0x80, 0x100):
            yield bytes([first, 0, kind]) + bytes([2, 1, 5, 2, 1, 1, 1, 3] * 6)


def _wire_seeds(version: int) -> Iterator[bytes]:
    for index, _ in enumerate(bodies_of(version)):
        for fill in (b"", bytes([1]) * 20, bytes([2, 3, 1, 4]) * 12):
            yield bytes([TYPED << 6, index]) + fill
        yield bytes([BODY << 6, index]) + bytes(80)
    for index, row in enumerate(rows_of(version)):
        yield bytes([REQUEST << 6 | 5, index, 7]) + bytes(64)
        body = bytes(40)
        yield bytes([STREAM << 6 | 3]) + mark(SIZE + len(body)) + Header(1, 0, 0, row.code, 0, 0).encode() + body


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
    yield ask(version, m.TapeWriteRequest(STRINGS[-1]))
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
