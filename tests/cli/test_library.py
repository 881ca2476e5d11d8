"""library show, inventory and move against a fake control process."""

import json

from mover.admin.messages import Done, Failed, Reply, Request
from mover.admin.tapes import ElementStatus, LibraryInventory, LibraryMove, LibraryShow, LibraryShowReply, LibraryStatus
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

ELEMENTS = [
    ElementStatus(element="drive0", address=1, barcode="A1", home="slot3", ejected=True, full=True),
    ElementStatus(element="mail0", address=257),
    ElementStatus(element="slot0", address=512, barcode="B2", home="slot0", full=True),
    ElementStatus(element="slot1", address=513),
]


REAL = LibraryStatus(
    name="mc0",
    directory="/dev/sg3",
    changer="mc0",
    model="TESTLIB VTL",
    elements=[
        ElementStatus(element="drive0", address=256, full=True, drive="nst0"),
        ElementStatus(element="drive1", address=257, exception="83h/02h"),
        ElementStatus(element="slot0", address=4096),
    ],
)
HUNG = LibraryStatus(name="mc1", directory="/dev/sg4", changer="mc1", elements=[], error="no answer", hung_since=0.0)


def answer(request: Request) -> Reply:
    match request:
        case LibraryShow(library="none"):
            return LibraryShowReply([])
        case LibraryShow(library="mc0"):
            return LibraryShowReply([REAL, HUNG])
        case LibraryShow():
            status = LibraryStatus(name="vtl0", directory="/vtl0", changer="vtl0/changer", elements=ELEMENTS)
            other = LibraryStatus(name="vtl1", directory="/vtl1", changer="vtl1/changer", session_id=7, elements=[])
            return LibraryShowReply([status, other])
        case LibraryMove(source="slot9"):
            return Failed("not-found", "vtl0 has no slot9")
        case _:
            return Done("done", ["A1"])


def test_show_real_changers(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        plain = mover("library", "show", "mc0")
        as_json = mover("library", "show", "mc0", "--json")
    assert (plain.exit_code, as_json.exit_code) == (1, 1)  # mc1 has not told
    assert [each["name"] for each in json.loads(as_json.stdout)["libraries"]] == ["mc0", "mc1"]
    *lines, first, second = [line.split() for line in plain.stdout.splitlines()]
    assert lines == [
        ["mc0", "(TESTLIB", "VTL):", "/dev/sg3"],
        ["element", "address", "barcode", "home", "imported", "ejected", "drive", "exception"],
        ["drive0", "256", "?", "-", "false", "false", "nst0", "-"],
        ["drive1", "257", "-", "-", "false", "false", "-", "83h/02h"],
        ["1", "slots,", "1", "of", "them", "free"],
        [],
    ]
    assert (first[:3], first[-1]) == (["mc1,", "hung", "since"], "/dev/sg4")
    assert second == ["not", "shown:", "no", "answer"]


def test_show(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer) as control:
        plain = mover("library", "show")
        as_json = mover("library", "show", "vtl0", "--json")
        none = mover("library", "show", "none")
    assert [line.split() for line in plain.stdout.splitlines()] == [
        ["vtl0/changer:", "/vtl0"],
        ["element", "address", "barcode", "home", "imported", "ejected"],
        ["drive0", "1", "A1", "slot3", "false", "true"],
        ["mail0", "257", "-", "-", "false", "false"],
        ["slot0", "512", "B2", "slot0", "false", "false"],
        ["2", "slots,", "1", "of", "them", "free"],
        [],
        ["vtl1/changer,", "open", "in", "session", "7:", "/vtl1"],
        ["element", "address", "barcode", "home", "imported", "ejected"],
        ["0", "slots,", "0", "of", "them", "free"],
    ]
    first, second = json.loads(as_json.stdout)["libraries"]
    assert [each["address"] for each in first["elements"]] == [1, 257, 512, 513]
    assert (first["session-id"], second["session-id"]) == (None, 7)
    assert none.stdout == "no libraries\n"
    assert control.requests == [LibraryShow(), LibraryShow("vtl0"), LibraryShow("none")]


def test_requests(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer) as control:
        results = [mover("library", "inventory", "vtl0"), mover("library", "move", "vtl0", "A1", "drive0")]
        as_json = mover("library", "move", "vtl0", "slot0", "mail0", "--json")
        refused = mover("library", "move", "vtl0", "slot9", "drive0")
    assert {(result.exit_code, result.stdout) for result in results} == {(0, "done\n")}
    assert json.loads(as_json.stdout) == {"text": "done", "barcodes": ["A1"]}
    assert (refused.exit_code, refused.stderr) == (1, "mover: vtl0 has no slot9\n")
    assert control.requests == [
        LibraryInventory("vtl0"),
        LibraryMove("vtl0", "A1", "drive0"),
        LibraryMove("vtl0", "slot0", "mail0"),
        LibraryMove("vtl0", "slot9", "drive0"),
    ]
