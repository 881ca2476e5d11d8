"""tape ls, verify and extract: of a file with no server, and of a drive or barcode that the server resolves."""

import json
import os
from pathlib import Path

import pytest

from mover.admin.messages import Reply, Request
from mover.admin.tapes import CartridgeStatus, DriveStatus, TapeShowReply
from tests.admin.control import FakeControl
from tests.cli.conftest import Run


def record(content: bytes) -> bytes:
    word = len(content).to_bytes(4, "little")
    return word + content + b"\0" * (len(content) % 2) + word


TAR = b"a" * 257 + b"ustar" + b"\0" * 250
MARK = b"\0\0\0\0"


@pytest.fixture
def cartridge(tmp_path: Path) -> Path:
    path = tmp_path / "A1.tap"
    path.write_bytes(record(b"##ndmjob -m fs1" + b"\0" * 497) + MARK + record(TAR) * 3 + MARK)
    return path


def test_a_file_needs_no_server(mover: Run, cartridge: Path, tmp_path: Path) -> None:
    output = tmp_path / "stream"
    plain = mover("tape", "ls", str(cartridge))
    as_json = mover("tape", "ls", str(cartridge), "--json")
    extracted = mover("tape", "extract", str(cartridge), "--output", str(output))
    assert [line.split() for line in plain.stdout.splitlines()] == [
        ["file", "records", "bytes", "record-bytes", "kind", "writer", "label"],
        ["0", "1", "512", "512", "label", "ndmjob", "fs1"],
        ["1", "3", "1536", "512", "tar", "-", "-"],
    ]
    assert json.loads(as_json.stdout)["files"][1] == {
        "number": 1, "records": 3, "bytes": 1536, "record-bytes": 512, "kind": "tar", "writer": "",
        "label": "",
    }  # fmt: skip
    assert (extracted.exit_code, extracted.stdout) == (0, "tape file 1: tar stream of 1536 bytes\n")
    assert output.read_bytes() == TAR * 3


def test_a_torn_end_is_told(mover: Run, cartridge: Path) -> None:
    with cartridge.open("ab") as file:
        file.write(b"\0\2\0\0torn")
    result = mover("tape", "ls", str(cartridge))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"mover: cartridge {cartridge}: ")


