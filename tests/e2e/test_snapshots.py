"""Backups of volumes with a [[snapshot]], end to end: Btrfs for real on a loop mount, and commands before and after."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.ndmp.enums import DataHaltReason, DataState, ErrorCode, MoverHaltReason, MoverMode
from mover.ndmp.messages import (
    DataAbortRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataStartBackupRequest,
    DataStopRequest,
    LogMessagePost,
    MoverStopRequest,
)
from tests.data.dump_reader import Dump, parse
from tests.e2e.test_incremental import wait_for_the_next_second
from tests.support import v1_jobs
from tests.support.mounts import NoMount, mounted
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.processes import settle, zombies
from tests.support.servers import Login, Server, mover_command, write_config
from tests.support.trees import make_large_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LIMIT_S = 150.0
NEVER_S = 600
needs_btrfs = [pytest.mark.root, pytest.mark.peer("btrfs", "mkfs.btrfs")]
BTRFS = 'kind = "btrfs"'


class Site:
    """A server with one volume and its [[snapshot]], and commands that leave signs of themselves."""

    def __init__(self, directory: Path, login: Login, volume: Path) -> None:
        self.directory = directory
        self.volume = volume
        self.login = login
        self.signs = directory / "signs"
        self.signs.mkdir()
        (self.signs / "volume").symlink_to(volume)
        self._secret = directory / "password"
        self._secret.touch(mode=0o600)
        self._secret.write_text(login.password)
        self._streams = 0

    def serve(self, *lines: str) -> Server:
        """A server with a loaded drive."""
        text = "\n".join(('[[snapshot]]\nvolume = "v"', *lines))
        config = write_config(self.directory / "server", self.login, volumes={"v": self.volume}, drives=1, extra=text)
        server = Server(config)
        server.ask("tape", "load", "vtl0/drive0")
        return server

    def command(self, name: str, text: str = "") -> str:
        """A command as a line of the configuration; it leaves a sign when it begins and one when it has ended."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\ncd {self.signs}\n: > {name}.began\n{text}\necho {name} >> order\n")
        path.chmod(0o755)
        return f"{name} = {json.dumps([str(path)])}"

    def order(self) -> list[str]:
        path = self.signs / "order"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, name: str) -> None:
        settle((self.signs / name).exists, f"the sign {name}", LIMIT_S)

    def snapshots(self) -> list[str]:
        place = self.volume / ".mover-snapshots"
        return sorted(os.listdir(place)) if place.exists() else []

    def leases(self) -> list[str]:
        place = self.directory / "server/state/snapshots"
        return sorted(os.listdir(place)) if place.exists() else []

    def settle(self) -> None:
        """Nothing is left of any snapshot."""
        settle(lambda: not self.snapshots() and not self.leases(), "no snapshot and no lease left", LIMIT_S)

    def back_up(self, server: Server, *options: str) -> tuple[Dump, list[str]]:
        """A whole backup by the built-in DMA: its stream and its warnings."""
        told = json.loads(
            self._run(
                "backup", str(self.volume), "--host", server.address, "--user", self.login.user,
                "--password-file", str(self._secret), "--drive", "vtl0/drive0", "--overwrite",
                "--catalogue", str(self.directory / "catalogue"), "--json", *options,
            )
        )  # fmt: skip
        self._streams += 1
        stream = self.directory / f"stream-{self._streams}"
        (cartridge,) = (self.directory / "server/tapes").glob("*.tap")
        self._run("tape", "extract", str(cartridge), "--output", str(stream))
        return parse(stream.read_bytes()), told["warnings"]

    def connect(self, server: Server) -> Job:
        job = Job.connect(server, server, self.login)
        job.connect_data(MoverMode.READ)
        return job

    def begin(self, job: Job, path: Path | None = None) -> None:
        """START_BACKUP, with the reply at once."""
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(path or self.volume), HIST="n")))

    @staticmethod
    def _run(*arguments: str) -> str:
        done = subprocess.run([*mover_command(), *arguments], capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def shown(site: Site) -> Iterator[Site]:
    yield site
    log = site.directory / "server/server.log"
    if log.exists():  # for a test that fails
        print(log.read_text(errors="backslashreplace")[-6000:])


@pytest.fixture
def plain(shm: Path, login: Login) -> Iterator[Site]:
    """A volume on whatever there is."""
    volume = shm / "volume"
    volume.mkdir()
    (volume / "file").write_bytes(b"content")
    yield from shown(Site(shm, login, volume))


@pytest.fixture
def site(shm: Path, login: Login) -> Iterator[Site]:
    """A volume that is a subvolume on a new Btrfs, with something in it."""
    try:
        with mounted("btrfs") as root:
            volume = root / "volume"
            make_subvolume(volume)
            (volume / "below").mkdir()
            (volume / "below/file").write_bytes(b"before" * 1000)
            (volume / "gone").write_bytes(b"gone")
            yield from shown(Site(shm, login, volume))
    except NoMount as reason:
        pytest.skip(str(reason))


def make_subvolume(path: Path) -> None:
    subprocess.run(["btrfs", "subvolume", "create", str(path)], check=True, stdout=subprocess.DEVNULL, timeout=60)


def probed(server: Server) -> list[str]:
    sessions = server.ask("probe")["sessions"]
    assert isinstance(sessions, list)
    return [each["snapshot"] for each in sessions]


def data_state(client: NdmpClient) -> DataState:
    reply = client.ok(DataGetStateRequest())
    assert isinstance(reply, DataGetStateReply)
    return DataState(reply.state)


def halted(job: Job) -> tuple[DataHaltReason, MoverHaltReason]:
    return DataHaltReason(job.data.data_halted(deadline_s=120)), MoverHaltReason(job.tape.mover_halted())


# --- Btrfs


class TestBtrfs:
    """A real snapshot."""

    pytestmark = needs_btrfs

    def test_a_chain_of_levels_over_snapshots(self, site: Site) -> None:
        """What ``post`` changes is later than the snapshot: not in this level, but in the next."""
        change = 'n=$(cat order | grep -c post); echo more > volume/new$n; [ "$n" = 1 ] && rm volume/gone; :'
        with site.serve(BTRFS, site.command("pre"), site.command("post", change)) as server:
            wait_for_the_next_second()
            full, warnings = site.back_up(server)
            assert warnings == []
            assert full.tree().keys() == {b"", b"below", b"below/file", b"gone"}
            assert full.dumped == full.used
            assert site.order() == ["pre", "post"]
            assert (site.volume / "new0").exists()
            first, warnings = site.back_up(server, "--level", "1")
            assert warnings == []
            assert first.tape[8:12] == full.tape[4:8]
            assert first.tree().keys() == {b"", b"below", b"gone", b"new0"}
            assert first.dumped == {2, first.tree()[b"new0"]}
            assert not (site.volume / "gone").exists()
            second, _ = site.back_up(server, "--level", "2")
            assert second.tree().keys() == {b"", b"below", b"new0", b"new1"}
            assert second.dumped == {2, second.tree()[b"new1"]}
            site.settle()
            assert zombies(server) == []
            events = (site.directory / "server/state/backup.log").read_text().splitlines()
            assert sum(" Snapshot (mover-" in line for line in events) == 3

    def test_what_a_snapshot_does_not_hold_is_told(self, site: Site) -> None:
        make_subvolume(site.volume / "inner")
        (site.volume / "inner/file").write_bytes(b"not in it")
        (site.volume / "mount").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", str(site.volume / "mount")], check=True, timeout=60)
        try:
            with site.serve(BTRFS) as server:
                dump, warnings = site.back_up(server)
                assert len(warnings) == 2
                assert warnings[0] == "other file systems are not in the snapshot and not backed up: mount"
                assert warnings[1].startswith(f"{site.volume}/inner: is a subvolume, which a snapshot does not hold")
                assert dump.tree().keys() == {b"", b"below", b"below/file", b"gone", b"inner", b"mount"}
                for name, why in (
                    ("inner", "a snapshot of what is above it does not have: it takes a volume of its own"),
                    ("mount", "mount is another file system than the volume's: it takes a volume of its own"),
                ):
                    with site.connect(server) as job:
                        site.begin(job, site.volume / name)
                        assert halted(job) == (DataHaltReason.INTERNAL_ERROR, MoverHaltReason.CONNECT_ERROR)
                        assert any(why in line for line in job.data.log())
                        job.data.hang_up()
                site.settle()
        finally:
            subprocess.run(["umount", str(site.volume / "mount")], check=True, timeout=60)

    def test_a_subvolume_that_is_asked_for_and_not_in_the_snapshot_is_told(self, site: Site) -> None:
        make_subvolume(site.volume / "inner")
        (site.volume / "inner/file").write_bytes(b"not in it")
        with site.serve(BTRFS) as server, site.connect(server) as job:
            env = pairs(FILESYSTEM=str(site.volume), HIST="n", CROSS_FILE_SYSTEMS="Y")
            job.data.ok(DataStartBackupRequest(b"dump", env))
            assert halted(job) == (DataHaltReason.SUCCESSFUL, MoverHaltReason.CONNECT_CLOSED)
            (line,) = [line for line in job.data.log() if "/inner: " in line]
            assert line.endswith(
                "/inner: is a subvolume, which a snapshot does not hold: backed up as an empty directory"
            )
            assert any("1 other file system" in line for line in job.data.log() if line.startswith("left out: "))
            job.data.hang_up()
            with site.connect(server) as several:  # where it is one of the subtrees there is nothing to back up
                env = pairs(
                    FILESYSTEM=str(site.volume), CROSS_FILE_SYSTEMS="Y", DMP_NAME="set", MULTI_SUBTREE_NAMES="inner"
                )
                several.data.ok(DataStartBackupRequest(b"dump", env))
                assert halted(several) == (DataHaltReason.INTERNAL_ERROR, MoverHaltReason.CONNECT_ERROR)
                why = "MULTI_SUBTREE_NAMES: inner is a subvolume, which a snapshot does not hold"
                assert any(why in line for line in several.data.log())
                several.data.hang_up()

    @pytest.mark.parametrize("end", ["abort", "kill", "leave"])
    def test_a_backup_that_ends_while_it_reads(self, site: Site, end: str) -> None:
        make_large_file(site.volume / "large", size=64 << 20)
        with site.serve(BTRFS, site.command("post")) as server:
            job = Job(client := NdmpClient(server.address, login=site.login), client)
            with job:
                job.connect_data(MoverMode.READ, window_length=1 << 20)  # and then the mover waits
                site.begin(job)
                settle(lambda: site.order() == ["post"], "the snapshot", LIMIT_S)
                settle(lambda: probed(server) == site.snapshots() != [], "a snapshot in probe", LIMIT_S)
                if end == "abort":
                    client.ok(DataAbortRequest())
                    assert client.data_halted() == DataHaltReason.ABORTED
                    site.settle()
                    client.hang_up()
                elif end == "kill":
                    sessions = server.ask("status")["sessions"]
                    assert isinstance(sessions, list)
                    server.ask("kill", "--session-id", str(sessions[0]["session-id"]))
                else:
                    client.close()
            site.settle()

    @pytest.mark.parametrize("moment", ["pre", "read"])
    def test_a_server_that_is_killed(self, site: Site, moment: str) -> None:
        make_large_file(site.volume / "large", size=64 << 20)
        pre = site.command("pre", f"exec sleep {NEVER_S}" if moment == "pre" else "")
        server = site.serve(BTRFS, pre, site.command("post"))
        job = Job(client := NdmpClient(server.address, login=site.login), client)
        with job:
            job.connect_data(MoverMode.READ, window_length=1 << 20)
            site.begin(job)
            if moment == "pre":
                site.wait_for("pre.began")
            else:
                client.wait_until(
                    lambda seen: isinstance(seen.body, LogMessagePost) and seen.body.entry.endswith(b"is read"),
                    "the word that the snapshot is read",
                    120,
                )
            os.kill(server.pid, signal.SIGKILL)
            server.reap_killed()
        assert len(site.leases()) == 1
        with Server(server.config) as again:
            site.settle()
            assert site.order().count("post") == 1
            dump, _ = site.back_up(again) if moment == "read" else (None, [])
            assert dump is None or b"large" in dump.tree()


# --- whatever the file system


def test_an_abort_while_pre_runs_works_at_once(plain: Site) -> None:
    pre = plain.command("pre", f"sleep {NEVER_S}")
    with plain.serve('kind = "none"', pre, plain.command("post")) as server, plain.connect(server) as job:
        plain.begin(job)
        plain.wait_for("pre.began")
        assert data_state(job.data) == DataState.ACTIVE
        job.data.ok(DataAbortRequest())
        assert halted(job) == (DataHaltReason.ABORTED, MoverHaltReason.CONNECT_ERROR)
        job.data.ok(DataStopRequest())
        job.tape.ok(MoverStopRequest())
        plain.settle()
        assert plain.order() == ["post"]
        job.data.hang_up()


def test_a_waiting_dma_hears_of_it(plain: Site) -> None:
    pre = plain.command("pre", "while [ ! -e go ]; do sleep 0.1; done")
    with (
        plain.serve('kind = "none"', pre, "[limits]\nheartbeat_s = 1") as server,
        plain.connect(server) as job,
    ):
        plain.begin(job)
        told = job.data.wait_until(
            lambda seen: isinstance(seen.body, LogMessagePost) and b"waiting for the command pre" in seen.body.entry,
            "a word of what is waited for",
        )
        assert told
        (plain.signs / "go").touch()
        assert halted(job) == (DataHaltReason.SUCCESSFUL, MoverHaltReason.CONNECT_CLOSED)
        job.data.hang_up()


def test_errors_of_the_request_come_before_the_first_command(plain: Site) -> None:
    with plain.serve('kind = "none"', plain.command("pre")) as server, plain.connect(server) as job:
        for path, env in (
            (plain.volume / "nosuch", {}),
            (plain.volume, {"EXCLUDE": "a*b"}),
            (plain.volume, {"LEVEL": "99"}),
        ):
            request = DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(path), **env))
            assert job.data.error(request) == ErrorCode.ILLEGAL_ARGS_ERR
        assert data_state(job.data) == DataState.CONNECTED
        assert (plain.order(), plain.leases()) == ([], [])
        plain.begin(job)
        assert halted(job) == (DataHaltReason.SUCCESSFUL, MoverHaltReason.CONNECT_CLOSED)
        assert plain.order() == ["pre"]
        job.data.hang_up()


