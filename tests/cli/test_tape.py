"""tape show, create, load and unload against a fake control process."""

import json

from mover.admin.messages import Done, Failed, Reply, Request
from mover.admin.tapes import CartridgeStatus, DriveStatus, TapeCreate, TapeLoad, TapeShow, TapeShowReply, TapeUnload
from tests.admin.control import FakeControl
from tests.cli.conftest import Run


def answer(request: Request) -> Reply:
    match request:
        case TapeShow():
            return TapeShowReply(
                [DriveStatus(name="vtl0/drive0", library="vtl0", state="in-use", session_id=3, barcode="A1")],
                [CartridgeStatus(barcode="A1", library="vtl0", path="/vtl0/A1.tap", drive="vtl0/drive0")],
            )
        case TapeLoad(drive="vtl0/drive9"):
            return Failed("not-found", "no drive vtl0/drive9")
        case _:
            return Done("done", ["A1"])


def test_show(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        plain = mover("tape", "show")
        as_json = mover("tape", "show", "--json")
    assert [line.split() for line in plain.stdout.splitlines()] == [
        ["drive", "library", "state", "session-id", "barcode", "path", "write-protected", "unflushed"],
        ["vtl0/drive0", "vtl0", "in-use", "3", "A1", "-", "false", "false"],
        [],
        ["barcode", "library", "path", "drive", "used-bytes", "capacity-bytes", "write-protected", "unflushed"],
        ["A1", "vtl0", "/vtl0/A1.tap", "vtl0/drive0", "0", "0", "false", "false"],
    ]
    document = json.loads(as_json.stdout)
    assert document["drives"][0]["state"] == "in-use"
    assert document["cartridges"][0]["path"] == "/vtl0/A1.tap"


def test_requests(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer) as control:
        results = [
            mover("tape", "create", "vtl0"),
            mover("tape", "create", "vtl0", "--barcode", "A1"),
            mover("tape", "create", "vtl0", "--count", "3"),
            mover("tape", "load", "vtl0/drive0"),
            mover("tape", "load", "vtl0/drive0", "--barcode", "A1"),
            mover("tape", "unload", "vtl0/drive0"),
        ]
    assert {(result.exit_code, result.stdout) for result in results} == {(0, "done\n")}
    assert control.requests == [
        TapeCreate("vtl0"),
        TapeCreate("vtl0", "A1"),
        TapeCreate("vtl0", count=3),
        TapeLoad("vtl0/drive0"),
        TapeLoad("vtl0/drive0", "A1"),
        TapeUnload("vtl0/drive0"),
    ]


def test_json_refusal_and_usage(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        as_json = mover("tape", "load", "vtl0/drive0", "--json")
        refused = mover("tape", "load", "vtl0/drive9")
        both = mover("tape", "create", "vtl0", "--barcode", "A1", "--count", "2")
    assert json.loads(as_json.stdout) == {"text": "done", "barcodes": ["A1"]}
    assert (refused.exit_code, refused.stderr) == (1, "mover: no drive vtl0/drive9\n")
    assert both.exit_code == 2
