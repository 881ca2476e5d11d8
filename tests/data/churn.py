"""Processes that create, grow, shrink, rename, link and delete in one directory for as long as they are let."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROCESSES: Final = 10
DEADLINE_S: Final = 60
_PROGRAM: Final = """
import os, random, select, sys

def name():
    place = choose.choice(["", "", "a/", "b/", "c/", "c/below/"])
    return f"{place}{choose.randrange(40)}"

def write(flag):
    # A fifo of this name is not to be waited for.
    fd = os.open(name(), os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | flag, 0o644)
    try:
        os.write(fd, choose.randbytes(choose.choice([0, 10, 5000, 200_000])))
    finally:
        os.close(fd)

def resize():
    os.truncate(name(), choose.choice([0, 1, 4096, 100_000, 2_000_000]))

def directory():
    made = choose.choice(["a", "b", "c", "c/below"])
    if choose.random() < 0.5:
        os.makedirs(made, exist_ok=True)
    else:
        os.rename(made, choose.choice(["a", "b", "c", "d", "c/below"]))

ACTIONS = [
    lambda: write(os.O_TRUNC), lambda: write(os.O_TRUNC), lambda: write(os.O_APPEND), resize,
    lambda: os.rename(name(), name()), lambda: os.rename(name(), name()),
    lambda: os.unlink(name()), lambda: os.link(name(), name()), lambda: os.symlink("x" * 70, name()),
    lambda: os.mkfifo(name()), lambda: os.chmod(name(), choose.choice([0o600, 0o644])), directory,
]
choose = random.Random(int(sys.argv[1]))
turns = 0
while not select.select([0], [], [], 0)[0]:
    try:
        choose.choice(ACTIONS)()
    except OSError:
        pass  # another one was there first
    turns += 1
    if turns == 30:
        print("at work", flush=True)
"""


@contextlib.contextmanager
def churning(directory: Path) -> Iterator[None]:
    """Ten of them are at work in the directory until the end."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, str(number)],
            cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"at work\n"
        yield
        assert [process.poll() for process in processes] == [None] * PROCESSES, "one of them did not go on to the end"
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            assert process.stdout is not None
            process.stdout.close()
            try:
                process.wait(DEADLINE_S)
            finally:
                process.kill()
                process.wait()