def test_extracting_what_a_torn_cartridge_ends_in_fails_with_what_is_whole(
    mover: Run, cartridge: Path, tmp_path: Path
) -> None:
    content = cartridge.read_bytes()
    cut = content[: content.rindex(TAR) + 100]
    cartridge.write_bytes(cut)
    output = tmp_path / "out"
    plain = mover("tape", "extract", str(cartridge), "--output", str(output))
    assert (plain.exit_code, plain.stdout) == (1, "tape file 1: tar stream of 1024 bytes\n")
    first, second = plain.stderr.splitlines()
    assert "torn" in first
    assert second == f"mover: tape file 1 is not whole, {output} has what there is of it: the cartridge ends in it"
    assert output.read_bytes() == TAR * 2
    as_json = mover("tape", "extract", str(cartridge), "--output", str(output), "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["missing"]) == (1, "the cartridge ends in it")


def test_a_file_that_is_no_cartridge_is_not_an_empty_one(mover: Run, cartridge: Path) -> None:
    cartridge.write_bytes(b"\0\2\0\0torn")
    for options in ([], ["--json"]):
        result = mover("tape", "ls", str(cartridge), *options)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"{cartridge} is no cartridge: the record at byte 0 is torn" in result.stderr


def test_what_cannot_be_read_or_written(mover: Run, cartridge: Path, tmp_path: Path) -> None:
    missing = mover("tape", "ls", str(tmp_path / "none.tap"))
    no_file = mover("tape", "extract", str(cartridge), "--output", str(tmp_path / "x"), "--file", "7")
    no_place = mover("tape", "extract", str(cartridge), "--output", str(tmp_path / "none" / "x"))
    itself = mover("tape", "extract", str(cartridge), "--output", str(cartridge))
    assert (missing.exit_code, missing.stderr) == (1, f"mover: {tmp_path}/none.tap: No such file or directory\n")
    assert (no_file.exit_code, no_file.stderr) == (1, f"mover: {cartridge}: no tape file 7\n")
    assert (no_place.exit_code, no_place.stderr) == (1, f"mover: {tmp_path}/none/x: No such file or directory\n")
    assert itself.exit_code == 2
    assert cartridge.stat().st_size > 0


def test_drives_and_barcodes_are_resolved_by_the_server(mover: Run, socket_path: str, cartridge: Path) -> None:
    path = str(cartridge)

    def answer(_: Request) -> Reply:
        return TapeShowReply(
            [
                DriveStatus(name="vtl0/drive0", library="vtl0", state="in-use", session_id=3, barcode="A1", path=path),
                DriveStatus(name="vtl0/drive1", library="vtl0", state="empty"),
                DriveStatus(name="t0", state="closed", path="iscsi://h/iqn.2026-01.test:vtl/1"),
            ],
            [
                CartridgeStatus(barcode="A1", library="vtl0", path=path, drive="vtl0/drive0"),
                CartridgeStatus(barcode="A2", library="vtl0", path=path),
                CartridgeStatus(barcode="A2", library="vtl1", path=path),
            ],
        )

    with FakeControl(socket_path, answer):
        results = {
            name: mover("tape", "ls", name, "--json")
            for name in ("vtl0/drive0", "vtl0/drive1", "t0", "A1", "A2", "vtl1/A2", "A9", os.devnull)
        }
    assert {name: (result.exit_code, result.stderr) for name, result in results.items()} == {
        "vtl0/drive0": (0, "mover: vtl0/drive0 is in use by session 3: its end may be cut\n"),
        "vtl0/drive1": (1, "mover: vtl0/drive1: no cartridge in the drive\n"),
        "A1": (0, "mover: A1 is in use by session 3: its end may be cut\n"),
        "A2": (1, "mover: A2: in several libraries, name vtl0/A2 or vtl1/A2\n"),
        "vtl1/A2": (0, ""),
        "A9": (1, "mover: A9: no file, drive or cartridge of this name\n"),
        **{
            name: (1, f"mover: {name}: a device; cartridge files alone are read here, see mover list --tape-file N\n")
            for name in ("t0", os.devnull)
        },
    }
    assert json.loads(results["vtl1/A2"].stdout)["path"] == path
    assert mover("tape", "ls", "A1").exit_code == 3


def test_verify_finds_a_record_that_has_changed(mover: Run, cartridge: Path) -> None:
    unknown = mover("tape", "verify", str(cartridge))
    assert unknown.exit_code == 0
    assert [line.split() for line in unknown.stdout.splitlines()] == [
        ["file", "records", "written", "later", "unknown", "damaged"],
        ["0", "1", "0", "0", "1", "0"],
        ["1", "3", "0", "0", "3", "0"],
    ]
    kept = mover("tape", "verify", str(cartridge), "--keep")
    assert (kept.exit_code, kept.stdout.splitlines()[-1]) == (0, "checksums of 4 records, as they are now, were kept")
    data = bytearray(cartridge.read_bytes())
    data[4 + 5] ^= 1
    cartridge.write_bytes(data)
    found = mover("tape", "verify", str(cartridge))
    damage, summary = found.stderr.splitlines()
    assert found.exit_code == 1
    assert damage.startswith(f"mover: cartridge {cartridge}: record 0 of tape file 0, at byte 0, has another checksum")
    assert summary == f"mover: {cartridge}: 1 records have changed or cannot be read"
    as_json = mover("tape", "verify", str(cartridge), "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["files"] == [
        {"number": 0, "records": 1, "written": 0, "later": 0, "unknown": 0, "damaged": 1},
        {"number": 1, "records": 3, "written": 0, "later": 3, "unknown": 0, "damaged": 0},
    ]


def test_verify_of_what_is_not_whole_fails(mover: Run, cartridge: Path) -> None:
    with cartridge.open("ab") as file:
        file.write(b"\0\2\0\0torn")
    for options in ([], ["--keep"]):
        result = mover("tape", "verify", str(cartridge), *options)
        assert result.exit_code == 1
        assert "torn" in result.stderr


def test_damaged_records_are_named_and_fail(mover: Run, tmp_path: Path) -> None:
    cartridge, output = tmp_path / "a.tap", tmp_path / "out"
    cartridge.write_bytes(record(b"good") + record(b"lost") + record(b"more") + MARK)
    mover("tape", "verify", str(cartridge), "--keep")
    data = bytearray(cartridge.read_bytes())
    data[16] ^= 1
    cartridge.write_bytes(data)
    arguments = ["tape", "extract", str(cartridge), "--file", "0", "--output", str(output)]
    assert mover(*arguments).exit_code == 1
    taken = mover(*arguments, "--damaged")
    assert (taken.exit_code, taken.stdout) == (1, "tape file 0: unknown stream of 12 bytes\n")
    assert "record 1 of tape file 0, at byte 12, has another checksum" in taken.stderr
    assert f"1 damaged records are in {output} as they lie on tape" in taken.stderr
    assert output.read_bytes() == b"good" + data[16:20] + b"more"
    assert len(json.loads(mover(*arguments, "--damaged", "--json").stdout)["damages"]) == 1
