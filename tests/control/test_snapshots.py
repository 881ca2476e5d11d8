"""The life of a snapshot as its task lives it, with real helper processes and a ZFS that is a shell script."""

import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from mover.config import Config, Node, Snapshot
from mover.control.snapshots import Snapshots, VolumeSnapshot
from mover.ndmp.enums import LogType
from tests.support.processes import is_gone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
DEADLINE_S: Final = 240
NEVER_S: Final = 600

# What zfs(8) does to the one dataset of the tests. A file ``slow`` or ``broken`` beside it holds the name of a command
# that waits for the file to go, or fails.
ZFS: Final = """#!/bin/sh
echo "zfs $1" >> {site}/order
if [ "$(cat {site}/broken 2>/dev/null)" = "$1" ]; then echo "dataset is busy" >&2; exit 1; fi
: > {site}/$1.began
while [ "$(cat {site}/slow 2>/dev/null)" = "$1" ]; do sleep 0.02; done
place={site}/volume/.zfs/snapshot
case $1 in
    snapshot) mkdir "$place/${{2#tank@}}" && cp {site}/volume/file "$place/${{2#tank@}}" ;;
    destroy) rm -r "$place/${{2#tank@}}" ;;
    list) for each in $(ls "$place"); do echo "tank@$each"; done ;;
esac
"""


