"""The codec of the admin socket and the fixed order of the status fields."""

import re

import pytest

from mover.admin import messages
from mover.admin.accounts import (
    GeneratePassword,
    PasswordReply,
    RoleCreate,
    RoleDelete,
    RoleShow,
    RoleShowReply,
    RoleStatus,
    UserCreate,
    UserDelete,
    UserModify,
    UserShow,
    UserShowReply,
    UserStatus,
)
from mover.admin.clusters import (
    LifStatus,
    NodeShow,
    NodeShowReply,
    NodeStatus,
    VolumeMove,
    VolumeShow,
    VolumeShowReply,
    VolumeStatus,
)
from mover.admin.dump_dates import (
    DumpDatesDelete,
    DumpDatesExport,
    DumpDatesImport,
    DumpDatesList,
    DumpDatesReply,
    DumpDateStatus,
)
from mover.admin.jobs import Jobs, JobsReply, JobStatus
from mover.admin.messages import REQUEST_BYTES_MAX, Done, Failed, MessageError, Reply, Request, Version, VersionReply
from mover.admin.options import OptionsModify, OptionsReply, OptionsShow, OptionStatus
from mover.admin.sessions import (
    SESSION_FIELDS,
    Kill,
    KillAll,
    LogReply,
    LogStart,
    LogStop,
    SessionStatus,
    Status,
    StatusReply,
    WorkerStatus,
)
from mover.admin.statistics import StatisticsReply, StatisticsShow, Totals
from mover.admin.tapes import (
    CartridgeStatus,
    DriveStatus,
    ElementStatus,
    LibraryInventory,
    LibraryMove,
    LibraryShow,
    LibraryShowReply,
    LibraryStatus,
    TapeCreate,
    TapeLoad,
    TapeShow,
    TapeShowReply,
    TapeUnload,
)

REQUESTS: list[tuple[Request, bytes]] = [
    (Version(), b'{"type":"version","vserver":""}\n'),
    (Version("vs1"), b'{"type":"version","vserver":"vs1"}\n'),
    (
        UserCreate("u", "backup", password="p"),
        (
            b'{"type":"user-create","user":"u","role":"backup","source":"local","vservers":[],"password":"p",'
            b'"authentication-method":"password","volumes":["*"],"devices":["*"]}\n'
        ),
    ),
    (
        UserModify("u", vservers=["v"]),
        (
            b'{"type":"user-modify","user":"u","role":null,"vservers":["v"],"password":null,'
            b'"authentication-method":null,"volumes":null,"devices":null}\n'
        ),
    ),
    (UserDelete("u"), b'{"type":"user-delete","user":"u"}\n'),
    (UserShow(), b'{"type":"user-show","user":null}\n'),
    (RoleCreate("r", "none"), b'{"type":"role-create","role":"r","access":"none"}\n'),
    (RoleDelete("r"), b'{"type":"role-delete","role":"r"}\n'),
    (RoleShow("r"), b'{"type":"role-show","role":"r"}\n'),
    (GeneratePassword("u", "v"), b'{"type":"generate-password","user":"u","vserver":"v"}\n'),
    (Status(), b'{"type":"status","session-id":null}\n'),
    (StatisticsShow(history=True), b'{"type":"statistics-show","history":true}\n'),
    (KillAll("vs1"), b'{"type":"kill-all","vserver":"vs1"}\n'),
    (OptionsShow(None), b'{"type":"options-show","vserver":null}\n'),
    (
        OptionsModify("", {"sessions": "1"}, ["authtype"]),
        b'{"type":"options-modify","vserver":"","changes":{"sessions":"1"},"reset":["authtype"]}\n',
    ),
    (Kill(7), b'{"type":"kill","session-id":7}\n'),
    (DumpDatesList(), b'{"type":"dump-dates-list"}\n'),
    (
        DumpDatesDelete("/vol/a", level=1),
        b'{"type":"dump-dates-delete","filesystem":"/vol/a","butype":null,"level":1,"dump-date":null}\n',
    ),
    (DumpDatesExport("/tmp/a"), b'{"type":"dump-dates-export","path":"/tmp/a"}\n'),
    (DumpDatesImport("/tmp/a"), b'{"type":"dump-dates-import","path":"/tmp/a"}\n'),
    (Jobs(3), b'{"type":"jobs","number":3}\n'),
    (LogStart(7, "all-fh"), b'{"type":"log-start","session-id":7,"filter":"all-fh"}\n'),
    (LogStop(7), b'{"type":"log-stop","session-id":7}\n'),
    (TapeShow(), b'{"type":"tape-show"}\n'),
    (TapeCreate("vtl0", count=3), b'{"type":"tape-create","library":"vtl0","barcode":null,"count":3}\n'),
    (TapeLoad("vtl0/drive0", "A1"), b'{"type":"tape-load","drive":"vtl0/drive0","barcode":"A1"}\n'),
    (LibraryShow(), b'{"type":"library-show","library":null}\n'),
    (LibraryInventory("vtl0"), b'{"type":"library-inventory","library":"vtl0"}\n'),
    (
        LibraryMove("vtl0", "A1", "mail0"),
        b'{"type":"library-move","library":"vtl0","source":"A1","destination":"mail0"}\n',
    ),
    (TapeUnload("vtl0/drive0"), b'{"type":"tape-unload","drive":"vtl0/drive0"}\n'),
    (NodeShow(), b'{"type":"node-show"}\n'),
    (VolumeShow("vs1"), b'{"type":"volume-show","vserver":"vs1"}\n'),
    (
        VolumeMove("home", "n2", "vs1"),
        b'{"type":"volume-move","volume":"home","destination-node":"n2","vserver":"vs1"}\n',
    ),
]
REPLIES: list[Reply] = [
    UserShowReply(
        [
            UserStatus(
                user="u",
                role="backup",
                vservers=[],
                source="local",
                authentication_method="password",
                ndmp_password="valid",
                generated=1,
            )
        ]
    ),
    RoleShowReply([RoleStatus(role="r", access="all", built_in=False)]),
    PasswordReply("v", "u", "p"),
    NodeShowReply(
        [
            NodeStatus(
                node="n1",
                state="up",
                local=True,
                lifs=[LifStatus(name="l", role="data", address="::1", port=1, vserver="v")],
                drives=["d"],
            )
        ],
        "/cluster",
    ),
    VolumeShowReply([VolumeStatus(volume="v", path="/v", node="n1", state="up", shared=True, nodes=["n1"])]),
    VersionReply("0.1.0", "fs1", 12, [2, 3, 4]),
    StatusReply([SessionStatus(session_id=1, workers=[WorkerStatus(pid=2, kind="tape")])]),
    TapeShowReply(
        [DriveStatus(name="vtl0/drive0", state="in-use", session_id=4)],
        [CartridgeStatus(barcode="A1", library="vtl0", path="/a1.tap")],
    ),
    LibraryShowReply(
        [
            LibraryStatus(
                name="vtl0",
                directory="/vtl0",
                changer="vtl0/changer",
                elements=[ElementStatus(element="slot0", address=512, barcode="A1", home="slot0")],
            )
        ]
    ),
    DumpDatesReply([DumpDateStatus(butype="dump", filesystem="/vol/a", level=1, full=False, date=5)]),
    JobsReply([JobStatus(number=3, session_id=7, operation="backup", backup_type="dump", path="/srv", started=5.0)]),
    OptionsReply([OptionStatus(option="sessions", value="1", origin="modified")]),
    LogReply(7, "/s/log.jsonl", "all", 12, 0, 4096, writing=True),
    StatisticsReply(
        node="n1",
        version="0.1.0",
        time=1.5,
        uptime_seconds=2.0,
        interval_seconds=1.0,
        cost_seconds=0.1,
        totals=Totals(),
    ),
    Done("loaded A1", ["A1"]),
    Failed("busy", "vtl0/drive0 is in use"),
]

