"""The life of a forked copy of a worker: it does one piece of work, and nothing else of the worker runs on in it."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def work_and_leave(work: Callable[[], object]) -> NoReturn:
    """In the copy: do its work, then end the process; an error is told on standard error, and costs the worker time.

    That a socket of the worker's is gone (ConnectionError) is an end like any other: so is the worker.
    """
    status = 1
    try:
        work()
        status = 0
    except ConnectionError:
        status = 0
    except Exception:  # noqa: BLE001 - nothing of the copied worker may run on
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)
