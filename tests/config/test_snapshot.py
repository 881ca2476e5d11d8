"""``[[snapshot]]``: what it takes, and one line for whatever contradicts itself."""

from pathlib import Path

import pytest

from mover.config import Config, ConfigError, Snapshot, load_config


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors name the file as it was given."""
    monkeypatch.chdir(tmp_path)


def load(*tables: str) -> Config:
    path = Path("m.toml")
    path.write_text('[node.volumes]\nsrv = "/srv"\nhome = "/home"\n' + "\n".join(f"[[snapshot]]\n{t}" for t in tables))
    return load_config(str(path))


def test_nothing_by_default() -> None:
    assert load().snapshot == []


def test_every_kind() -> None:
    config = load(
        """
        volume = "srv"
        kind = "lvm"
        logical_volume = "vg0/srv"
        size = "1GiB"
        mount_options = "noload,noatime"
        pre = ["/bin/hold", "srv", ""]
        post = ["/bin/go"]
        timeout_s = 5
        on_failure = "go-on"
        """,
        'volume = "home"\nkind = "zfs"\ndataset = "tank/home"',
    )
    assert config.snapshot == [
        Snapshot(
            volume="srv",
            kind="lvm",
            logical_volume="vg0/srv",
            size=1 << 30,
            mount_options="noload,noatime",
            pre=["/bin/hold", "srv", ""],
            post=["/bin/go"],
            timeout_s=5,
            on_failure="go-on",
        ),
        Snapshot(volume="home", kind="zfs", dataset="tank/home"),
    ]
    assert load('volume = "srv"\nkind = "btrfs"').snapshot == [Snapshot(volume="srv", kind="btrfs")]
    assert load('volume = "srv"\nkind = "none"\npost = ["/x"]').snapshot[0].post == ["/x"]


BTRFS = 'volume = "srv"\nkind = "btrfs"\n'
COMMAND = 'expected a program and its arguments, such as ["/usr/local/sbin/quiesce", "srv"]'


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ('kind = "btrfs"', "snapshot[0].volume: a value is needed"),
        ('volume = "srv"', "snapshot[0].kind: a value is needed"),
        ('volume = "nosuch"\nkind = "btrfs"', 'snapshot[0].volume: expected one of node.volumes, got "nosuch"'),
        ('volume = "srv"\nkind = "vss"', 'snapshot[0].kind: expected one of btrfs, lvm, none, zfs, got "vss"'),
        ('volume = "srv"\nkind = "lvm"', 'snapshot[0].logical_volume: a value is needed where kind is "lvm"'),
        ('volume = "srv"\nkind = "zfs"', 'snapshot[0].dataset: a value is needed where kind is "zfs"'),
        (
            f'{BTRFS}dataset = "tank"',
            'snapshot[0].dataset: expected kind = "zfs" with it, got kind = "btrfs" and \'tank\'',
        ),
        (f'{BTRFS}size = "1GiB"', 'snapshot[0].size: expected kind = "lvm" with it, got kind = "btrfs" and 1073741824'),
        (
            'volume = "srv"\nkind = "zfs"\ndataset = "t"\ndirectory = "/x"',
            'snapshot[0].directory: expected kind = "btrfs" with it, got kind = "zfs" and \'/x\'',
        ),
        (
            'volume = "srv"\nkind = "none"',
            'snapshot[0].kind: expected pre or post with "none", which does nothing by itself',
        ),
        (f'{BTRFS}pre = "/bin/hold srv"', f'snapshot[0].pre: {COMMAND}, got "/bin/hold srv"'),
        (f'{BTRFS}post = ["hold"]', f'snapshot[0].post: {COMMAND}, got ["hold"]'),
        (f"{BTRFS}pre = []", f"snapshot[0].pre: {COMMAND}, got []"),
        (f"{BTRFS}pre = ['/x', 5]", f'snapshot[0].pre: {COMMAND}, got ["/x", 5]'),
        (f"{BTRFS}timeout_s = 0", "snapshot[0].timeout_s: expected 1..86400, got 0"),
        (f'{BTRFS}on_failure = "warn"', 'snapshot[0].on_failure: expected one of fail, go-on, got "warn"'),
        (f"{BTRFS}time_out = 3", "snapshot[0].time_out: unknown key; did you mean timeout_s?"),
        (
            'volume = "srv"\nkind = "lvm"\nlogical_volume = "-f/srv"',
            'snapshot[0].logical_volume: expected a volume group and a logical volume, such as "vg0/srv", got "-f/srv"',
        ),
        (
            'volume = "srv"\nkind = "zfs"\ndataset = "tank@now"',
            'snapshot[0].dataset: expected the name of a ZFS file system, such as "tank/srv", got "tank@now"',
        ),
        (
            'volume = "srv"\nkind = "lvm"\nlogical_volume = "a/b"\nmount_options = "rw"',
            'snapshot[0].mount_options: expected options of mount(8) with commas between them, and not rw, got "rw"',
        ),
    ],
)
def test_a_mistake_is_one_line(table: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(table)
    assert str(caught.value) == f"m.toml: {line}"


def test_a_volume_has_one() -> None:
    with pytest.raises(ConfigError) as caught:
        load(BTRFS, BTRFS)
    assert str(caught.value) == 'm.toml: snapshot[1].volume: expected a volume of its own, got "srv" as snapshot[0]'
