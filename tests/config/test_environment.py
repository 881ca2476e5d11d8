"""What the host lacks, one line each."""

from pathlib import Path

import msgspec

from mover.config import Config, Drive, Library, Node, Snapshot, check_environment


def config(tmp_path: Path, *, volume: str = "", library: str = "", drive: str = "", state: str = "") -> Config:
    return Config(
        node=Node(
            state_directory=state or f"{tmp_path}/state/deep",
            admin_socket=f"{tmp_path}/run/admin.sock",
            volumes={"srv": volume or str(tmp_path)},
        ),
        library=[Library(name="vtl0", directory=library or str(tmp_path))],
        drive=[Drive(name="d", device=f"virtual:{drive or tmp_path}/x.tap")],
    )


def test_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    assert check_environment(config(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_every_missing_directory_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = config(
        tmp_path,
        volume=f"{tmp_path}/a",
        library=f"{tmp_path}/file",
        drive=f"{tmp_path}/b",
        state=f"{tmp_path}/file/state",
    )
    assert check_environment(wrong) == [
        f"node.volumes.srv: {tmp_path}/a: no such directory",
        f"library[0].directory: {tmp_path}/file: not a directory",
        f"drive[0].device: {tmp_path}/b: no such directory",
        f"node.state_directory: {tmp_path}/file/state: {tmp_path}/file is not a directory",
    ]


def test_the_commands_of_a_snapshot_can_be_run(tmp_path: Path) -> None:
    """What is found at the start is not found first by the backup of the night."""
    hold = tmp_path / "hold"
    hold.touch(mode=0o644)
    snapshot = Snapshot(volume="srv", kind="none", pre=[str(hold), "srv"], post=[f"{tmp_path}/go"])
    assert check_environment(msgspec.structs.replace(config(tmp_path), snapshot=[snapshot])) == [
        f"snapshot[0].pre: {hold}: cannot be executed",
        f"snapshot[0].post: {tmp_path}/go: no such program",
    ]
    hold.chmod(0o755)
    snapshot = Snapshot(volume="srv", kind="none", pre=[str(hold)])
    assert check_environment(msgspec.structs.replace(config(tmp_path), snapshot=[snapshot])) == []
