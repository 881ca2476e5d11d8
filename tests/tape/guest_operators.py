"""Operators' tools beside a server on the real st, sg and ch drivers; run by pytest inside the guest.

See tests/tape/test_st_guest.py, which starts it and the server. What mt, mtx, sg_inq and GNU tar say, or have done, is
held against what `mover` says, field by field, and the other way round.

The library is tgtd's behind the kernel's initiator: two drives, of which the server has the first, and 8 MiB
cartridges. TAPE, SG and CHANGER in the environment name the devices, JOB the directory of the server, SHIM a library
for ndmjob that keeps it from its own fault (tests/e2e/test_ndmjob_conformance.py).
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple  # Any: JSON documents

import pytest

from mover.tape.codes import TapeMode
from mover.tape.drive import Position
from mover.tape.st_drive import StDrive
from mover.workers.device_messages import DeviceSpec

TAPE, SG, CHANGER, SHIM = (os.environ.get(name, "") for name in ("TAPE", "SG", "CHANGER", "SHIM"))
JOB = Path(os.environ.get("JOB", "/nonexistent"))
COMMAND_S = 600
SESSION = ["--host", "127.0.0.1", "--drive", "nst0", "--user", "ndmp", "--password-file", str(JOB / "password")]
CATALOGUE = ["--catalogue", str(JOB / "catalogue")]


def run(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, check=False)
    assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
    return ran.stdout


def mover(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run("mover", *arguments, "--json"))
    return document


def asked(*arguments: str) -> dict[str, Any]:
    """Of the server's own socket."""
    return mover(*arguments, "--admin-socket", str(JOB / "admin.sock"))


# --- the changer ------------------------------------------------------------------------------------------------------


class Full(NamedTuple):
    """A full element.

    Attributes:
        home: of one in a drive, the slot it came from.
    """

    barcode: str
    home: str


_DRIVE = re.compile(r"Data Transfer Element (\d+):Full \(Storage Element (\d+) Loaded\):VolumeTag ?= ?(\S+)")
_SLOT = re.compile(r"Storage Element (\d+)( IMPORT/EXPORT)?:(Full|Empty)\s*:VolumeTag= ?(\S*)")


def by_mtx() -> tuple[dict[str, Full], int]:
    """The full elements by mover's names, and how many slots there are. mtx counts slots from 1, the mail slot last."""
    status = run("mtx", "-f", CHANGER, "status")
    full = {f"drive{number}": Full(barcode, f"slot{int(home) - 1}") for number, home, barcode in _DRIVE.findall(status)}
    slots = 0
    for number, mail, state, barcode in _SLOT.findall(status):
        name = f"mail{int(number) - slots - 1}" if mail else f"slot{int(number) - 1}"
        slots += not mail
        if state == "Full":
            full[name] = Full(barcode, "")
    return full, slots


def by_mover() -> tuple[dict[str, Full], int]:
    (library,) = asked("library", "show", "mc0")["libraries"]
    elements = library["elements"]
    full = {
        each["element"]: Full(each["barcode"], each["home"] if each["element"].startswith("drive") else "")
        for each in elements
        if each["full"]
    }
    return full, sum(each["element"].startswith("slot") for each in elements)


def known(*command: str) -> dict[str, Any]:
    """What a command shows of its one device, once the device has said who it is."""
    deadline = time.monotonic() + COMMAND_S
    while True:
        (shown,) = next(iter(asked(*command).values()))
        if shown["serial"] or time.monotonic() > deadline:
            assert isinstance(shown, dict)
            return shown
        time.sleep(5)


def test_the_changer_is_the_one_that_mtx_and_sg_inq_show() -> None:
    library = known("library", "show", "mc0")
    inquiry = dict(re.findall(r"(Vendor ID|Product ID): '([^']*)'", run("mtx", "-f", CHANGER, "inquiry")))
    assert library["model"] == f"{inquiry['Vendor ID'].strip()} {inquiry['Product ID'].strip()}"
    assert re.search(r"Unit serial number:\s+(\S+)", run("sg_inq", CHANGER)) is not None
    assert library["serial"] in run("sg_inq", CHANGER)
    assert (library["serial"], library["directory"]) == ("LIB0000001", CHANGER)
    assert by_mover() == by_mtx()


def test_what_mtx_moves_mover_sees_and_the_other_way_round() -> None:
    before, _ = by_mtx()
    assert before["slot2"].barcode == "TAPE03L4"
    run("mtx", "-f", CHANGER, "transfer", "3", "8")
    assert (by_mover()[0].get("slot2"), by_mover()[0]["slot7"].barcode) == (None, "TAPE03L4")
    assert by_mover() == by_mtx()
    assert asked("library", "move", "mc0", "TAPE03L4", "mail0")["barcodes"] == ["TAPE03L4"]
    assert by_mtx()[0]["mail0"].barcode == "TAPE03L4"
    assert by_mover() == by_mtx()
    asked("library", "move", "mc0", "mail0", "slot2")
    assert asked("library", "inventory", "mc0")["barcodes"] == sorted(each.barcode for each in before.values())
    assert by_mtx()[0] == before == by_mover()[0]


# --- the drive --------------------------------------------------------------------------------------------------------


def test_the_drive_is_the_one_that_sg_inq_shows() -> None:
    drive = known("tape", "show")
    shown = run("sg_inq", SG)
    fields = dict(re.findall(r"(Vendor identification|Product identification|Unit serial number): +(\S+)", shown))
    assert drive["model"] == f"{fields['Vendor identification']} {fields['Product identification']}"
    assert drive["serial"] == fields["Unit serial number"]
    assert (drive["path"], drive["state"]) == (TAPE, "closed")
    run("sg_turs", SG)  # ready, as the jobs here find it
    assert "Peripheral device type: tape" in shown


