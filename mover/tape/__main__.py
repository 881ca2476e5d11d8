"""The tape worker: ``python -I -m mover.tape FD``."""

import sys

from mover.tape.worker import TapeWorker
from mover.workers.frame import run

if __name__ == "__main__":
    sys.exit(run("tape", sys.argv, TapeWorker().handle))
