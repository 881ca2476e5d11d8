"""The data worker: ``python -I -m mover.data FD``. All is imported before the first message, for a warm spare."""

import mover.workers.lean  # noqa: F401  # first, or it is too late

# isort: split
import sys

from mover.data import backup, recover
from mover.data.rights import MOST, need
from mover.ring import RingControl
from mover.workers.channel import Channel, ChannelBroken
from mover.workers.data_messages import CheckBackup, Place, StartBackup, StartRecover, StartRecoverFilehist
from mover.workers.frame import run
from mover.workers.messages import ToWorker

NO_DIRECTORY = b"/dev/null"


def handle(channel: Channel, message: ToWorker) -> None:
    """One data operation, from its request to its DataFinished."""
    match message:
        case StartBackup():
            backup.start(channel, message)
        case CheckBackup():
            backup.check(channel, message)
        case StartRecover() | StartRecoverFilehist():
            recover.start(channel, message)
        case _:
            raise ChannelBroken(f"{type(message).__name__} was sent to a data worker")


def rehearsal() -> tuple[ToWorker, list[int]]:
    """A backup of what is no directory."""
    ring = RingControl(4096, 4)
    descriptors = ring.duplicate()
    ring.close()
    env = [(b"FILESYSTEM", NO_DIRECTORY), (b"HIST", b"n"), (b"LEVEL", b"0")]
    return StartBackup("dump", Place(NO_DIRECTORY, b""), NO_DIRECTORY, env, None, "host"), list(descriptors)


if __name__ == "__main__":
    sys.exit(run("data", sys.argv, handle, need, capabilities=MOST, rehearsal=rehearsal))
