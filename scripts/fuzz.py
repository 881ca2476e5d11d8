"""Fuzzes the protocol core and the connection machine, guided by coverage (atheris, which is libFuzzer).

Started by scripts/fuzz. Each target runs in a process of its own (fuzz_child.py). Inputs that reached something new
are kept in the working directory .fuzz, the fewest of them that reach the same branches in tests/corpus, and of every
error one input in tests/corpus/finds, where the tests replay it.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
from bench_report import machine
from fuzz_report import ModuleCoverage, TargetTotal, load, store

from tests.fuzz import targets
from tests.fuzz.seeds import seeds

HERE: Final = Path(__file__).resolve().parent
DOCS: Final = HERE.parent / "docs"
WORK: Final = HERE.parent / ".fuzz"
EXECUTED: Final = re.compile(r"^(?:Done |#)(\d+)\b", re.MULTILINE)
REQUESTED: Final = re.compile(r"^REQUESTS (\d+)$", re.MULTILINE)
HANGS_S: Final = 60
"""Real seconds after which one input is a find."""
MEMORY_MB: Final = 2048


def say(text: str) -> None:
    print(text, flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", action="append", metavar="NAME", choices=targets.TARGETS,
                        help=f"only this one; may be repeated ({', '.join(targets.TARGETS)})")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=5.0, metavar="M", help="in all, shared evenly (5)")
    parser.add_argument("--executions", type=int, default=0, metavar="N", help="at most so many of each target")
    parser.add_argument("--keep", action="store_true", help="only bring tests/corpus up to date from .fuzz")
    parser.add_argument("--report", action="store_true", help="only replay tests/corpus and say what it covers")
    return parser.parse_args()


def fuzz(target: str, seconds: float, executions: int) -> TargetTotal:
    """Run one target for a while; returns how far it came."""
    corpus, finds = WORK / target, targets.FINDS / target
    for directory in (corpus, finds):
        directory.mkdir(parents=True, exist_ok=True)
    for path in targets.stored(target):
        shutil.copyfile(path, corpus / path.name)
    for seed in seeds(target):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    arguments = [
        str(corpus),
        f"-artifact_prefix={finds}/",
        f"-max_total_time={max(1, int(seconds))}",
        f"-max_len={targets.LENGTH_MAX[target]}",
        f"-timeout={HANGS_S}",
        f"-report_slow_units={HANGS_S}",  # a busy machine is no find
        f"-rss_limit_mb={MEMORY_MB}",
        "-reload=0",
        *([f"-runs={executions}"] if executions else []),
    ]
    known = len(list(finds.iterdir()))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mover-fuzz-") as scratch:
        log = Path(scratch) / "log"
        with open(log, "wb") as out:
            child = subprocess.run(
                [sys.executable, str(HERE / "fuzz_child.py"), target, str(finds), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | {"TMPDIR": scratch},
                check=False,
            )
        text = log.read_text(errors="replace")
    for find in text.split("FIND ")[1:]:
        say("FIND " + "\n".join(line for line in find.splitlines()[:80] if not line.startswith("#")))
    if child.returncode != 0:
        say(f"{text[-4000:]}\n{target}: exit status {child.returncode}")
    return TargetTotal(
        executions=max(map(int, EXECUTED.findall(text)), default=0),
        requests=max(map(int, REQUESTED.findall(text)), default=0),
        seconds=round(time.monotonic() - started),
        finds=len(list(finds.iterdir())) - known,
    )


def covering(*arguments: str) -> bytes:
    """What fuzz_coverage.py prints: it must be there before mover is imported."""
    command = [sys.executable, str(HERE / "fuzz_coverage.py"), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def main() -> int:
    """Entry point; 1 = there are finds."""
    options = parse()
    chosen = options.target or list(targets.TARGETS)
    if options.keep:
        for target in chosen:
            say(f"{target}: {covering('keep', target, str(WORK / target)).decode().strip()} inputs in tests/corpus")
    if options.report:
        modules = msgspec.json.decode(covering("measure"), type=dict[str, ModuleCoverage])
        record = load(DOCS).with_coverage(modules)
        store(record, DOCS)
        say(record.table())
    if options.keep or options.report:
        return 0
    finds = 0
    for target in chosen:
        total = fuzz(target, options.minutes * 60 / len(chosen), options.executions)
        finds += total.finds
        rate = total.executions / max(1, total.seconds)
        say(f"{target}: {total.executions} executions in {total.seconds} s ({rate:.0f}/s), {total.finds} finds")
        store(load(DOCS).plus(target, total, machine()), DOCS)
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
