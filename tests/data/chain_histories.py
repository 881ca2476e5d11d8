"""Lives through histories: after each of its backups the tree must come back from the chain that leads there.

One process does it all, so that a history takes some ten milliseconds a backup. A chain that goes on where another
ended is laid over what that one has made, the others are begun anew; each is compared with the tree as it is then.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from mover.data import file_systems
from mover.dma.compare import Difference, compare_trees
from tests.data.chain_dumper import ChainDumper
from tests.data.chain_peers import RestoreChain, TarChain
from tests.data.chain_runner import Destination
from tests.data.dump_reader import parse
from tests.data.levels import Levels
from tests.data.recover_runner import name, recover_here
from tests.support.histories import History, Life, chain, histories
from tests.support.mounts import Ground

Dump = Callable[[int], bytes]


class Chain(Protocol):
    """A directory that levels are laid into."""

    def lay(self, stream: bytes) -> None:
        """The next level."""

    def differences(self, tree: bytes) -> list[Difference]:
        """What is not as in the tree."""


class OurChain:
    """A directory that our own recover lays levels of type dump into."""

    def __init__(self, directory: Path) -> None:
        """Args: directory: an empty one."""
        volume = directory / "volume"
        volume.mkdir()
        self._destination = Destination(volume)

    def lay(self, stream: bytes) -> None:
        """One level."""
        outcome = self._destination.recover(stream)
        assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), (outcome.finished.text, outcome.text())
        assert outcome.status == {b"": 0}
        assert outcome.finished.table_kept

    def differences(self, tree: bytes) -> list[Difference]:
        """What is not as in the tree."""
        return compare_trees(tree, self._destination.path, exempt=tiny_hole).differences


class OurTarChain:
    """A directory that our own recover lays levels of type tar into, and removes what they do not list."""

    def __init__(self, directory: Path) -> None:
        """Args: directory: an empty one."""
        self._volume = directory

    def lay(self, stream: bytes) -> None:
        """One level."""
        names = [name(self._volume, below=b"recovered")]
        outcome = recover_here(stream, names, butype="tar", env=[(b"EXTRACT", b"N")])
        assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), (outcome.finished.text, outcome.text())
        assert outcome.status == {b"": 0}

    def differences(self, tree: bytes) -> list[Difference]:
        """What is not as in the tree."""
        return compare_trees(tree, self._volume / "recovered", exempt=tiny_hole).differences


def tiny_hole(path: bytes, status: os.stat_result, what: str) -> bool:
    """A hole that a backup does not see, since attributes take the blocks that it leaves."""
    return what == "holes" and status.st_size <= 8192


def our_dumps(life: Life, state: Path, monkeypatch: pytest.MonkeyPatch) -> Dump:
    """Our own backup of type dump."""
    levels = Levels(life.tree, state, monkeypatch)

    def dump(level: int) -> bytes:
        outcome = levels.backup(level)
        assert (outcome.finished.reason, outcome.finished.errors, outcome.lines(2, 3)) == (1, 0, [])
        parse(outcome.stream)
        return outcome.stream

    return dump


def our_tars(life: Life, state: Path, monkeypatch: pytest.MonkeyPatch) -> Dump:
    """Our own backup of type tar."""
    levels = Levels(life.tree, state, monkeypatch, "tar")

    def dump(level: int) -> bytes:
        outcome = levels.backup(level)
        assert (outcome.finished.reason, outcome.finished.errors, outcome.lines(2, 3)) == (1, 0, [])
        return outcome.stream

    return dump


def plain_dumps(life: Life, state: Path, monkeypatch: pytest.MonkeyPatch) -> Dump:
    """A dumper of the tests that does not go by times."""
    return ChainDumper(life.tree).dump


class Way(NamedTuple):
    """From a tree to a tree."""

    text: str
    dumps: Callable[[Life, Path, pytest.MonkeyPatch], Dump]
    chain: Callable[[Path], Chain]
    programs: tuple[str, ...] = ()  # peers that it takes


WAYS = {
    "dump": Way("our dump, our recover", our_dumps, OurChain),
    "restore": Way("our dump, Debian's restore -r", our_dumps, RestoreChain, ("restore",)),
    "plain": Way("a dumper that does not go by times, our recover", plain_dumps, OurChain),
    "tar": Way("our tar, GNU tar -xG", our_tars, TarChain, ("tar",)),
    "tar-recover": Way("our tar, our recover", our_tars, OurTarChain),
}


class Counts:
    """What was lived through without a difference, before one that failed was shrunk."""

    def __init__(self) -> None:
        self.histories = 0
        self.backups = 0
        self.entries = 0  # of the trees, over all backups
        self.failed: History | None = None  # the last one that did

    def __str__(self) -> str:
        return f"{self.histories} histories, {self.backups} backups of {self.entries} entries"


def prove(way: Way, where: Ground, history: History, counts: Counts) -> None:
    """Live through one history.

    Raises:
        AssertionError: a tree does not come back as it was.
    """
    directories = [Path(tempfile.mkdtemp(dir=place)) for place in (where.trees, where.places)]
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(file_systems, "syncfs", lambda fd: None)  # no disk is waited for
            _live(way, directories[0], directories[1], history, monkeypatch, counts)
    except BaseException:
        counts.failed = history
        raise
    finally:
        for directory in directories:
            shutil.rmtree(directory)
    if counts.failed is None:
        counts.histories += 1


def _live(
    way: Way, trees: Path, places: Path, history: History, monkeypatch: pytest.MonkeyPatch, counts: Counts
) -> None:
    life = Life(trees)
    state = places / "state"
    state.mkdir()
    dump = way.dumps(life, state, monkeypatch)
    streams: list[bytes] = []
    standing: dict[tuple[int, ...], Chain] = {}
    for turn, (level, steps) in enumerate(history):
        life.live(steps)
        streams.append(dump(level))
        whole = tuple(chain(history, turn))
        laid, left = standing.pop(whole[:-1], None), whole[-1:]
        if laid is None:
            place = places / f"chain-{turn}"
            place.mkdir()
            laid, left = way.chain(place), whole
        for each in left:
            laid.lay(streams[each])
        assert [str(one) for one in laid.differences(life.tree)] == []
        standing[whole] = laid
        if counts.failed is None:
            counts.backups += 1
            counts.entries += 1 + len(life.entries())


def prove_many(way: Way, where: Ground, *, examples: int, number: int, counts: Counts) -> None:
    """Live through random histories; the same number draws the same ones. One that fails is shrunk.

    Raises:
        AssertionError: a tree does not come back as it was; its note names the history, ``counts.failed`` is it.
    """

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories())
    def any_history(history: History) -> None:
        prove(way, where, history, counts)

    any_history()