def by_mt() -> Position:
    """File and block as the driver counts them."""
    status = run("mt", "-f", TAPE, "status")
    found = re.search(r"File number=(-?\d+), block number=(-?\d+)", status)
    assert found is not None, status
    return Position(int(found[1]), int(found[2]))


def test_mt_status_says_no_other_place_than_we_have_left_the_tape_at() -> None:
    """Of a drive that does not tell, the driver counts what goes by it; what it cannot know it is made to forget."""
    unknown = Position(-1, -1)
    drive = StDrive(DeviceSpec("st0", TAPE, SG), TapeMode.RDWR, implicit_filemark=False)
    drive.rewind()
    for _ in range(2):
        for number in range(4):
            assert drive.write_records(memoryview(bytes([number]) * 1024), 1024).done == 1
        drive.write_filemarks(1)
    drive.close(force=False)
    assert by_mt() in {Position(2, 0), unknown}
    for left_at in (Position(1, 3), Position(0, 2), Position(0, 0)):
        drive = StDrive(DeviceSpec("st0", TAPE, SG), TapeMode.READ, implicit_filemark=False)
        drive.rewind()
        drive.space_files(left_at.file_num or 0)
        drive.space_records(left_at.blockno or 0, crosses_filemark=False)
        assert drive.position() == left_at
        drive.close(force=False)
        assert by_mt() in ({left_at} if left_at == (0, 0) else {left_at, unknown})


# --- data -------------------------------------------------------------------------------------------------------------


def same(one: Path, other: Path) -> None:
    run("diff", "-r", str(one), str(other))


def test_gnu_tar_reads_from_the_device_what_mover_wrote(tmp_path: Path) -> None:
    run("mt", "-f", TAPE, "rewind")
    mover("backup", *SESSION, *CATALOGUE, "--type", "tar", "--record-size", "10KiB", "--overwrite", str(JOB / "source"))
    run("mt", "-f", TAPE, "rewind")
    run("tar", "-x", "-b", "20", "-f", TAPE, "-C", str(tmp_path))
    same(JOB / "source", tmp_path)


def test_mover_recovers_from_the_device_what_gnu_tar_wrote() -> None:
    run("mt", "-f", TAPE, "rewind")
    run("tar", "-c", "-b", "20", "-f", TAPE, "-C", str(JOB / "source"), ".")
    target = JOB / "recovered" / "of-tar"
    target.mkdir()
    mover(
        "recover", *SESSION, *CATALOGUE, "--type", "tar", "--tape-file", "0", "--record-size", "10KiB",
        "--destination", str(target),
    )  # fmt: skip
    same(JOB / "source", target)


def test_a_backup_over_two_cartridges_by_the_changer() -> None:
    """tgtd tells of the end of a cartridge and goes on writing, so what counts is where we stop."""
    changer = ["--changer", "mc0"]
    barcodes = ["TAPE04L4", "TAPE05L4"]
    mover("cartridge", "label", *SESSION, *CATALOGUE, *changer, *barcodes)
    large = JOB / "source" / "larger"
    large.write_bytes(os.urandom(9 << 20))
    result = mover("backup", *SESSION, *CATALOGUE, *changer, "--new-cartridge", str(JOB / "source"))
    assert sorted(result["cartridges"]) == barcodes
    assert by_mover() == by_mtx()
    assert by_mtx()[0]["drive0"].barcode == result["cartridges"][-1]
    target = JOB / "recovered" / "of-two"
    target.mkdir()
    mover("recover", *SESSION, *CATALOGUE, *changer, "--destination", str(target))
    same(JOB / "source", target)


# --- strict clients ---------------------------------------------------------------------------------------------------

_PASSED = re.compile(r'"FINAL (\S+) Passed -- pass=(\d+) warn=(\d+) fail=(\d+) \(total (\d+)\)"')
_FOUND = re.compile(r'"(\S+ #\d+ -- (?:Failed|Almost) .*)"')


@pytest.mark.parametrize("test", ["test-tape", "test-mover"])
def test_ndmjob(test: str, tmp_path: Path) -> None:
    """In version 4, which is the strictest."""
    password = (JOB / "password").read_text().strip()
    ran = subprocess.run(
        [
            "env", f"LD_PRELOAD={SHIM}", "/usr/lib/amanda/ndmjob", "-v", "-d1", "-o", "no-time-stamps", "-o", test,
            "-T", f"127.0.0.1:10000/4m,ndmp,{password}", "-f", "nst0",
        ],
        cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, check=False,
    )  # fmt: skip
    said = ran.stdout + ran.stderr
    assert _FOUND.findall(said) == [], said
    ((name, passed, warned, failed, total),) = _PASSED.findall(said)
    assert (name, warned, failed, passed) == (test, "0", "0", total)


def test_conformance() -> None:
    """The series of nine files in version 4; docs/conformance.md says what of the rest was run here, and when."""
    report = mover(
        "conformance", "127.0.0.1:10000", "--user", "ndmp", "--password-file", str(JOB / "password"),
        "--tape-device", "nst0", "--write", "--versions", "4", "--groups", "tape", "--match", "series",
        "--timeout", "120",
    )  # fmt: skip
    assert [row for row in report["rows"] if row["result"] == "fail"] == []
    assert report["counts"]["pass"] > 40
