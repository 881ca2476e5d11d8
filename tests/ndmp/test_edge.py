"""Versions meet: every body of every version comes back; what a version cannot say is mapped; hex vectors."""

import msgspec
import pytest
from hypothesis import given, settings

from mover.ndmp import edge, xdr
from mover.ndmp import messages as m
from mover.ndmp.enums import (
    U32_MAX,
    U64_MAX,
    ButypeAttribute,
    ButypeAttributeV2,
    DataHaltReason,
    DataPauseReason,
    DataState,
    ErrorCode,
    FileType,
    FsType,
    LogLevel,
    LogType,
    MessageCode,
    MoverHaltReason,
    MoverPauseReason,
    RecoveryStatus,
    TapeAttribute,
    TapeMode,
    TapeOperation,
    TapeUnsupported,
)
from mover.ndmp.errors import NotInVersionError, XdrEncodeError
from mover.ndmp.messages import Body
from tests.ndmp.strategies import bodies, extension_bodies, structs

VERSIONS = [1, 2, 3, 4]
ALL = [(version, code, is_reply, body) for version in VERSIONS for code, is_reply, body in bodies(version)]
ALL += extension_bodies()


@pytest.mark.parametrize(
    ("version", "code", "is_reply", "internal"),
    ALL,
    ids=[f"v{version}-{code:#x}-{body.__name__}" for version, code, _, body in ALL],
)
def test_what_comes_off_the_wire_goes_back_and_comes_again(
    version: int, code: int, is_reply: bool, internal: type[Body]
) -> None:
    conversion = edge.CONVERSIONS.get((version, code, internal))
    wire_type = internal if conversion is None else conversion.wire

    @settings(max_examples=12, deadline=None)
    @given(wire=structs(wire_type))
    def check(wire: Body) -> None:
        record = b"head" + xdr.encode(wire)
        decode = edge.decode_reply if is_reply else edge.decode_request
        body = decode(version, code, record, 4)
        assert type(body) is internal
        if isinstance(body, m.FhAddFilePost | m.FhAddDirPost | m.FhAddNodePost) and version > 2:
            assert edge.encode_body(version, body) == (code, record[4:])
        again = edge.encode_reply(version, code, body) if is_reply else edge.encode_body(version, body)[1]
        assert decode(version, code, again) == body or _mapped(version, body)

    check()


def _mapped(version: int, body: Body) -> bool:
    """Whether a body may come back changed: it says what its version cannot say."""
    if getattr(body, "error", 0) > ErrorCode.NO_MEM_ERR:
        return True
    return isinstance(
        body,
        m.ConfigGetHostInfoReply
        | m.TapeReadReply | m.TapeGetStateReply | m.MoverGetStateReply | m.NotifyMoverHaltedPost
        | m.NotifyMoverPausedPost | m.LogMessagePost | m.ConfigGetTapeInfoReply,
    )  # fmt: skip


ADDRESS = m.tcp_address(0x7F000001, 4660)
V2_MOVER = "00000001 7f000001 00001234"
V4_ADDRESS = "00000001 00000001 7f000001 00001234 00000000"
ENV = (m.Pval(b"HIST", b"y"),)
ENV_WIRE = "00000001 00000004 48495354 00000001 79000000"
NAMES = (m.RecoverName(b"/a", b"/b", fh_info=5),)
ONES = "ffffffff ffffffff"

