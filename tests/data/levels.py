"""Backs a tree up at several levels, with the test as control: it keeps the dates and the inode tables."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from mover.data import backup
from mover.workers.data_messages import BackupDate, HistoryPlan
from tests.data.backup_runner import CLOCK_REALTIME_COARSE, Outcome, backup_here, request


class Kept(NamedTuple):
    """A backup that others can be based on."""

    level: int
    date: BackupDate
    table: Path
    since_ns: int


class Levels:
    """The backups of one tree.

    What has changed since a base is found to the tick of the kernel's clock instead of to the second, so that a test
    need not wait for a second between a backup and the next change.
    """

    def __init__(
        self, tree: bytes | str | os.PathLike[str], state: Path, monkeypatch: pytest.MonkeyPatch, butype: str = "dump"
    ) -> None:
        """Args: state: an empty directory."""
        self._butype = butype
        self.tree = os.fsencode(tree)
        self.kept: list[Kept] = []
        self._state = state
        self._count = 0
        monkeypatch.setattr(backup, "since_ns", self._since_ns)

    def _since_ns(self, base: BackupDate) -> int:
        (since,) = [kept.since_ns for kept in self.kept if kept is self._base]
        return since

    def backup(
        self,
        level: int,
        *,
        env: Sequence[tuple[bytes, bytes]] = (),
        history: HistoryPlan | None = None,
        update: bool = True,
    ) -> Outcome:
        """A backup of this level, based on the latest of a lower one."""
        lower = [kept for kept in self.kept if kept.level < level]
        self._base = lower[-1] if lower else None
        self._count += 1
        table = self._state / f"table-{self._count}"
        _wait_for_a_tick()
        since_ns = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
        message = request(
            os.fsdecode(self.tree),
            env=env,
            history=history,
            butype=self._butype,
            level=level,
            base=self._base.date if self._base is not None else None,
            keeps_table=True,
        )
        files = [os.open(table, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)]
        if self._base is not None:
            files.insert(0, os.open(self._base.table, os.O_RDONLY))
        try:
            outcome = backup_here(message, files=files)
        finally:
            for fd in files:
                os.close(fd)
        date = outcome.finished.date
        assert date is not None
        if update:
            self.kept = [kept for kept in self.kept if kept.level != level]
            self.kept.append(Kept(level, date, table, since_ns))
        return outcome


def _wait_for_a_tick() -> None:
    """What was changed before has an earlier time of change than the backup that begins now."""
    now = time.time_ns()  # a time of change can be finer than the coarse clock
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= now:
        time.sleep(0.0005)
