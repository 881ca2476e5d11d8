"""The catalogue of errors against the code: each that can be raised, told or logged has its entry, and no other has."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from mover.admin.messages import Failed
from mover.catalogue.commands import ADMIN_CODES, EXITS
from mover.catalogue.entry import Entry
from mover.catalogue.faults import FAULTS
from mover.catalogue.find import ENTRIES, find, search, suggest
from mover.catalogue.log_lines import LOG_LINES
from mover.catalogue.protocol import ERRORS, STOPS
from mover.control.line_file import LineFile
from mover.ndmp.enums import (
    ConnectionStatusReason,
    DataHaltReason,
    DataPauseReason,
    ErrorCode,
    MoverHaltReason,
    MoverPauseReason,
    RecoveryStatus,
)

PACKAGE = Path(__file__).resolve().parents[2] / "mover"
LEVELS = {"warning", "error", "exception", "critical"}
LOGGERS = {"log", "_log"}
BUILT_IN = {"Exception", "ValueError", "OSError", "RuntimeError", "ClickException"}
TEXTS = 400
"""Characters: what is longer is no answer but an essay."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package with its room."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).parts[0], ast.parse(path.read_text())


def logged() -> set[str]:
    """Every event that the code logs as a warning or worse."""
    found: set[str] = set()
    for _, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "LineFile":
                found |= line_file_events(node)
            if isinstance(node, ast.ClassDef) and "LineFile" in map(ast.unparse, node.bases):
                calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
                found |= line_file_events(*[each for each in calls if ast.unparse(each.func) == "super().__init__"])
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            logger = ast.unparse(node.func.value).rpartition(".")[2]
            if logger not in LOGGERS or node.func.attr not in LEVELS or not node.args:
                continue
            event = node.args[0]
            if isinstance(event, ast.Constant):
                found.add(str(event.value))
            else:
                assert ast.unparse(event) in {"self._lost", "self._back", "self._not_durable"}, "an event is a constant"
    return found


def line_file_events(made: ast.Call) -> set[str]:
    """What a file of lines logs of itself, by the call that makes it."""
    assert isinstance(made.args[0], ast.Constant)
    file = LineFile(str(made.args[0].value), "unused", size_max=1, old=1)
    return {file._lost, file._back, file._not_durable}


def raised() -> set[str]:
    """Every class of exceptions, by room."""
    bases: dict[tuple[str, str], set[str]] = {}
    for room, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                bases[room, node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    known = set(BUILT_IN)
    while True:
        more = {name for (_, name), of in bases.items() if of & known} - known
        if not more:
            break
        known |= more
    return {f"{room}.{name.lstrip('_')}" for (room, name), of in bases.items() if of & known}


def codes(entries: tuple[Entry, ...]) -> set[str]:
    return {entry.code for entry in entries}


@pytest.mark.slow
def test_every_warning_and_error_of_the_log_is_explained() -> None:
    assert codes(LOG_LINES) == logged()


@pytest.mark.slow
def test_every_class_of_errors_is_explained() -> None:
    assert codes(FAULTS) == raised()


def test_every_ndmp_error_and_every_reason_to_stop_is_explained() -> None:
    assert {(entry.code, entry.number) for entry in ERRORS} == {(each.name, each.value) for each in ErrorCode}
    groups = {
        "DATA_HALT": DataHaltReason, "DATA_PAUSE": DataPauseReason, "MOVER_HALT": MoverHaltReason,
        "MOVER_PAUSE": MoverPauseReason, "CONNECTION": ConnectionStatusReason, "RECOVERY": RecoveryStatus,
    }  # fmt: skip
    reasons = {(f"{name}_{each.name}", each.value) for name, group in groups.items() for each in group}
    assert {(entry.code, entry.number) for entry in STOPS} == reasons


def test_every_end_of_a_command_is_explained() -> None:
    assert codes(ADMIN_CODES) == set(get_args(get_type_hints(Failed)["code"]))
    assert [entry.number for entry in EXITS] == [0, 1, 2, 3]


def test_an_entry_is_short_and_says_what_to_do() -> None:
    assert len({entry.code.casefold() for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert entry.meaning.endswith("."), entry
        assert entry.action.endswith((".", "?")), entry
        assert len(entry.meaning) + len(entry.action) < TEXTS, entry


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("DEVICE_BUSY_ERR", "DEVICE_BUSY_ERR"),
        ("ndmp4_device_busy_err", "DEVICE_BUSY_ERR"),
        ("NDMP_DEVICE_BUSY", "DEVICE_BUSY_ERR"),
        (" mover_halt_media_error ", "MOVER_HALT_MEDIA_ERROR"),
        ("30", "EXT_DN_ILLEGAL"),
        ("0x1e", "EXT_DN_ILLEGAL"),
        ("ConfigError", "config.ConfigError"),
        ("exit-3", "exit-3"),
        ("2026-11-22T10:00:00Z [warning  ] login failed   peer=192.0.2.1 user=ndmp", "login failed"),
        ('{"event": "drive not closed", "level": "error"}', "drive not closed"),
    ],
)
def test_it_is_found(wanted: str, code: str) -> None:
    assert [entry.code for entry in find(wanted)] == [code]


@pytest.mark.parametrize(
    ("wanted", "codes"),
    [
        ("FAILED_NOT_FOUND", ["RECOVERY_FAILED_NOT_FOUND"]),
        ("CONNECT_ERROR", ["DATA_HALT_CONNECT_ERROR", "MOVER_HALT_CONNECT_ERROR"]),
        ("seek", ["MOVER_PAUSE_SEEK"]),
    ],
)
def test_a_reason_is_found_as_the_commands_print_it(wanted: str, codes: list[str]) -> None:
    assert [entry.code for entry in find(wanted)] == codes


def test_a_number_stands_for_all_that_have_it() -> None:
    found = find("2")
    assert {entry.code for entry in found} >= {"DEVICE_BUSY_ERR", "DATA_HALT_ABORTED", "exit-2"}
    assert all(entry.number == 2 for entry in found)


@pytest.mark.parametrize("wanted", ["", "   ", "no such thing", "31337", "9" * 400, "\x1b[31m", "not", "-"])
def test_what_is_not_known_is_not_found(wanted: str) -> None:
    assert not find(wanted)


def test_near_codes_are_suggested() -> None:
    assert "DEVICE_BUSY_ERR" in suggest("NDMP_DEVICE_BUSSY_ERR")
    assert not suggest("zzzzzz")


def test_texts_are_searched() -> None:
    assert "MOVER_HALT_MEDIA_ERROR" in {entry.code for entry in search("clean the drive")}
    assert not search("zz")
