"""By what a replay compares: the rules, and that the document names each."""

from pathlib import Path

import pytest

from mover.dma.replay_rules import NUMBERED_TEXTS, OWN_VARIABLES, PROGRESS, RULES, difference, elements, is_progress
from mover.ndmp.table import TABLE

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "protocol-log.md"


def test_every_rule_is_documented_and_no_other() -> None:
    rows = DOCUMENT.read_text().split("| messages | fields | why |\n")[1].splitlines()[1:]
    cells = [[cell.strip().strip("`").replace("\\|", "|") for cell in row[1:-1].split(" | ")] for row in rows]
    assert cells == [[rule.messages, rule.path, rule.why] for rule in (*RULES, NUMBERED_TEXTS, OWN_VARIABLES, PROGRESS)]


@pytest.mark.parametrize(
    ("message", "recorded", "replayed"),
    [
        ("CONFIG_GET_AUTH_ATTR", {"server_attr": {"challenge": {"hex": "aa"}}}, {"server_attr": {"challenge": "text"}}),
        ("DATA_LISTEN", {"data_connection_addr": {"endpoints": [{"port": 1}]}},
         {"data_connection_addr": {"endpoints": [{"port": 2}]}}),
        ("LOG_MESSAGE", {"message_id": 1, "entry": "12 MB in 3 s"}, {"message_id": 2, "entry": "7 MB in 11 s"}),
        ("DATA_GET_ENV", {"env": [{"name": "DUMP_DATE", "value": "1"}, {"name": "TYPE", "value": "dump"}]},
         {"env": [{"name": "DUMP_DATE", "value": "2"}, {"name": "TYPE", "value": "dump"}]}),
        ("FH_ADD_NODE", {"stats": [{"atime": 1, "size": 5}]}, {"stats": [{"atime": 9, "size": 5}]}),
    ],
)  # fmt: skip
def test_what_may_differ(message: str, recorded: dict[str, object], replayed: dict[str, object]) -> None:
    assert difference(message, recorded, replayed) is None


@pytest.mark.parametrize(
    ("message", "recorded", "replayed", "found"),
    [
        ("TAPE_OPEN", {"error": "NO_ERR"}, {"error": "IO_ERR"}, ("error", "NO_ERR", "IO_ERR")),
        ("LOG_MESSAGE", {"entry": "a 1"}, {"entry": "b 1"}, ("entry", "a 1", "b 1")),
        ("DATA_GET_ENV", {"env": []}, {"env": [{"name": "A", "value": "b"}]}, ("env", [], None)),
        ("FH_ADD_NODE", {"node": 1, "more": 2}, {"node": 1}, ("more", 2, None)),
        ("MOVER_STOP", None, {"error": "NO_ERR"}, ("", None, None)),
        ("DATA_GET_ENV", {"env": [{"name": "LEVEL", "value": "0"}]}, {"env": [{"name": "LEVEL", "value": "1"}]},
         ("env[0].value", "0", "1")),
    ],
)  # fmt: skip
def test_what_may_not(
    message: str, recorded: dict[str, object] | None, replayed: dict[str, object], found: tuple[str, object, object]
) -> None:
    assert difference(message, recorded, replayed) == found


def test_progress_and_history_are_known_by_name() -> None:
    assert is_progress("DATA_GET_STATE", {"state": "ACTIVE"})
    assert not is_progress("DATA_GET_STATE", {"state": "HALTED"})
    assert not is_progress("TAPE_GET_STATE", {"state": "ACTIVE"})
    for row in TABLE.values():
        expected = [1, 2] if row.name.startswith("FH_ADD_") else None
        assert elements(row.name, {"dirs": [1, 2]}) == expected
