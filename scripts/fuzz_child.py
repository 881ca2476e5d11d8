"""The process of one fuzz target: fuzz_child.py TARGET DIRECTORY-OF-FINDS ARGUMENTS-OF-LIBFUZZER..."""

import hashlib
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["mover.ndmp", "mover.control"], enable_loader_override=False):
    from tests.fuzz import targets
    from tests.fuzz.model import Dialogue
    from tests.fuzz.stage import Turns, quiet_world

TOLD_EVERY: Final = 500


def say(text: str) -> None:
    print(text, flush=True)


class Finds:
    """Keeps one input of each error."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: set[tuple[str, ...]] = set()

    def judge(self, data: bytes, failure: Exception | None) -> None:
        """Store the input when it failed in a way not seen before."""
        if failure is None:
            return
        lines = traceback.format_exception(failure)
        kind = tuple(re.sub(r"\d+", "#", line) for line in lines[-3:])
        if kind in self._known:
            return
        self._known.add(kind)
        path = self._directory / hashlib.sha256(data).hexdigest()[:16]
        path.write_bytes(data)
        say(f"FIND {path}\n{''.join(lines)}")


class Scripts:
    """Plays inputs of a connection target, and tells how many requests they sent."""

    def __init__(self, target: str, directory: Path, finds: Finds) -> None:
        self._finds = finds
        self._played = 0
        self._play = Turns(directory, targets.PLAYED[target], self._judge)

    def _judge(self, data: bytes, failure: Exception | None) -> None:
        self._finds.judge(data, failure)
        self._played += 1
        if self._played % TOLD_EVERY == 0:
            say(f"\nREQUESTS {Dialogue.requests_sent}")

    def __call__(self, data: bytes) -> None:
        try:
            self._play(data)
        except BaseException:  # noqa: BLE001 - whatever it is, it is told, and the end
            traceback.print_exc()
            os._exit(3)  # it is no script's failure: nothing more can be played


class Direct:
    """Gives an input to a target that is a function."""

    def __init__(self, target: str, finds: Finds) -> None:
        self._check = targets.WIRE[target]
        self._finds = finds

    def __call__(self, data: bytes) -> None:
        try:
            self._check(data)
        except Exception as failure:  # noqa: BLE001 - whatever escapes is the find
            self._finds.judge(data, failure)


def main() -> None:
    """Hand this process over to the fuzzer."""
    program, target, directory, *arguments = sys.argv
    finds = Finds(Path(directory))
    with quiet_world() as scratch:
        run = Scripts(target, scratch, finds) if target in targets.PLAYED else Direct(target, finds)
        atheris.Setup([program, *arguments], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