class Site:
    """A volume, its fake ZFS, commands, and what was run in which order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.volume = directory / "volume"
        (self.volume / ".zfs/snapshot").mkdir(parents=True)
        (self.volume / "file").write_bytes(b"content")
        self.program("bin/zfs", ZFS.format(site=directory))
        self.dates: list[int] = []

    def program(self, name: str, text: str) -> str:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(stat.S_IRWXU)
        return str(path)

    def command(self, name: str, text: str = "") -> list[str]:
        """A command that notes that it began, and that it ended."""
        site = self.directory
        return [
            self.program(
                name,
                f"#!/bin/sh\n: > {site}/{name}.began\n{text}\necho {name} >> {site}/order\n: > {site}/{name}.done\n",
            )
        ]

    def plan(self, *, kind: str = "zfs", pre: str = "", post: str = "", timeout_s: int = NEVER_S) -> Snapshot:
        return Snapshot(
            volume="v",
            kind=kind,  # type: ignore[arg-type]  # a kind
            dataset="tank" if kind == "zfs" else "",
            pre=self.command("pre", pre),
            post=self.command("post", post),
            timeout_s=timeout_s,
        )

    def begin(self, snapshots: Snapshots, plan: Snapshot) -> VolumeSnapshot:
        return snapshots.begin(plan, os.fsencode(self.volume), lambda: self.dates.append(len(self.order())))

    def order(self) -> list[str]:
        path = self.directory / "order"
        return path.read_text().splitlines() if path.exists() else []

    def set(self, mood: str, command: str) -> None:
        (self.directory / mood).write_text(command)

    def unset(self, mood: str) -> None:
        (self.directory / mood).unlink()

    def made(self) -> list[str]:
        return sorted(os.listdir(self.volume / ".zfs/snapshot"))

    def leases(self) -> list[str]:
        path = self.directory / "state/snapshots"
        return sorted(os.listdir(path)) if path.exists() else []

    async def wait_for(self, name: str) -> None:
        while not (self.directory / name).exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.01)

    async def all_gone(self) -> None:
        while self.leases() or self.made():  # noqa: ASYNC110 - the files say it
            await trio.sleep(0.01)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    yield Site(tmp_path)
    assert helpers() == []


def config(site: Site, *plans: Snapshot) -> Config:
    state = str(site.directory / "state")
    return Config(node=Node(name="n", state_directory=state, volumes={"v": str(site.volume)}), snapshot=list(plans))


@asynccontextmanager
async def serving(site: Site, *plans: Snapshot, finish: bool = True) -> AsyncIterator[Snapshots]:
    """The snapshots of a running server; without ``finish`` it is as if it were killed."""
    with trio.fail_after(DEADLINE_S), pytest.MonkeyPatch.context() as patched:
        patched.setattr("mover.control.snapshots.STOP_S", DEADLINE_S)
        async with trio.open_nursery() as nursery:
            snapshots = Snapshots(str(site.directory / "state/snapshots"), nursery)
            await snapshots.take_up(config(site, *plans))
            yield snapshots
            if finish:
                await snapshots.finish()
            nursery.cancel_scope.cancel()


def helpers() -> list[psutil.Process]:
    """The helpers of this process."""
    found = []
    for child in psutil.Process().children():
        try:
            if "mover.snapshot" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


async def lines_of(held: VolumeSnapshot) -> list[tuple[int, str]]:
    """What the DMA is told, until it is settled whether there is a snapshot."""
    return [(line.log_type, line.text.decode()) async for line in held.lines]


async def test_the_whole_life(site: Site) -> None:
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan(pre="echo quiet", post="echo loud"))
        assert await lines_of(held) == [(LogType.NORMAL, "quiet"), (LogType.NORMAL, "loud")]
        assert (held.failure, held.told.is_set()) == ("", True)
        assert held.made is not None
        assert held.made.path == os.fsencode(site.volume / ".zfs/snapshot" / held.name)
        assert site.order() == ["pre", "zfs snapshot", "post"]
        assert site.dates == [1]
        assert (site.made(), site.leases()) == ([held.name], [f"{held.name}.json"])
        held.release()
        await site.all_gone()
    assert site.order() == ["pre", "zfs snapshot", "post", "zfs list", "zfs destroy"]


async def test_commands_without_a_snapshot(site: Site) -> None:
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan(kind="none"))
        await held.told.wait()
        assert (held.failure, held.made, site.order()) == ("", None, ["pre"])
        assert site.leases() == [f"{held.name}.json"]
        held.release()
        await site.all_gone()
    assert site.order() == ["pre", "post"]


async def test_a_pre_that_fails_by_itself_has_no_post(site: Site) -> None:
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan(pre="echo no; exit 4"))
        assert await lines_of(held) == [(LogType.NORMAL, "no")]
        assert held.failure == "pre: pre failed (exit status 4): no"
        held.release()
        await site.all_gone()
    assert site.order() == []


async def test_a_pre_that_hangs_is_ended_and_has_its_post(site: Site) -> None:
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan(pre=f"exec sleep {NEVER_S}", timeout_s=4))
        await held.told.wait()
        assert held.failure == "pre: pre did not end within 4 s"
        held.release()
        await site.all_gone()
    assert site.order() == ["post"]


async def test_a_snapshot_that_fails_has_its_post(site: Site) -> None:
    site.set("broken", "snapshot")
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan())
        await held.told.wait()
        assert held.failure == "zfs failed (exit status 1): dataset is busy"
        await site.all_gone()
    assert site.order()[:3] == ["pre", "zfs snapshot", "post"]
    assert "zfs destroy" not in site.order()


async def test_a_post_that_fails_is_told_and_ends_nothing(site: Site) -> None:
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan(post="echo stuck; exit 1"))
        assert await lines_of(held) == [
            (LogType.NORMAL, "stuck"),
            (LogType.ERROR, "volume v: post: post failed (exit status 1): stuck"),
        ]
        assert (held.failure, held.made is not None) == ("", True)
        held.release()
        await site.all_gone()


@pytest.mark.parametrize("end", ["release", "stop"])
async def test_an_end_while_pre_runs(end: str, site: Site) -> None:
    """It is killed at once, and ``post`` undoes what it may have done."""
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan(pre=f"sleep {NEVER_S}"))
        await site.wait_for("pre.began")
        if end == "release":
            held.release()
            await held.told.wait()
            await site.all_gone()
    assert (held.failure, site.order(), site.leases()) == ("the backup was ended", ["post"], [])


async def test_an_end_while_the_snapshot_is_made(site: Site) -> None:
    """What has begun is waited for and undone."""
    site.set("slow", "snapshot")
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan())
        await site.wait_for("snapshot.began")
        held.release()
        site.unset("slow")
        await site.all_gone()
    assert site.order() == ["pre", "zfs snapshot", "post", "zfs list", "zfs destroy"]


@pytest.mark.parametrize("phase", ["pre", "snapshot", "post"])
async def test_a_helper_that_is_killed(phase: str, site: Site) -> None:
    if phase == "snapshot":
        site.set("slow", phase)
    wait = "exec sleep 1"
    async with serving(site) as snapshots:
        held = site.begin(
            snapshots, site.plan(pre=wait if phase == "pre" else "", post=wait if phase == "post" else "")
        )
        await site.wait_for(f"{phase}.began")
        (helper,) = helpers()
        helper.kill()
        if phase == "snapshot":
            site.unset("slow")
        await held.told.wait()
        died = f"the snapshot worker (pid {helper.pid}) died: signal SIGKILL"
        assert held.failure == {"pre": f"pre: {died}", "snapshot": died, "post": ""}[phase]
        held.release()
        await site.all_gone()
    assert ("post" in site.order()) == (phase != "post")


async def test_what_cannot_be_removed_is_removed_at_the_next_start(site: Site) -> None:
    with capture_logs() as logs:
        async with serving(site) as snapshots:
            held = site.begin(snapshots, site.plan())
            await held.told.wait()
            site.set("broken", "destroy")
            held.release()
        (line,) = [each for each in logs if "not removed" in each["event"]]
        assert line["why"] == (f"zfs failed (exit status 1): dataset is busy; by hand: zfs destroy tank@{held.name}")
        assert (site.made(), site.leases()) == ([held.name], [f"{held.name}.json"])
        async with serving(site):
            pass  # tried again, in vain
        assert site.made() == [held.name]
        site.unset("broken")
        async with serving(site):
            await site.all_gone()
    assert site.order().count("post") == 1


async def test_what_was_busy_is_removed_later(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mover.control.snapshots.RETRY_S", 0.05)
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan())
        await held.told.wait()
        site.set("broken", "destroy")
        held.release()
        while site.order().count("zfs destroy") < 2:  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.01)
        assert (site.made(), site.leases()) == ([held.name], [f"{held.name}.json"])
        site.unset("broken")
        await site.all_gone()
    assert site.order().count("post") == 1


@pytest.mark.parametrize("phase", ["pre", "snapshot", "read"])
async def test_a_crash_in_each_phase_is_undone_at_the_next_start(phase: str, site: Site) -> None:
    if phase == "snapshot":
        site.set("slow", phase)
    async with serving(site, finish=False) as snapshots:
        held = site.begin(snapshots, site.plan(pre=f"exec sleep {NEVER_S}" if phase == "pre" else ""))
        if phase == "read":
            await held.told.wait()
        else:
            await site.wait_for(f"{phase}.began")
        if phase == "snapshot":
            site.unset("slow")  # it is waited for, whoever has gone
    assert site.leases() == [f"{held.name}.json"]
    async with serving(site):
        await site.all_gone()
    assert site.order().count("post") == 1


async def test_two_backups_have_a_snapshot_each_and_are_quiet_one_after_the_other(site: Site) -> None:
    async with serving(site) as snapshots:
        plan = site.plan()
        both = [site.begin(snapshots, plan) for _ in range(2)]
        for held in both:
            await held.told.wait()
        assert site.order() == ["pre", "zfs snapshot", "post"] * 2
        assert site.made() == sorted(held.name for held in both)
        for held in both:
            held.release()
        await site.all_gone()


async def test_one_that_waits_for_another_ends_at_once(site: Site) -> None:
    async with serving(site) as snapshots:
        plan = site.plan(pre=f"sleep {NEVER_S}")
        first = site.begin(snapshots, plan)
        await site.wait_for("pre.began")
        second = site.begin(snapshots, plan)
        second.release()
        await second.told.wait()
        assert second.failure == "the backup was ended"
        assert not first.told.is_set()


async def test_without_a_snapshot_the_volume_is_at_rest_until_its_backup_is_over(site: Site) -> None:
    """The first one's ``post`` must not wake a database while the second one reads."""
    async with serving(site) as snapshots:
        plan = site.plan(kind="none")
        first = site.begin(snapshots, plan)
        await first.told.wait()
        second = site.begin(snapshots, plan)
        await trio.testing.wait_all_tasks_blocked()
        assert (second.told.is_set(), second.doing) == (False, "another backup of volume v")
        first.release()
        await second.told.wait()
        assert (second.failure, site.order()) == ("", ["pre", "post", "pre"])
        second.release()
    assert site.order() == ["pre", "post"] * 2


