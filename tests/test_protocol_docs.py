"""docs/protocol.md is what the code's tables say, and the tables beside them are whole."""

import pytest

from mover.ndmp.edge import map_error
from mover.ndmp.reference import CLAUSES, source
from mover.ndmp.table import TABLE, VERSIONS, Kind
from tests.support.scripts import load_script

protocol_docs = load_script("protocol_docs")


def test_the_document_is_not_stale() -> None:
    assert protocol_docs.DOCUMENT.read_text() == protocol_docs.document(), "run scripts/protocol-docs"


def test_a_stale_document_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["protocol-docs", "--check"])
    assert protocol_docs.main() == 0
    monkeypatch.setattr(protocol_docs, "document", lambda: "other\n")
    assert protocol_docs.main() == 1
    assert "stale" in capsys.readouterr().err


@pytest.mark.parametrize("version", VERSIONS)
def test_every_message_of_a_version_has_a_row_with_its_errors_and_source(version: int) -> None:
    text = protocol_docs.document()
    rows = [row for (each, _), row in TABLE.items() if each == version]
    section = text.split(f"### Messages of version {version}\n")[1].split("\n#")[0]
    assert section.count(f"| NDMPv{version}") + section.count("extension of NDMJOB") == len(rows)
    for row in rows:
        assert f"| {row.code:04x} | {row.name} | {row.kind} |" in section
        assert source(version, row.code)
        if row.kind is not Kind.POST:
            assert (version, row.name) in CLAUSES, f"{row.name}: mover/ndmp/reference.py lists no errors"


def test_no_version_is_said_to_answer_what_it_cannot() -> None:
    for (version, name), clause in CLAUSES.items():
        assert len(set(clause.errors)) == len(clause.errors), name
        for error in clause.errors:
            assert map_error(version, map_error(version, error)) == map_error(version, error)
