"""The tape worker: ``python -I -m mover.tape FD``."""

import os
import sys

from mover.tape.worker import TapeWorker
from mover.workers.confine import CHANGE, Grant
from mover.workers.frame import run
from mover.workers.messages import DriveSpec, OpenDrive, ToWorker


def need(message: ToWorker) -> Grant:
    """The directory of the cartridge: the cartridge itself and what lies beside it."""
    if isinstance(message, OpenDrive) and isinstance(message.drive, DriveSpec) and message.drive.path is not None:
        return Grant(trees=((os.path.dirname(os.fsencode(message.drive.path)), CHANGE),))
    return Grant()


if __name__ == "__main__":
    sys.exit(run("tape", sys.argv, TapeWorker().handle, need))
