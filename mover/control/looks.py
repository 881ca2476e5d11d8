"""Looks at files that may lie on a file system that has died: in a thread, for so long, and not in many threads.

A call on one blocks until the file system comes back, or for good, and no signal ends it. Here the loop goes on, who
asked is told, and the thread is left behind. Of each place two threads may be, so that those left behind do not pile
up, and one dead place takes no thread from another. For calls that change nothing: one that is left behind may be done
at any time.
"""

import errno
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

import trio

LOOK_S: Final = 30.0  # a disk that starts to turn, or a mount that is made for the look, takes half of that
THREADS_OF_ONE: Final = 2

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_limiters: Final[dict[str, trio.CapacityLimiter]] = {}


async def look(place: str, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """What ``work`` returns.

    Args:
        place: the directory that it looks into, one of the configuration: of each something is kept.

    Raises:
        OSError: as ``work`` does; ETIMEDOUT with the place, when it has not answered.
    """
    limiter = _limiters.setdefault(place, trio.CapacityLimiter(THREADS_OF_ONE))
    with trio.move_on_after(LOOK_S):
        return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True, limiter=limiter)
    raise OSError(errno.ETIMEDOUT, f"does not answer for {LOOK_S:g} s", place)