CONTRACT = """vserver, session-id, ndmp-version, session-authorized, data-state,
data-operation, data-halt-reason, data-con-addr-type, data-con-addr, data-con-port, data-bytes-processed, mover-state,
mover-mode, mover-pause-reason, mover-halt-reason, mover-record-size, mover-record-num, mover-bytes-moved,
mover-seek-position, mover-bytes-left-to-read, mover-window-offset, mover-window-length, mover-position,
mover-setrecordsize-flag, mover-setwindow-flag, mover-con-addr-type, mover-con-addr, mover-con-port, eff-host,
client-addr, client-port, spt-device-id, spt-ha, spt-scsi-id, spt-scsi-lun, tape-device, tape-modes, node,
is-secure-control-connection, data-backup-mode, data-path, source-addr, elapsed-seconds,
bottleneck, ring-fill-percent, data-phase, data-entries, snapshot, is-data-connection-encrypted, workers"""


def test_the_status_fields_are_the_contract_s_in_its_order() -> None:
    assert list(SESSION_FIELDS) == re.split(r",\s+", CONTRACT)


@pytest.mark.parametrize(("request_", "line"), REQUESTS)
def test_a_request_is_one_line_and_comes_back(request_: Request, line: bytes) -> None:
    assert messages.encode_request(request_) == line
    assert messages.decode_request(line) == request_


def test_every_request_and_reply_is_covered() -> None:
    assert {type(request) for request, _ in REQUESTS} == set(Request.__args__)
    assert {type(reply) for reply in REPLIES} == set(Reply.__args__)


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_is_one_line_and_comes_back(reply: Reply) -> None:
    line = messages.encode_reply(reply)
    assert line.count(b"\n") == 1
    assert messages.decode_reply(line) == reply


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{}\n", b"[]", b"\xff", b'{"type":"reboot"}', b'{"type":"kill"}', b'{"type":"status","id":1}'],
)
def test_what_is_no_request(line: bytes) -> None:
    with pytest.raises(MessageError, match="not a message of the admin socket: "):
        messages.decode_request(line)


def test_a_request_is_bounded() -> None:
    with pytest.raises(MessageError, match="is longer than 65536"):
        messages.decode_request(b" " * (REQUEST_BYTES_MAX + 1))
    with pytest.raises(MessageError, match="is longer than 65536"):
        messages.encode_request(TapeLoad("x" * REQUEST_BYTES_MAX))
