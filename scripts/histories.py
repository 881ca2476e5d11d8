"""Lives through random histories of a tree: what each of their backups held comes back from its chain of levels.

Started by scripts/histories. A history is what happens to a tree between backups of random levels
(tests/support/histories.py). It goes in pieces: one way from a tree to a tree, one file system, one seed, so that a
piece can be had again. A history that fails is shrunk and kept in tests/corpus/histories, where the tests live through
it; what has been done is written into docs.
"""

import argparse
import contextlib
import hashlib
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Final

import msgspec
from bench_report import machine
from histories_report import Total, store

from tests.data.chain_histories import WAYS, Counts, prove_many
from tests.support import peers
from tests.support.histories import History
from tests.support.mounts import HOST, MAKERS, Ground, ground

CHECKOUT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = CHECKOUT / "docs"
FINDS: Final = CHECKOUT / "tests" / "corpus" / "histories"
KINDS: Final = [HOST, *MAKERS]
WEIGHTS: Final = {"dump": 5, "restore": 2, "plain": 1, "tar": 1, "tar-recover": 1}
"""Way -> how many pieces of ten."""
PIECE: Final = 100


def say(text: str) -> None:
    print(text, flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/histories", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--histories", type=int, default=1000, metavar="N", help="in all (1000)")
    parser.add_argument("--way", action="append", metavar="NAME", choices=WAYS,
                        help=f"only this one; may be repeated ({', '.join(WAYS)})")  # fmt: skip
    parser.add_argument("--on", action="append", metavar="KIND", choices=KINDS,
                        help=f"only on this file system; may be repeated ({', '.join(KINDS)}); all but"
                        " host take root")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="of the first piece, as a run has printed it (random)")
    options = parser.parse_args()
    for name in options.way or WAYS:
        for program in WAYS[name].programs:
            if peers.find(program) is None:
                parser.error(f"{WAYS[name].text}: {program} is not installed")
    return options


def keep(history: History) -> Path:
    """One file of a history that failed, named by its content."""
    text = msgspec.json.format(msgspec.json.encode(history), indent=1) + b"\n"
    path = FINDS / f"find-{hashlib.sha256(text).hexdigest()[:12]}.json"
    path.write_bytes(text)
    return path


def piece(name: str, where: Ground, count: int, seed: int) -> Total:
    """Some histories of one way; what fails is told and kept."""
    counts, started = Counts(), time.monotonic()
    finds = 0
    try:
        prove_many(WAYS[name], where, examples=count, number=seed, counts=counts)
    except Exception:  # noqa: BLE001 - whatever it is, it is a find
        assert counts.failed is not None, "not a history failed, but what lives through them"
        finds = 1
        say(f"{traceback.format_exc()}\nFIND {keep(counts.failed)}")
    return Total(counts.histories, counts.backups, counts.entries, round(time.monotonic() - started, 1), finds)


def main() -> int:
    """Entry point; 1 = there are finds."""
    options = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is mounted goes then, too
    ways = [name for name in options.way or WAYS for _ in range(WEIGHTS[name])]
    kinds = options.on or KINDS
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    left, finds = options.histories, 0
    with contextlib.ExitStack() as stack:
        grounds = [stack.enter_context(ground(kind)) for kind in kinds]
        missing = [kind for kind, where in zip(kinds, grounds, strict=True) if where.kind != kind]
        if missing and options.on:
            say(f"cannot be mounted here: {', '.join(missing)}")
            return 2
        while left > 0:
            # Neither of the two runs in step with the other, so that all pairs come.
            name, where = ways[seed % len(ways)], grounds[seed // len(ways) % len(grounds)]
            count = min(PIECE, left)
            total = piece(name, where, count, seed)
            rate = total.histories / max(0.1, total.seconds)
            say(f"seed {seed}: {name} on {where.kind}: {total.histories} histories ({rate:.0f}/s), {total.finds} finds")
            store(DOCS, name, where.kind, total, machine())
            finds += total.finds
            left -= count
            seed += 1
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