@pytest.mark.parametrize("on_failure", ["fail", "go-on"])
def test_a_volume_that_has_no_snapshot(plain: Site, on_failure: str) -> None:
    """In memory there is none of Btrfs."""
    with plain.serve(BTRFS, f'on_failure = "{on_failure}"', plain.command("pre"), plain.command("post")) as server:
        if on_failure == "go-on":
            dump, warnings = plain.back_up(server)
            assert dump.tree().keys() == {b"", b"file"}
            why = f"{plain.volume} lies on tmpfs, not on btrfs"
            assert warnings == [f"volume v: no snapshot: {why}: the backup goes on with the live files"]
        else:
            with plain.connect(server) as job:
                plain.begin(job)
                assert halted(job) == (DataHaltReason.INTERNAL_ERROR, MoverHaltReason.CONNECT_ERROR)
                assert any("not on btrfs" in line for line in job.data.log())
                job.data.hang_up()
        plain.settle()
        assert plain.order() == ["pre", "post"]


@pytest.mark.parametrize("version", [1, 2])
def test_older_versions(plain: Site, version: int) -> None:
    """START makes the data connection with it, and sets up the mover too."""
    with plain.serve('kind = "none"', plain.command("pre"), plain.command("post")) as server:
        if version == 1:
            with v1_jobs.connect(server, plain.login) as client:
                v1_jobs.back_up(client, v1_jobs.env_of(plain.volume))
        else:
            plain.back_up(server, "--ndmp-version", str(version))
        plain.settle()
        assert plain.order() == ["pre", "post"]