async def test_what_a_crash_left_is_undone_before_the_next_backup_begins(site: Site) -> None:
    """A ``post`` of old must not wake a database between ``pre`` and snapshot of a new backup."""
    waits = f"while [ -e {site.directory}/hold ]; do sleep 0.02; done"
    async with serving(site, finish=False) as snapshots:
        held = site.begin(snapshots, site.plan(kind="none", post=waits))
        await held.told.wait()
    (site.directory / "hold").touch()
    async with serving(site) as snapshots:
        await site.wait_for("post.began")
        after = site.begin(snapshots, site.plan(post=waits))
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert not after.told.is_set()
        assert site.order() == ["pre"]
        site.unset("hold")
        await after.told.wait()
        assert site.order() == ["pre", "post", "pre", "zfs snapshot", "post"]
        after.release()
        await site.all_gone()


async def test_snapshots_that_no_lease_names_are_told_of_and_stay(site: Site) -> None:
    names = ["mover-0123456789abcdef", "daily"]
    for name in names:
        (site.volume / ".zfs/snapshot" / name).mkdir()
    with capture_logs() as logs:
        async with serving(site, site.plan()):
            pass
    assert site.made() == sorted(names)
    (line,) = [each for each in logs if "no lease" in each["event"]]
    assert line["snapshots"] == names[:1]


