"""The documents against what they speak of: links, paths, rooms, configuration keys and commands."""

import re
import shlex
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest

from mover.cli.main import COMMANDS, main
from mover.config.model import Config
from mover.config.options import NOT_APPLICABLE, OPTIONS
from mover.control.environment import VARIABLES
from tests.test_rooms import DOORS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
JOB = "--host h --drive d --user u --password-file f --catalogue c"  # what the documents set as $job
# Understood and checked, but refused: the document names them and not their keys.
REFUSED_TABLES: set[str] = set()


def commands_of(document: Path) -> list[tuple[str, str]]:
    """Each block of code without a language, which is of commands, with the heading of its chapter."""
    found = []
    for chapter in re.split(r"^## ", document.read_text(), flags=re.MULTILINE):
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", chapter, flags=re.MULTILINE | re.DOTALL)
        found += [(chapter.partition("\n")[0], code) for language, code in blocks if not language]
    return found


# Issue 7, and what a new administrator reads in this order; "use with" is one document for every application.
READING_ORDER = (
    "install.md", "three-way.md", "dma.md", "monitoring.md", "troubleshoot.md", "restore-without-mover.md",
    "security.md", "architecture.md", "protocol.md", "performance.md",
)  # fmt: skip


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The anchors that a forge makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(path.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_the_readme_leads_to_every_document_and_tells_an_order() -> None:
    readme = (ROOT / "README.md").read_text()
    chapter = readme[readme.index("## Where to read on\n") :].split("\n## ")[0]
    order = re.findall(r"\]\(docs/([\w-]+\.md)\)", chapter)
    assert [name for name in order if name in READING_ORDER] == list(READING_ORDER)
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        document = ahead.pop()
        if document not in reached:
            reached.add(document)
            links = re.findall(r"\]\(([\w./-]+\.md)(?:#[^)]*)?\)", document.read_text())
            ahead += [(document.parent / link).resolve() for link in links]
    assert set(DOCUMENTS) <= reached


@pytest.mark.parametrize("application", ["Bareos", "Amanda", "ndmjob", "NetBackup", "Commvault, Dell NetWorker"])
def test_each_application_has_its_chapter(application: str) -> None:
    assert re.search(rf"^## {application}", (ROOT / "docs" / "dma.md").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_of_the_checkout_exists(document: Path) -> None:
    for named in re.findall(r"`((?:mover|tests|scripts|docs)/[\w./-]+)[^`]*`", document.read_text()):
        assert (ROOT / named).exists(), named


def test_the_rooms_are_those_that_the_imports_are_held_to() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `mover/(\w+)` \| .* \| (.*) \|$", text, flags=re.MULTILINE)
    # What single modules may beyond their room stands in brackets.
    told = {room: set(re.sub(r"\(.*\)", "", cell).replace(" ", "").split(",")) - {"-", ""} for room, cell in rows}
    assert told == {room: rooms for room, (rooms, _) in DOORS.items()}


def documented_keys() -> dict[str, set[str]]:
    """Table -> keys that have a row, of every table with a section."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        heading = re.match(r"`\[+(\w+)\]+`", section)
        if heading is not None:
            found[heading[1]] = set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))
    return found


def test_every_configuration_key_is_documented_and_no_other() -> None:
    tables = {}
    for table, hint in get_type_hints(Config).items():
        if table == "given":  # no table
            continue
        (struct,) = get_args(hint) or (hint,)
        tables[table] = set(struct.__struct_fields__)
    text = (ROOT / "docs" / "configuration.md").read_text()
    for table in REFUSED_TABLES:
        assert f"[{table}]" in text
        del tables[table]
    assert documented_keys() == tables


def test_every_option_has_a_row_and_those_of_no_meaning_their_reason() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().split("\n## Options\n")[1].split("\n## ")[0]
    effective, refused = section.split("\nOptions of ONTAP that mean nothing here")
    assert re.findall(r"^\| `([\w-]+)` \|", effective, flags=re.MULTILINE) == list(OPTIONS)
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", refused, flags=re.MULTILINE)
    assert dict(rows) == dict(NOT_APPLICABLE)


def test_the_variables_that_are_understood_are_those_that_have_a_row() -> None:
    text = (ROOT / "docs" / "environment.md").read_text()
    rows = re.findall(r"^\| ([A-Z_]+) \| ([a-z, ]+) \|", text, flags=re.MULTILINE)
    for operation, names in VARIABLES.items():
        assert {name for name, where in rows if operation in where} == names


def commands() -> list[str]:
    """Every command with its group, as one types it."""
    context = click.Context(main)
    found = []
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [f"mover {name} {below}" for below in command.commands]
        else:
            found.append(f"mover {name}")
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_has_a_row(command: str) -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    assert re.search(rf"^\| `{command}[` ]", text, flags=re.MULTILINE), command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_can_be_typed(document: Path) -> None:
    """Of each line of code that begins with `mover`: the command is there, and its options, and no name is missing."""
    for _, block in commands_of(document):
        code = block.replace("\\\n", " ")
        for line in re.findall(r"^(?:[ $]*)(mover .*?)(?: 2?>.*| &)?$", code, flags=re.MULTILINE):
            words = shlex.split(line.replace("$job", JOB).replace("$'", "'"))[1:]
            context = click.Context(main, info_name="mover", **main.context_settings)
            command: click.Command = main
            while isinstance(command, click.Group):
                found = command.get_command(context, words[0])
                assert found is not None, line
                command, words = found, words[1:]
            with command.make_context(line, words, parent=context, resilient_parsing=False):
                pass


# Chapters with commands -> the test that types them.
TYPED = {
    ("README.md", "Two commands"): "tests/test_quickstart.py",
    ("README.md", "A tour in five minutes"): "tests/e2e/test_documents.py",
    ("cookbook.md", "A full backup, and levels"): "tests/e2e/test_documents.py",
    ("cookbook.md", "What is on the tapes, and how it went"): "tests/e2e/test_documents.py",
    ("cookbook.md", "One file, a directory"): "tests/e2e/test_documents.py",
    ("cookbook.md", "Everything, as it was at the last level"): "tests/e2e/test_documents.py",
    ("cookbook.md", "Without mover"): "tests/e2e/test_documents.py",
    ("cookbook.md", "From one server to another"): "tests/e2e/test_documents.py",
    ("conformance.md", "# Testing a server"): "tests/e2e/test_documents.py",
    ("operations.md", "Vservers and LIFs"): "tests/e2e/test_documents.py",
    ("operations.md", "Options"): "tests/e2e/test_documents.py",
    ("operations.md", "Extensions"): "tests/e2e/test_documents.py",
    ("install.md", "The Debian package"): "tests/packaging/test_service.py",
    ("install.md", "From a checkout"): "tests/packaging/test_service.py",
    ("install.md", "The first user and the first job"): "tests/packaging/test_service.py",
    ("install.md", "The service"): "tests/packaging/test_service.py",
    ("install.md", "Completion"): "tests/cli/test_completion.py",
    ("cookbook.md", "A library out of a directory"): "tests/e2e/test_cookbook.py",
    ("cookbook.md", "The library with ndmjob"): "tests/e2e/test_cookbook.py",
    ("cookbook.md", "The library with Amanda"): "tests/e2e/test_cookbook.py",
    ("dma.md", "ndmjob"): "tests/e2e/test_documents.py",
    ("dma.md", "mover's own"): "tests/e2e/test_documents.py",
    ("three-way.md", "The file server"): "tests/e2e/test_documents.py",
    ("three-way.md", "The tape host"): "tests/e2e/test_documents.py",
    ("three-way.md", "A job over the network"): "tests/e2e/test_documents.py",
    ("troubleshoot.md", "Is the host as it should be"): "tests/e2e/test_documents.py",
    ("troubleshoot.md", "What does the server say"): "tests/e2e/test_documents.py",
    ("troubleshoot.md", "What does a job wait for"): "tests/e2e/test_documents.py",
    ("troubleshoot.md", "What was said"): "tests/e2e/test_documents.py",
    ("restore-without-mover.md", "From a cartridge of a virtual library"): "tests/e2e/test_documents.py",
    ("restore-without-mover.md", "Reading the stream"): "tests/e2e/test_documents.py",
    ("restore-without-mover.md", "And with it"): "tests/e2e/test_documents.py",
}
# Chapters with commands that no test types as they stand -> why, and what is tested instead.
NOT_TYPED = {
    ("README.md", "Working on it"): "the checks themselves",
    ("cookbook.md", "# Backups of a file server, step by step"): "what the tests set for the chapters behind it",
    ("cookbook.md", "A real drive"): "a real drive: tests/tape/test_st_guest.py, tests/e2e/test_iscsi_drive.py",
}


def test_every_command_is_typed_by_a_test_or_known_not_to_be() -> None:
    chapters = {(document.name, heading) for document in DOCUMENTS for heading, _ in commands_of(document)}
    assert not TYPED.keys() & NOT_TYPED.keys()
    assert chapters == TYPED.keys() | NOT_TYPED.keys()
    for (document, heading), test in TYPED.items():
        text = (ROOT / test).read_text()
        named = heading in text or document == "README.md" or (heading.startswith("# ") and document in text)
        assert named, f"{test} does not name {heading!r} of {document}"
