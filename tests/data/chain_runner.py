"""A destination whose chain of dumps is kept as control does it: a recover that ends well replaces the table."""

import os
from pathlib import Path

from mover.ring import Kind
from mover.workers.data_messages import Pairs
from tests.data.recover_runner import Outcome, name, recover, recover_here


class Destination:
    """A directory that levels are recovered into, and the table of what it holds.

    Attributes:
        path: of the directory, which the first recover makes.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "recovered"
        self._volume = directory
        self._table = directory.with_name(directory.name + ".names")

    @property
    def table(self) -> Path:
        """The file with the names."""
        return self._table

    def recover(
        self, stream: bytes, *, end: Kind = Kind.END, env: Pairs | None = None, user: int | None = None
    ) -> Outcome:
        """One dump of everything; ``user``: by a worker of this user."""
        new = self._table.with_suffix(".new")
        descriptors = [os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)]
        if self._table.exists():
            descriptors.append(os.open(self._table, os.O_RDWR))
        names = [name(self._volume, below=b"recovered")]
        try:
            if user is None:
                outcome = recover_here(stream, names, end=end, env=env, tables=descriptors)
            else:
                outcome = recover(stream, names, end=end, env=env, tables=descriptors, user=user)
        finally:
            for fd in descriptors:
                os.close(fd)
        if outcome.finished.table_kept:
            assert outcome.finished.reason == 1
            new.rename(self._table)
        else:
            new.unlink()
        return outcome
