"""The command lines of each kind, as their programs get them, and what is made of the outcomes.

Fake programs on a PATH of the test note what they are called with; tests/e2e/test_snapshots.py runs those of Btrfs.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from mover.snapshot.commands import Ended, run
from mover.snapshot.kinds import SnapshotError, Source
from mover.snapshot.places import Mount, NoPlace, below, is_below, mount_of, mounted_below, parse_mounts, subvolume_of
from mover.workers.snapshot_messages import SnapshotMade, SnapshotSource

NAME = "mover-0123456789abcdef"
OTHER = "mover-00000000000000ff"
STRANGER = "mover-by-somebody-else"

# Notes its arguments, then does what the file of its name says: text to say, exit status.
FAKE = """#!{python} -I
import json, os, pathlib, sys
site = pathlib.Path({site!r})
name = os.path.basename(sys.argv[0])
with open(site / "calls", "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + chr(10))
answer = site / (name + ".answer")
text, status = json.loads(answer.read_text()) if answer.exists() else ["", 0]
print(text)
sys.exit(status)
"""


class Site:
    """Fake programs and a volume."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.volume = directory / "volume"
        self.volume.mkdir()
        (directory / "bin").mkdir()
        for name in ("lvcreate", "lvremove", "lvs", "mount", "umount", "zfs"):
            program = directory / "bin" / name
            program.write_text(FAKE.format(python=sys.executable, site=str(directory)))
            program.chmod(0o755)

    def answer(self, program: str, text: str, status: int = 0) -> None:
        (self.directory / f"{program}.answer").write_text(json.dumps([text, status]))

    def calls(self) -> list[list[str]]:
        """What was called since the last look."""
        path = self.directory / "calls"
        if not path.exists():
            return []
        found = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        return found

    def source(self, **values: object) -> Source:
        given = {"volume": os.fsencode(self.volume), **values}
        return Source(SnapshotSource(**given), self._run, 30)  # type: ignore[arg-type]  # passed through

    @staticmethod
    def _run(arguments: list[str], kept_bytes: int, directory: int | None) -> Ended:
        ours, theirs = os.pipe()
        try:
            return run(arguments, 30, ours, kept_bytes=kept_bytes, directory=directory)
        finally:
            os.close(ours)
            os.close(theirs)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    return Site(tmp_path)


def lvm(site: Site, **values: object) -> Source:
    return site.source(kind="lvm", directory=os.fsencode(site.directory / "mounts"), origin="vg0/srv", **values)


def with_mounts(monkeypatch: pytest.MonkeyPatch, *mounts: Mount) -> None:
    monkeypatch.setattr("mover.snapshot.kinds.read_mounts", lambda: [Mount(b"/", "ext4"), *mounts])


# --- LVM


def test_lvm(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with_mounts(monkeypatch, Mount(os.fsencode(site.volume), "ext4"), Mount(os.fsencode(site.volume / "db"), "xfs"))
    source = lvm(site, size_bytes=20 << 30, mount_options="noload")
    where = str(site.directory / "mounts" / NAME)
    made = source.make(NAME)
    here = Path(where).stat()
    assert made == SnapshotMade(os.fsencode(where), here.st_dev, here.st_ino, b"", [b"db"])
    assert site.calls() == [
        ["lvcreate", "--yes", "--snapshot", "--size", "21474836480b", "--name", NAME, "vg0/srv"],
        ["mount", "-o", "ro,noload", f"/dev/vg0/{NAME}", where],
    ]
    site.answer("lvs", f"  srv\n  {NAME}\n  {STRANGER}\n  {OTHER}")
    assert source.find() == [OTHER, NAME]
    source.remove(NAME)
    assert site.calls() == [
        ["lvs", "--noheadings", "--options", "lv_name", "vg0"],
        ["umount", where],
        ["lvs", "--noheadings", "--options", "lv_name", "vg0"],
        ["lvremove", "--yes", f"vg0/{NAME}"],
    ]
    assert not Path(where).exists()


def test_a_thin_volume_and_xfs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with_mounts(monkeypatch, Mount(os.fsencode(site.volume.parent), "xfs"))
    (site.directory / "mounts" / NAME / "volume").mkdir(parents=True)
    monkeypatch.setattr("os.makedirs", lambda *_: None)  # the mount that shows the volume is there before it is made
    made = lvm(site).make(NAME)
    assert made.path == os.fsencode(site.directory / "mounts" / NAME / "volume")
    assert site.calls() == [
        ["lvcreate", "--yes", "--snapshot", "--setactivationskip", "n", "--name", NAME, "vg0/srv"],
        ["mount", "-o", "ro,nouuid", f"/dev/vg0/{NAME}", str(site.directory / "mounts" / NAME)],
    ]


def test_a_snapshot_that_is_not_made(site: Site) -> None:
    site.answer("lvcreate", "  Volume group vg0 has insufficient free space", 5)
    with pytest.raises(SnapshotError) as caught:
        lvm(site).make(NAME)
    assert str(caught.value) == ("lvcreate failed (exit status 5): Volume group vg0 has insufficient free space")
    assert caught.value.absent
    assert [call[0] for call in site.calls()] == ["lvcreate"]


def test_a_snapshot_that_cannot_be_mounted_may_be_there(site: Site) -> None:
    site.answer("mount", "mount: wrong fs type", 32)
    with pytest.raises(SnapshotError, match="mount failed") as caught:
        lvm(site).make(NAME)
    assert not caught.value.absent


def test_a_removal_that_fails_says_how_it_is_done_by_hand(site: Site) -> None:
    source = lvm(site)
    site.answer("lvs", NAME)
    site.answer("lvremove", "Logical volume in use.", 5)
    with pytest.raises(SnapshotError) as caught:
        source.remove(NAME)
    where = site.directory / "mounts" / NAME
    assert str(caught.value) == (
        f"lvremove failed (exit status 5): Logical volume in use.; by hand: umount {where} && lvremove --yes vg0/{NAME}"
    )


def test_what_is_not_there_need_not_be_removed(site: Site) -> None:
    source = lvm(site)
    site.answer("lvs", OTHER)
    source.remove(NAME)
    assert [call[0] for call in site.calls()] == ["lvs"]
    site.answer("lvs", "", 5)
    with pytest.raises(SnapshotError, match="lvs failed"):
        source.remove(NAME)


@pytest.mark.parametrize("name", ["srv", "mover-", STRANGER, f"{NAME}x", f"../{NAME}", f"{NAME}\n"])
def test_only_ours_are_removed(site: Site, name: str) -> None:
    site.answer("lvs", name)
    with pytest.raises(SnapshotError, match="not the name of a snapshot of ours"):
        lvm(site).remove(name)
    assert site.calls() == []


# --- ZFS


def test_zfs(site: Site) -> None:
    shown = site.volume / ".zfs/snapshot" / NAME
    (shown / "home").mkdir(parents=True)
    (site.volume / "home").mkdir()
    source = site.source(kind="zfs", origin="tank/srv", volume=os.fsencode(site.volume / "home"))
    here = (shown / "home").stat()
    assert source.make(NAME) == SnapshotMade(os.fsencode(shown / "home"), here.st_dev, here.st_ino, b"", [])
    site.answer("zfs", f"tank/srv@daily\ntank/srv@{NAME}\ntank/srv@{STRANGER}")
    assert source.find() == [NAME]
    source.remove(NAME)
    listing = ["zfs", "list", "-H", "-t", "snapshot", "-d", "1", "-o", "name", "tank/srv"]
    assert site.calls() == [
        ["zfs", "snapshot", f"tank/srv@{NAME}"],
        listing,
        listing,
        ["zfs", "destroy", f"tank/srv@{NAME}"],
    ]


def test_a_volume_without_zfs(site: Site) -> None:
    with pytest.raises(SnapshotError, match=r"has \.zfs/snapshot") as caught:
        site.source(kind="zfs", origin="tank/srv")
    assert caught.value.absent


# --- Btrfs, and places


def test_a_volume_that_is_not_on_btrfs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with_mounts(monkeypatch)
    with pytest.raises(SnapshotError, match="lies on ext4, not on btrfs"):
        site.source(kind="btrfs")


@pytest.mark.parametrize("trap", ["symlink", "writable", "not ours"])
def test_a_directory_that_others_could_change_is_not_used(
    site: Site, trap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write into the volume must not choose what is backed up."""
    with_mounts(monkeypatch, Mount(os.fsencode(site.volume), "btrfs"))
    monkeypatch.setattr("mover.snapshot.kinds.subvolume_of", lambda path, _: path)
    directory = site.volume / ".mover-snapshots"
    if trap == "symlink":
        directory.symlink_to(site.directory)
    else:
        directory.mkdir(mode=0o700)
    if trap == "writable":
        directory.chmod(0o777)
    elif trap == "not ours":
        monkeypatch.setattr("os.geteuid", lambda: 1_234_567)
    source = site.source(kind="btrfs")
    with pytest.raises(SnapshotError, match=r"Not a directory|symbolic links|nobody else may write"):
        source.make(NAME)
    with pytest.raises(SnapshotError, match="by hand: btrfs subvolume delete"):
        source.remove(NAME)
    assert site.calls() == []


def test_a_volume_in_no_subvolume(site: Site) -> None:
    with pytest.raises(NoPlace, match="in no subvolume"):
        subvolume_of(os.fsencode(site.volume), Mount(os.fsencode(site.directory), "btrfs"))


def test_a_volume_that_is_not_there(site: Site) -> None:
    site.volume.rmdir()
    with pytest.raises(SnapshotError, match=f"{site.volume}: No such file"):
        lvm(site)


def test_mounts() -> None:
    text = rb"""22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:26 /srv /srv rw shared:1 master:2 - btrfs /dev/sdb rw,subvol=/srv
31 30 0:27 / /srv/a\040b\134 rw - fuse.sshfs host: rw
32 30 0:28 / /srv/a\040b\134 rw - tmpfs none rw
33 22 0:29 / /srv2 rw - xfs /dev/sdc rw
"""
    mounts = parse_mounts(text)
    assert mounts == [
        Mount(b"/", "ext4"),
        Mount(b"/srv", "btrfs"),
        Mount(b"/srv/a b\\", "fuse.sshfs"),
        Mount(b"/srv/a b\\", "tmpfs"),
        Mount(b"/srv2", "xfs"),
    ]
    assert mount_of(b"/srv/x", mounts).kind == "btrfs"
    assert mount_of(b"/srv/a b\\/x", mounts).kind == "tmpfs"
    assert mount_of(b"/srv22", mounts).kind == "ext4"
    assert mounted_below(b"/srv", mounts) == [b"a b\\"]
    assert mounted_below(b"/", mounts) == [b"srv", b"srv/a b\\", b"srv2"]
    assert is_below(b"/srv", b"/")
    assert not is_below(b"/srv2", b"/srv")
    assert (below(b"/srv/a", b"/"), below(b"/srv/a", b"/srv"), below(b"/srv", b"/srv")) == (b"srv/a", b"a", b"")
