"""The registry of a cluster: what is written is what is read, and what cannot be taken is left out and told of."""

import os
from pathlib import Path

import msgspec
import pytest

from mover.control.registry import (
    FILE_BYTES_MAX,
    NODES_MAX,
    Contents,
    DeviceRow,
    LifRow,
    NodeRecord,
    Registry,
    RegistryError,
    VolumeKey,
    VolumeRow,
)

SHARED = VolumeKey("vs1", "home")
RECORD = NodeRecord(
    name="n1",
    version="1",
    incarnation="a",
    beat=7,
    written=1.5,
    lifs=[LifRow(name="mgmt", role="node-mgmt", address="127.0.0.1", port=10000)],
    volumes=[
        VolumeRow(name="srv", shown="/srv"),
        VolumeRow(vserver="vs1", name="home", shown="/vs1/home", shared=True),
    ],
    drives=[DeviceRow(model="M", names={"d": 0, "rd": 4}, pairs={"SERIAL_NUMBER": "1"})],
)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(str(tmp_path), "n1")
    os.close(made.enter())
    return made


def test_what_is_said_is_read(registry: Registry) -> None:
    assert registry.read() == Contents({}, {}, [])
    registry.publish(RECORD)
    again = msgspec.structs.replace(RECORD, beat=8, stopped=True)
    registry.publish(again)
    assert registry.read() == Contents({"n1": again}, {}, [])
    assert sorted(os.listdir(Path(registry.directory) / "nodes")) == ["n1.json", "n1.lock"]


def test_a_volume_is_claimed_once_and_moved_as_often_as_one_likes(registry: Registry) -> None:
    other = Registry(registry.directory, "n2")
    registry.claim(SHARED)
    other.claim(SHARED)
    assert registry.read().owners == {SHARED: "n1"}
    registry.move(SHARED, "n2")
    registry.claim(SHARED)
    assert other.read().owners == {SHARED: "n2"}
    other.move(VolumeKey("", "srv"), "n1")
    assert registry.read().owners == {SHARED: "n2", VolumeKey("", "srv"): "n1"}


def test_what_a_crash_has_left_is_not_written_through(registry: Registry, tmp_path: Path) -> None:
    """A claim that was cut off behind its link leaves two names of one file."""
    registry.claim(SHARED)
    claimed = tmp_path / "volumes" / "vs1:home.json"
    os.link(claimed, tmp_path / "volumes" / ".n1.vs1:home.json")
    with open(claimed, "rb") as reader:
        registry.move(SHARED, "n2")
        assert reader.read() == b'{"node":"n1"}'
    assert registry.read().owners == {SHARED: "n2"}
    assert os.listdir(tmp_path / "volumes") == ["vs1:home.json"]


def test_a_name_is_one_process_s(registry: Registry) -> None:
    fd = registry.enter()
    with pytest.raises(RegistryError, match="another mover serve is node n1 of this cluster"):
        registry.enter()
    os.close(Registry(registry.directory, "n2").enter())
    os.close(fd)
    os.close(registry.enter())


@pytest.mark.parametrize("below", ["", "nodes", "volumes"])
def test_a_directory_that_everybody_may_write_to_is_none(registry: Registry, tmp_path: Path, below: str) -> None:
    (tmp_path / below).chmod(0o777)
    with pytest.raises(RegistryError, match="everybody may write to it"):
        registry.enter()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Registry(str(tmp_path / "gone"), "n1").enter()
    with pytest.raises(FileNotFoundError):
        Registry(str(tmp_path / "gone"), "n1").read()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"null",
        b"{}",
        b'{"name": "n2", "incarnation": 7}',
        b'{"name": "other", "incarnation": "a"}',
        b'{"name": "n2", "incarnation": "a", "format": 2}',
        b'{"name": "n2", "incarnation": "a", "volumes": [{"name": "../x", "shown": "/"}]}',
        b'{"name": "n2", "incarnation": "a", "lifs": [{"name": "l", "role": "data", "address": "", "port": 70000}]}',
        b'{"name": "n2", "incarnation": "a", "drives": [{"model": "m", "names": {}}]}',
        b'{"name": "n2", "incarnation": "a", "version": "' + b"x" * 2000 + b'"}',
        b'{"name": "n2", "incarnation": "a"}' + b" " * FILE_BYTES_MAX,
        b"\xff\xfe",
        b'{"name": "n2", "incarnation": "\xff"}',
        b'{"node": "\xff"}',
        b'{"name": "n2", "node": "n2", "incarnation": "a", "more": ' + b"[" * 100_000,
    ],
    ids=range(17),
)
def test_what_cannot_be_taken_is_left_out_and_told_of(registry: Registry, content: bytes) -> None:
    registry.publish(RECORD)
    (Path(registry.directory) / "nodes" / "n2.json").write_bytes(content)
    (Path(registry.directory) / "volumes" / ":srv.json").write_bytes(content)
    found = registry.read()
    assert list(found.nodes) == ["n1"]
    assert found.owners == {}
    assert len(found.errors) == 2


def test_what_is_no_file_is_left_out(registry: Registry, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    os.mkfifo(nodes / "n2.json")
    (nodes / "n3.json").symlink_to("/etc/passwd")
    (nodes / "n4.json").mkdir()
    (nodes / "not a node.json").write_text("{}")
    found = registry.read()
    assert found.nodes == {}
    assert len(found.errors) == 3


def test_so_many_nodes_are_read_and_no_more(registry: Registry, tmp_path: Path) -> None:
    for number in range(NODES_MAX + 1):
        name = f"n{number:03}"
        (tmp_path / "nodes" / f"{name}.json").write_bytes(
            msgspec.json.encode(msgspec.structs.replace(RECORD, name=name))
        )
    found = registry.read()
    assert len(found.nodes) == NODES_MAX
    assert len(found.errors) == 1