async def test_without_a_lease_nothing_begins(site: Site) -> None:
    (site.directory / "state").write_text("not a directory")
    async with serving(site) as snapshots:
        held = site.begin(snapshots, site.plan())
        await held.told.wait()
        assert held.failure.startswith("the lease of a snapshot cannot be kept: ")
    assert site.order() == []
    (site.directory / "state").unlink()


async def test_a_file_that_is_no_lease_is_told_of_and_stays(site: Site) -> None:
    place = site.directory / "state/snapshots"
    place.mkdir(parents=True)
    (place / "mover-0123456789abcdef.json").write_text("{")
    (place / "mover-0123456789abcdef.json.new").write_text("{")  # of a server that was killed: goes
    (place / "mover-00000000000000ff.json").write_text(
        '{"name": "../../x", "volume": "v", "source": null, "post": ["/bin/false"], "timeout_s": 5}'
    )
    with capture_logs() as logs:
        async with serving(site):
            pass
    assert len([each for each in logs if "nobody removes" in each["event"]]) == 2
    assert len(site.leases()) == 2


SERVER: Final = """
import sys, trio
from mover.config import Snapshot
from mover.control.snapshots import Snapshots

async def main():
    async with trio.open_nursery() as nursery:
        plan = Snapshot(volume="v", kind="none", pre=[sys.argv[1]])
        Snapshots(sys.argv[2], nursery).begin(plan, b"/", lambda: None)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_helper_and_command_end_with_a_server_that_is_killed(site: Site) -> None:
    note = site.directory / "pid"
    (pre,) = site.command("pre", f"echo $$ > {note}; exec sleep {NEVER_S}")
    state = str(site.directory / "state/snapshots")
    with trio.fail_after(DEADLINE_S):
        process = await trio.lowlevel.open_process([sys.executable, "-c", SERVER, pre, state])
        while not (note.exists() and note.read_text().endswith("\n")):  # noqa: ASYNC110 - another process writes it
            await trio.sleep(0.01)
        pids = [each.pid for each in psutil.Process(process.pid).children(recursive=True)]
        assert int(note.read_text()) in pids
        assert len(pids) == 2
        process.send_signal(signal.SIGKILL)
        await process.wait()
        while not all(map(is_gone, pids)):  # noqa: ASYNC110 - nobody tells of a stranger's end
            await trio.sleep(0.01)