# version, body, wire
VECTORS: list[tuple[int, Body, str]] = [
    (1, m.DataStartBackupRequest(b"dump", ENV), f"00000004 64756d70 {ENV_WIRE}"),
    (
        1,
        m.DataStartRecoverRequest((), NAMES, b"tar"),
        "00000000 00000001 00000002 2f610000 00000002 2f620000 00000000 00000000 00000005 00000003 74617200",
    ),
    (1, m.TapeSetRecordSizeRequest(1024), "00000400"),
    (1, m.ConnectClientAuthRequest(m.AuthText(b"u", b"p")), "00000001 00000001 75000000 00000001 70000000"),
    (1, m.NotifyPausedPost(DataPauseReason.EOF), "00000002 00000000 00000000"),
    (1, m.NotifyDataHaltedPost(DataHaltReason.SUCCESSFUL, b"ok"), "00000001 00000002 6f6b0000"),
    (1, m.NotifyDataHaltedPost(DataHaltReason.MEDIA_ERROR), "00000003 00000000"),
    (1, m.NotifyDataHaltedPost(DataHaltReason.INTERNAL_ERROR), "00000004 00000000"),
    (1, m.NotifyDataHaltedPost(DataHaltReason.NO_SPLIT), "00000005 00000000"),
    (1, m.LogMessagePost(LogType.ERROR, 7, b"bad"), "00000004 6261640a"),
    (1, m.LogMessagePost(LogType.DEBUG, 7, b"bad", level=LogLevel.PROG_DETAIL), "00000008 00000004 6261640a"),
    (1, m.FhAddDirPost((m.Dir((m.UnixName(b"d"),), 5, 2),)), "00000001 00000001 64000000 00000005 00000002"),
    (2, m.LogMessagePost(LogType.DEBUG, 7, b"bad", level=LogLevel.DIAG_INFO), "00000003 00000004 6261640a"),
    (2, m.DataStartBackupRequest(b"dump", ENV, ADDRESS), f"{V2_MOVER} 00000004 64756d70 {ENV_WIRE}"),
    (3, m.DataStartBackupRequest(b"dump", ENV), f"00000004 64756d70 {ENV_WIRE}"),
    (4, m.DataStartBackupRequest(b"dump", ENV), f"00000004 64756d70 {ENV_WIRE}"),
    (
        2,
        m.DataStartRecoverRequest((), NAMES, b"tar", m.LOCAL),
        "00000000 00000000 00000001 00000002 2f610000 00000002 2f620000 00000000 00000000 00000005 00000003 74617200",
    ),
    *(
        (
            version,
            m.DataStartRecoverRequest((), NAMES, b"tar"),
            ("00000000 00000001 00000002 2f610000 00000002 2f620000 00000000 00000000 "
            f"{ONES} 00000000 00000005 00000003 74617200"),
        )
        for version in (3, 4)
    ),
    (3, m.DataConnectRequest(ADDRESS), V2_MOVER),
    (4, m.DataConnectRequest(ADDRESS), V4_ADDRESS),
    (3, m.DataConnectRequest(m.FcAddress(9)), "00000002 00000009"),
    (3, m.MoverConnectRequest(1, ADDRESS), "00000001" + V2_MOVER),
    (4, m.MoverConnectRequest(0, m.LOCAL), "00000000 00000000"),
    (4, m.MoverSetWindowRequest(0, U64_MAX), f"00000000 00000000 {ONES}"),
    (2, m.NotifyDataHaltedPost(DataHaltReason.SUCCESSFUL, b"ok"), "00000001 00000002 6f6b0000"),
    (4, m.NotifyDataHaltedPost(DataHaltReason.SUCCESSFUL), "00000001"),
    (3, m.NotifyMoverHaltedPost(MoverHaltReason.MEDIA_ERROR, b""), "00000003 00000000"),
    (4, m.NotifyMoverHaltedPost(MoverHaltReason.MEDIA_ERROR), "00000005"),
    (2, m.NotifyMoverPausedPost(MoverPauseReason.EOW, 1), "00000002 00000000 00000001"),
    (3, m.NotifyMoverPausedPost(MoverPauseReason.EOW, 1), "00000005 00000000 00000001"),
    (2, m.NotifyMoverPausedPost(MoverPauseReason.SEEK, 1), "00000003 00000000 00000001"),
    (2, m.LogMessagePost(LogType.ERROR, 7, b"bad"), "00000004 6261640a"),
    (2, m.LogMessagePost(LogType.DEBUG, 7, b"bad"), "00000000 00000004 6261640a"),
    (3, m.LogMessagePost(LogType.ERROR, 7, b"bad"), "00000002 00000007 00000004 6261640a"),
    (4, m.LogMessagePost(LogType.ERROR, 7, b"bad", 1, 8), "00000002 00000007 00000003 62616400 00000001 00000008"),
    (2, m.LogFilePost(b"/a", RecoveryStatus.FAILED_NOT_FOUND), "00000002 2f610000 00000000 0000000e"),
    (3, m.LogFilePost(b"/a", RecoveryStatus.FAILED_FILE_PATH_EXISTS), "00000002 2f610000 00000014"),
    (4, m.LogFilePost(b"/a", RecoveryStatus.FAILED_FILE_PATH_EXISTS), "00000002 2f610000 00000007"),
    (
        2,
        m.FhAddDirPost((m.Dir((m.NtName(b"N", b"D"), m.UnixName(b"d")), 5, 2),)),
        "00000001 00000001 64000000 00000005 00000002",
    ),
    (
        4,
        m.FhAddDirPost((m.Dir((m.UnixName(b"d"),), 5, 2),)),
        "00000001 00000001 00000000 00000001 64000000 00000000 00000005 00000000 00000002",
    ),
    (
        2,
        m.FhAddNodePost((m.Node((m.FileStat(0, FsType.UNIX, FileType.REG, 1, 2, 3, 4, 5, 0o644, 6, 7),), 8, 9),)),
        ("00000001 00000004 00000001 00000002 00000003 00000004 00000005 000001a4 00000000 00000006 "
        "00000000 00000009 00000008"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("version", "body", "wire"), VECTORS, ids=lambda value: type(value).__name__)
def test_vectors(version: int, body: Body, wire: str) -> None:
    assert edge.encode_body(version, body)[1] == bytes.fromhex(wire)


REPLY_VECTORS: list[tuple[int, Body, str]] = [
    (1, m.ConfigGetHostInfoReply(0, b"h", b"", b"", b"", (0, 1, 2)),
     "00000000 00000001 68000000 00000000 00000000 00000000 00000002 00000000 00000001"),
    (1, m.TapeGetStateReply(0, 0, 0x10, 1, 2, 3, 4, 0, 5, record_num=6, record_size=7),
     ("00000000 00000010 00000001 00000006 00000007 00000002 00000003 00000004 0000000000000000"
     "0000000000000005")),
    (1, m.DataGetStateReply(3, 0, 1, DataState.PAUSED, 0, 5, 6, 7, m.LOCAL, 8, 9, pause_reason=DataPauseReason.EOM),
     ("00000000 00000001 00000002 00000000 00000001 0000000000000000 0000000000000005 0000000000000006 00000007"
     "0000000000000000 0000000000000000")),
    (1, m.DataGetStateReply(3, 0, 2, DataState.HALTED, DataHaltReason.INTERNAL_ERROR),
     "00000000 00000002 00000003 00000004 00000000" + "0000000000000000" * 3 + "00000000" + "0000000000000000" * 2),
    (2, m.ConfigGetHostInfoReply(0, b"h", b"", b"", b"", (1, 2)),
     "00000000 00000001 68000000 00000000 00000000 00000000 00000002 00000001 00000002"),
    (3, m.ConfigGetHostInfoReply(0, b"h", b"", b"", b"", (1, 2)),
     "00000000 00000001 68000000 00000000 00000000 00000000"),
    (2, m.MoverListenReply(0, ADDRESS), "00000000" + V2_MOVER),
    (3, m.MoverListenReply(0, ADDRESS), "00000000" + V2_MOVER),
    (4, m.MoverListenReply(0, ADDRESS), "00000000" + V4_ADDRESS),
    (4, m.DataGetStateReply(3, 0, 1, 1, 0, 5, 0, 0, m.LOCAL, 0, 0),
     ("00000003 00000000 00000001 00000001 00000000 0000000000000005 0000000000000000 00000000 00000000"
     "0000000000000000 0000000000000000")),
    (2, m.DataGetStateReply(3, 0, 1, 1, 0, 5, 0, 0, ADDRESS, 0, 0),
     (f"00000000 00000001 00000001 00000000 0000000000000005 0000000000000000 00000000 {V2_MOVER}"
     "0000000000000000 0000000000000000")),
    (3, m.DataGetStateReply(3, 0, 1, 1, 0, 5, 0, 0, ADDRESS, 0, 0),
     (f"00000003 00000000 00000001 00000001 00000000 0000000000000005 0000000000000000 00000000 {V2_MOVER}"
     "0000000000000000 0000000000000000")),
]  # fmt: skip


@pytest.mark.parametrize(("version", "body", "wire"), REPLY_VECTORS, ids=lambda value: type(value).__name__)
def test_reply_vectors(version: int, body: Body, wire: str) -> None:
    code = edge.message_code(version, body)
    assert edge.encode_reply(version, code, body) == bytes.fromhex(wire)


@pytest.mark.parametrize(("version", "size"), [(1, 48), (2, 40), (3, 48), (4, 44)])
def test_size_of_tape_state(version: int, size: int) -> None:
    assert len(edge.encode_reply(version, MessageCode.TAPE_GET_STATE, m.TapeGetStateReply())) == size


@pytest.mark.parametrize(
    ("version", "error", "sent"),
    [
        (1, 22, 22), (1, 23, 20), (1, 24, 20), (1, 25, 19), (1, 26, 19), (1, 27, 20), (1, 30, 20),
        (2, 22, 22), (2, 23, 20), (2, 24, 20), (2, 25, 19), (2, 26, 19), (2, 27, 20), (2, 30, 20),
        (3, 22, 22), (3, 23, 23), (3, 24, 20), (3, 25, 19), (3, 26, 19), (3, 27, 20), (3, 30, 20),
        (4, 22, 22), (4, 23, 23), (4, 24, 24), (4, 25, 25), (4, 26, 26), (4, 27, 27), (4, 30, 30),
        (2, 0x20520001, 0x20520001),
    ],
)  # fmt: skip
def test_errors_that_a_version_lacks(version: int, error: int, sent: int) -> None:
    assert edge.map_error(version, error) == sent
    reply = edge.encode_reply(version, MessageCode.DATA_STOP, m.DataStopReply(error))
    assert edge.decode_reply(version, MessageCode.DATA_STOP, reply) == m.DataStopReply(sent)


@pytest.mark.parametrize(
    ("version", "error"),
    [(1, ErrorCode.EOF_ERR), (2, ErrorCode.EOF_ERR), (3, ErrorCode.EOF_ERR), (4, ErrorCode.EOM_ERR)],
)
def test_blank_tape_is_told_in_the_words_of_the_version(version: int, error: ErrorCode) -> None:
    wire = edge.encode_reply(version, MessageCode.TAPE_READ, m.TapeReadReply(ErrorCode.EOM_ERR))
    assert edge.decode_reply(version, MessageCode.TAPE_READ, wire) == m.TapeReadReply(error)


@pytest.mark.parametrize(
    ("version", "mode", "seen"),
    [
        (1, 0, TapeMode.READ), (1, 1, TapeMode.RDWR), (1, 2, -1),
        (2, 0, TapeMode.READ), (2, 1, TapeMode.RDWR), (2, 2, -1), (2, 123, -1),
        (3, 1, TapeMode.RDWR), (3, 2, TapeMode.RAW), (3, 0x7FFFFFFF, TapeMode.RAW), (3, 123, 123),
        (4, 2, TapeMode.RAW), (4, 0x7FFFFFFF, 0x7FFFFFFF), (4, 123, 123),
    ],
)  # fmt: skip
def test_tape_modes(version: int, mode: int, seen: int) -> None:
    wire = xdr.encode(m.TapeOpenRequest(b"d", mode))
    assert edge.decode_request(version, MessageCode.TAPE_OPEN, wire) == m.TapeOpenRequest(b"d", seen)


@pytest.mark.parametrize(("version", "seen"), [(1, -1), (2, -1), (3, -1), (4, TapeOperation.TUR)])
def test_test_unit_ready_is_an_operation_of_version_4(version: int, seen: int) -> None:
    wire = xdr.encode(m.TapeMtioRequest(TapeOperation.TUR, 1))
    assert edge.decode_request(version, MessageCode.TAPE_MTIO, wire) == m.TapeMtioRequest(seen, 1)


def test_masked_fields_of_tape_state() -> None:
    mask = (
        TapeUnsupported.TOTAL_SPACE | TapeUnsupported.BLOCKNO | TapeUnsupported.SOFT_ERRORS | TapeUnsupported.PARTITION
    )
    state = m.TapeGetStateReply(mask, 0, 0, 1, 2, 3, 4, 5, 6, 7)
    fourth = edge.decode_reply(4, MessageCode.TAPE_GET_STATE, edge.encode_reply(4, MessageCode.TAPE_GET_STATE, state))
    assert fourth == m.TapeGetStateReply(mask & ~TapeUnsupported.PARTITION, 0, 0, 1, U32_MAX, 3, U32_MAX, U64_MAX, 6)
    third = edge.decode_reply(3, MessageCode.TAPE_GET_STATE, edge.encode_reply(3, MessageCode.TAPE_GET_STATE, state))
    assert third == state
    second = edge.decode_reply(2, MessageCode.TAPE_GET_STATE, edge.encode_reply(2, MessageCode.TAPE_GET_STATE, state))
    assert second == m.TapeGetStateReply(0, 0, 0, 1, 0, 3, U32_MAX, 0, 6)


def test_version_2_says_what_a_backup_type_cannot_do() -> None:
    def sent(attrs: int) -> int:
        wire = edge.encode_reply(2, MessageCode.CONFIG_GET_BUTYPE_ATTR, m.ConfigGetButypeAttrReply(0, attrs))
        return xdr.decode(m.ConfigGetButypeAttrReply, wire).attrs

    every = ButypeAttributeV2(0x2F)
    assert sent(0) == every
    assert sent(ButypeAttribute.BACKUP_FILELIST) == every & ~ButypeAttributeV2.NO_BACKUP_FILELIST
    for history in (ButypeAttribute.BACKUP_FH_DIR, ButypeAttribute.BACKUP_FH_FILE):
        assert sent(history) == every & ~ButypeAttributeV2.NO_BACKUP_FHINFO
    assert sent(ButypeAttribute.RECOVER_FILELIST) == every & ~ButypeAttributeV2.NO_RECOVER_FILELIST
    assert sent(ButypeAttribute.RECOVER_DIRECT) == every & ~ButypeAttributeV2.NO_RECOVER_FHINFO
    assert sent(ButypeAttribute.RECOVER_INCREMENTAL) == every & ~ButypeAttributeV2.NO_RECOVER_INC_ONLY
    assert sent(0x3FFF) == 0


@pytest.mark.parametrize(("attrs", "sent"), [(0x3FFF, 0x1FF), (0x0200, 1), (0x0400, 1), (0x3800, 0), (0x01FE, 0x1FE)])
def test_version_3_has_one_bit_for_history(attrs: int, sent: int) -> None:
    reply = m.ConfigGetButypeInfoReply(0, (m.ButypeInfo(b"dump", ENV, attrs),))
    wire = edge.encode_reply(3, MessageCode.CONFIG_GET_BUTYPE_INFO, reply)
    assert xdr.decode(m.ConfigGetButypeInfoReply, wire).butype_info[0].attrs == sent


def test_version_3_has_no_raw_tapes() -> None:
    drive = m.DeviceInfo(b"V", (m.DeviceCapability(b"t", TapeAttribute.RAW | TapeAttribute.REWIND, ENV),))
    wire = edge.encode_reply(3, MessageCode.CONFIG_GET_TAPE_INFO, m.ConfigGetTapeInfoReply(0, (drive,)))
    (seen,) = xdr.decode(m.ConfigGetTapeInfoReply, wire).tape_info
    assert seen == m.DeviceInfo(b"V", (m.DeviceCapability(b"t", TapeAttribute.REWIND, ENV),))


def test_reasons_of_the_mover_state() -> None:
    paused = m.MoverGetStateReply(pause_reason=MoverPauseReason.EOW, data_connection_addr=ADDRESS)
    halted = m.MoverGetStateReply(halt_reason=MoverHaltReason.MEDIA_ERROR)

    def seen(version: int, state: m.MoverGetStateReply) -> tuple[int, int]:
        wire = edge.encode_reply(version, MessageCode.MOVER_GET_STATE, state)
        reply = edge.decode_reply(version, MessageCode.MOVER_GET_STATE, wire)
        assert isinstance(reply, m.MoverGetStateReply)
        return reply.pause_reason, reply.halt_reason

    assert [seen(version, paused)[0] for version in VERSIONS[1:]] == [
        MoverPauseReason.EOF, MoverPauseReason.EOW, MoverPauseReason.EOW,
    ]  # fmt: skip
    assert [seen(version, halted)[1] for version in VERSIONS[1:]] == [
        MoverHaltReason.INTERNAL_ERROR, MoverHaltReason.INTERNAL_ERROR, MoverHaltReason.MEDIA_ERROR,
    ]  # fmt: skip


@pytest.mark.parametrize("status", list(RecoveryStatus))
def test_recovery_status_survives_version_3_as_far_as_it_can(status: RecoveryStatus) -> None:
    wire = edge.encode_body(3, m.LogFilePost(b"n", status))[1]
    back = edge.decode_request(3, MessageCode.LOG_FILE, wire)
    expected = {
        RecoveryStatus.FAILED_NO_DIRECTORY: RecoveryStatus.FAILED_NOT_FOUND,
        RecoveryStatus.FAILED_FILE_PATH_EXISTS: RecoveryStatus.FAILED_UNDEFINED_ERROR,
    }.get(status, status)
    assert back == m.LogFilePost(b"n", expected)


def test_only_the_first_endpoint_goes_out_before_version_4() -> None:
    two = m.TcpAddress((m.TcpEndpoint(1, 2, ENV), m.TcpEndpoint(3, 4)))
    wire = edge.encode_body(3, m.DataConnectRequest(two))[1]
    assert edge.decode_request(3, MessageCode.DATA_CONNECT, wire) == m.DataConnectRequest(m.tcp_address(1, 2))
    wire = edge.encode_body(4, m.DataConnectRequest(two))[1]
    assert edge.decode_request(4, MessageCode.DATA_CONNECT, wire) == m.DataConnectRequest(two)
    with pytest.raises(XdrEncodeError):
        edge.encode_body(3, m.DataConnectRequest(m.TcpAddress(())))


def test_an_unknown_address_type_reaches_the_handler() -> None:
    wire = (123).to_bytes(4, "big")
    for version in (3, 4):
        body = edge.decode_request(version, MessageCode.DATA_CONNECT, wire)
        assert body == m.DataConnectRequest(m.UnknownArm(123))


def test_version_2_history_needs_unix_names_and_attributes() -> None:
    for post in (
        m.FhAddDirPost((m.Dir((m.OtherName(b"x"),), 1, 2),)),
        m.FhAddNodePost((m.Node((), 1, 2),)),
    ):
        with pytest.raises(XdrEncodeError):
            edge.encode_body(2, post)


def test_a_reply_of_another_message_is_our_own_mistake() -> None:
    with pytest.raises(NotInVersionError, match="TapeOpenReply does not answer TAPE_CLOSE"):
        edge.encode_reply(4, MessageCode.TAPE_CLOSE, m.TapeOpenReply())
    with pytest.raises(NotInVersionError, match="CONNECT_CLOSE has no reply"):
        edge.decode_reply(4, MessageCode.CONNECT_CLOSE, b"")


def test_wire_types_of_versions_are_no_internal_types() -> None:
    for (version, _, internal), conversion in edge.CONVERSIONS.items():
        assert conversion.internal is internal, (version, internal)
        wire_fields = set(conversion.wire.__struct_fields__)
        renamed = {conversion.rename.get(name, name) for name in internal.__struct_fields__}
        assert wire_fields <= renamed | set(conversion.fill_out)
        assert isinstance(msgspec.structs.fields(conversion.wire), tuple)


def test_version_1_knows_no_state_of_later_versions() -> None:
    wire = bytes(8) + (4).to_bytes(4, "big") + bytes(52)
    reply = edge.decode_reply(1, MessageCode.DATA_GET_STATE, wire)
    assert isinstance(reply, m.DataGetStateReply)
    assert reply.state == -1


def test_a_reply_of_version_1_may_carry_data_beside_its_error() -> None:
    body = m.TapeReadReply(ErrorCode.EOF_ERR, b"part")
    wire = edge.encode_reply(1, MessageCode.TAPE_READ, body)
    assert wire == bytes.fromhex("0000000c 00000004") + b"part"
