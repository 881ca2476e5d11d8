"""The fuzz targets by name, each with what must hold of one input."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import trio
from trio.testing import MockClock

from mover.ndmp.table import VERSIONS
from tests.fuzz.stage import Judge, play_all, quiet_world
from tests.fuzz.wire import check_client, check_server

CORPUS: Final = Path(__file__).resolve().parent.parent / "corpus"
FINDS: Final = CORPUS / "finds"
CONNECTION: Final = "connection"

WIRE: Final[dict[str, Callable[[bytes], None]]] = {
    **{f"wire{version}": partial(check_server, version) for version in VERSIONS},
    "client": check_client,
}
"""Targets that are a function of the input."""
SESSIONS: Final = {f"session{version}": version for version in VERSIONS}
"""Short scripts on a connection that has this version opened and a login."""
PLAYED: Final[dict[str, int | None]] = {CONNECTION: None, **SESSIONS}
TARGETS: Final = (*WIRE, *PLAYED)
LENGTH_MAX: Final = dict.fromkeys(WIRE, 512) | {CONNECTION: 96} | dict.fromkeys(SESSIONS, 20)
"""Bytes of an input that the fuzzer makes."""


def run(target: str, inputs: Iterable[bytes], judge: Judge) -> None:
    """Give inputs to a target one after the other, and tell of each how it went."""
    if target in PLAYED:
        with quiet_world() as directory:
            trio.run(play_all, directory, PLAYED[target], inputs, judge, clock=MockClock(autojump_threshold=0))
        return
    check = WIRE[target]
    for data in inputs:
        failure: Exception | None = None
        try:
            check(data)
        except Exception as error:  # noqa: BLE001 - whatever escapes is the find
            failure = error
        judge(data, failure)


def stored(target: str) -> list[Path]:
    """The corpus and every find of a target."""
    return sorted([*(CORPUS / target).glob("*"), *(FINDS / target).glob("*")])
