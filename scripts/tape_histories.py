"""Lives through random histories of a virtual drive: operations with kills, switched-off hosts and failing disks.

Started by scripts/tape-histories. The histories and what must hold after each step are tests/tape/histories.py; the
tests live through 500 of a fixed seed. A history that fails is shrunk and printed, and its piece can be had again.
"""

import argparse
import random
import sys
import time
import traceback
from typing import Final

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.tape.histories import TapeHistory

PIECE: Final = 500
STEPS: Final = 20


def live_through(count: int, number: int) -> bool:
    """Whether so many histories of this seed all hold; what does not is printed."""
    machine = seed(number)(TapeHistory)
    rules = settings(
        max_examples=count,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=rules)
    except Exception:  # noqa: BLE001 - whatever it is, it is a find
        print(traceback.format_exc(), flush=True)
        return False
    return True


def main() -> int:
    """Entry point; 1 = there are finds."""
    parser = argparse.ArgumentParser(prog="scripts/tape-histories", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--histories", type=int, default=1000, metavar="N", help="in all (1000)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the first piece, as a run has printed it (random)")
    options = parser.parse_args()
    number = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    left, finds, started = options.histories, 0, time.monotonic()
    while left > 0:
        count = min(PIECE, left)
        good = live_through(count, number)
        finds += not good
        print(f"seed {number}: {count} histories, {'all hold' if good else 'FIND'}", flush=True)
        left -= count
        number += 1
    counts = ", ".join(f"{total:,} {name}" for name, total in sorted(TapeHistory.happened.items()))
    print(f"{counts}; {finds} finds in {time.monotonic() - started:.0f} s")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
