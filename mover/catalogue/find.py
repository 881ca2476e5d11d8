"""Finds what a code, a number, a line of a log or a word means."""

import difflib
import re
from typing import Final

from mover.catalogue.commands import ADMIN_CODES, EXITS
from mover.catalogue.entry import Entry
from mover.catalogue.faults import FAULTS
from mover.catalogue.log_lines import LOG_LINES
from mover.catalogue.protocol import ERRORS, STOPS

ENTRIES: Final = (*ERRORS, *STOPS, *EXITS, *ADMIN_CODES, *LOG_LINES, *FAULTS)
WORD_MIN: Final = 3  # letters of what is looked for in texts
SUGGESTIONS: Final = 5
_PREFIX: Final = re.compile(r"^NDMP\d?_", re.IGNORECASE)
_GROUP: Final = re.compile(r"^(?:(?:data|mover)_(?:halt|pause)|connection|recovery)_")  # of a reason to stop
_NUMBER: Final = re.compile(r"^(?:0x[0-9a-f]{1,8}|[0-9]{1,9})$", re.IGNORECASE)


def find(wanted: str) -> list[Entry]:
    """The entries that a text names: by code (with or without NDMP's prefix), by number, or as a line of a log.

    A code wins over a number, and a longer event of the log over one that is part of it.
    """
    text = wanted.strip()
    bare = _PREFIX.sub("", text).casefold()
    exact = [entry for entry in ENTRIES if bare in _names(entry)]
    if exact:
        return exact
    if _NUMBER.match(text):
        number = int(text, 16 if text.lower().startswith("0x") else 10)
        return [entry for entry in ENTRIES if entry.number == number]
    folded = text.casefold()
    within = [entry for entry in ENTRIES if len(entry.code) > WORD_MIN and _stands_in(entry.code.casefold(), folded)]
    return [
        entry
        for entry in within
        if not any(entry is not other and entry.code.casefold() in other.code.casefold() for other in within)
    ]


def search(word: str) -> list[Entry]:
    """The entries that have a word, or a part of one, in their code or texts."""
    folded = word.strip().casefold()
    if len(folded) < WORD_MIN:
        return []
    return [entry for entry in ENTRIES if folded in f"{entry.code}\n{entry.meaning}\n{entry.action}".casefold()]


def suggest(wanted: str) -> list[str]:
    """Codes that look like the one that is none."""
    codes = {entry.code.casefold(): entry.code for entry in ENTRIES}
    near = difflib.get_close_matches(_PREFIX.sub("", wanted.strip()).casefold(), codes, n=SUGGESTIONS)
    return [codes[each] for each in near]


def _names(entry: Entry) -> set[str]:
    """What an entry is called: an NDMP error also without _ERR, a class or a reason without its group."""
    code = entry.code.casefold()
    names = {code}
    if entry.kind == "ndmp error":
        names.add(code.removesuffix("_err"))
    if entry.kind == "halt or pause":
        names.add(_GROUP.sub("", code))  # as the commands print it
    if entry.kind == "fault":
        names.add(code.partition(".")[2])
    return names


def _stands_in(code: str, line: str) -> bool:
    """Whether a line has the code, as whole words."""
    return re.search(rf"(?<![\w-]){re.escape(code)}(?![\w-])", line) is not None
