"""`mover dumpdates`: what it asks the control process, and what it prints."""

import json
from pathlib import Path

from mover.admin.dump_dates import (
    DumpDatesDelete,
    DumpDatesExport,
    DumpDatesImport,
    DumpDatesList,
    DumpDatesReply,
    DumpDateStatus,
)
from mover.admin.messages import Done, Failed, Reply, Request
from tests.admin.control import FakeControl
from tests.cli.conftest import Run

DATES = [
    DumpDateStatus(butype="dump", filesystem="/vol/a", level=0, full=True, date=1_700_000_000, table_bytes=96),
    DumpDateStatus(
        butype="tar", filesystem="/vol/\\xff", level=1, full=False, date=5, dump_date="4294967301", table_bytes=112
    ),
]


def answer(request: Request) -> Reply:
    match request:
        case DumpDatesList():
            return DumpDatesReply(DATES)
        case DumpDatesImport():
            return Failed("failed", "/in: its checksum is wrong")
        case _:
            return Done("done", ["/vol/a"])


def test_the_list(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer):
        table, document = mover("dumpdates", "list"), mover("dumpdates", "list", "--json")
    assert [line.split() for line in table.stdout.splitlines()] == [
        ["type", "filesystem", "level", "full", "date", "dump-date", "table-bytes"],
        ["dump", "/vol/a", "0", "true", "2023-11-14", "22:13:20", "UTC", "-", "96"],
        ["tar", "/vol/\\xff", "1", "false", "1970-01-01", "00:00:05", "UTC", "4294967301", "112"],
    ]
    (first, second) = json.loads(document.stdout)["dump-dates"]
    assert first == {
        "butype": "dump", "filesystem": "/vol/a", "level": 0, "full": True, "date": 1_700_000_000, "dump-date": "",
        "table-bytes": 96,
    }  # fmt: skip
    assert second["dump-date"] == "4294967301"


def test_requests(mover: Run, socket_path: str) -> None:
    with FakeControl(socket_path, answer) as control:
        results = [
            mover("dumpdates", "delete", "/vol/a"),
            mover("dumpdates", "delete", "/vol/a", "--type", "tar", "--level", "31", "--dump-date", "7"),
            mover("dumpdates", "export", "out"),
        ]
        as_json = mover("dumpdates", "export", "/out", "--json")
        refused = mover("dumpdates", "import", "/in")
        wrong = mover("dumpdates", "delete", "/vol/a", "--level", "32")
    assert {(result.exit_code, result.stdout) for result in results} == {(0, "done\n")}
    assert json.loads(as_json.stdout) == {"text": "done", "names": ["/vol/a"]}
    assert (refused.exit_code, refused.stderr) == (1, "mover: /in: its checksum is wrong\n")
    assert wrong.exit_code == 2
    assert control.requests == [
        DumpDatesDelete("/vol/a"),
        DumpDatesDelete("/vol/a", "tar", 31, "7"),
        DumpDatesExport(str(Path.cwd() / "out")),
        DumpDatesExport("/out"),
        DumpDatesImport("/in"),
    ]
