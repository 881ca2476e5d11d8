"""Which tape device a path names, and what sysfs says of it; the sysfs is a directory here."""

import os
from pathlib import Path

import pytest

from mover.config import Drive
from mover.control.drives import DeviceDrive
from mover.control.st_nodes import StNode, StNodeError, describe, find_st_node
from mover.control.unflushed import Unflushed
from mover.workers.device_messages import DeviceSpec


def make_sysfs(tmp_path: Path, *, sg: bool = True) -> Path:
    device = tmp_path / "sysfs" / "nst0" / "device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("IBM     \n")
    (device / "model").write_text("ULT3580-TD4     \n")
    (device / "rev").write_text("C7QH\n")
    (device / "vpd_pg80").write_bytes(b"\x01\x80\x00\x0aDRV0000001")
    if sg:
        (device / "scsi_generic" / "sg3").mkdir(parents=True)
        (device / "scsi_generic" / "power").mkdir()
    return tmp_path / "sysfs"


def test_what_the_kernel_says(tmp_path: Path) -> None:
    node = describe("nst0", sysfs=str(make_sysfs(tmp_path)))
    assert node == StNode("nst0", "/dev/sg3", "IBM", "ULT3580-TD4", "C7QH", "DRV0000001")


def test_a_kernel_that_says_little(tmp_path: Path) -> None:
    assert describe("nst0", sysfs=str(make_sysfs(tmp_path, sg=False))).sg_device == ""
    assert describe("nst7", sysfs=str(tmp_path)) == StNode("nst7")


def test_what_is_no_tape_device(tmp_path: Path) -> None:
    with pytest.raises(StNodeError, match="No such file"):
        find_st_node(str(tmp_path / "nst0"))
    for path in ("/dev/null", str(tmp_path)):
        with pytest.raises(StNodeError, match="no device of the st driver"):
            find_st_node(path)


@pytest.mark.parametrize(("minor", "rewinds"), [(0x80, False), (0x81, False), (0, True), (0x60, True)])
def test_rewinding_nodes_are_not_taken(
    minor: int, rewinds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "nst0"
    node.touch()

    class Stat:
        st_mode = 0o020660
        st_rdev = 9 << 8 | minor

    monkeypatch.setattr(os, "stat", lambda path: Stat)
    if rewinds:
        with pytest.raises(StNodeError, match="rewinds"):
            find_st_node(str(node), sysfs=str(tmp_path))
    else:
        assert find_st_node(str(node), sysfs=str(tmp_path)) == StNode("nst0")


def test_a_link_by_id_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs = make_sysfs(tmp_path)
    (tmp_path / "nst0").touch()
    link = tmp_path / "scsi-3500-nst"
    link.symlink_to("nst0")
    monkeypatch.setattr(os, "stat", lambda path: type("Stat", (), {"st_mode": 0o020660, "st_rdev": 0x980}))
    assert find_st_node(str(link), sysfs=str(sysfs)).serial == "DRV0000001"


def bay(device: str) -> DeviceDrive:
    return DeviceDrive(Drive(name="nst0", device=device, block_size=512), 1 << 20, Unflushed(), "node")


def test_a_bay_finds_the_sg_node_anew_at_each_open(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [StNode("nst0", "/dev/sg3"), StNode("nst0"), StNode("nst0", "/dev/sg7")]
    monkeypatch.setattr("mover.control.st_nodes.find_st_node", lambda path: nodes.pop())
    drive = bay("/dev/tape/by-id/scsi-3500-nst")
    assert drive.kind == "st"
    assert drive.spec() == DeviceSpec("nst0", "/dev/tape/by-id/scsi-3500-nst", "/dev/sg7", block_size=512)
    assert drive.device() is None  # without an sg node there is no way for CDBs
    assert drive.spec().sg_device == "/dev/sg3"


def test_the_start_refuses_other_files_and_waits_for_missing_ones(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no device of the st driver") as caught:
        bay("/dev/null").check_node()
    assert caught.value.filename == "drive nst0"
    missing = bay(str(tmp_path / "nst9"))
    missing.check_node()
    assert missing.spec().sg_device == ""
    bay("iscsi://h/iqn.2026-01.test:vtl/1").check_node()
