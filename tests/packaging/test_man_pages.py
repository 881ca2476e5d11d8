"""Man pages: every command has one, roff takes them as they are, and they say what the definitions say."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.scripts import load_script
from tests.test_docs import commands

man_pages = load_script("man_pages")
MOMENT = 1_800_000_000


@pytest.fixture(scope="module")
def pages(checkout: Path) -> dict[str, str]:
    made: dict[str, str] = man_pages.man_pages(checkout, MOMENT)
    return made


def shown(page: str, width: int = 1000) -> str:
    """As a terminal shows it; warnings of roff fail."""
    told = subprocess.run(
        [peers.require("man"), "--warnings=w", "-E", "UTF-8", "-l", "-"],
        input=page, env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": str(width), "MANPAGER": "cat"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert told.stderr == ""
    return told.stdout


def test_every_command_has_a_page(pages: dict[str, str]) -> None:
    assert {f"{command.replace(' ', '-')}.1" for command in commands()} <= set(pages)
    assert {"mover.1", "mover.toml.5"} <= set(pages)


def test_pages_depend_on_nothing_but_definitions_and_the_moment(checkout: Path, pages: dict[str, str]) -> None:
    assert man_pages.man_pages(checkout, MOMENT) == pages


@pytest.mark.slow
@pytest.mark.peer("man")
def test_roff_warns_of_no_page(pages: dict[str, str]) -> None:
    whole = "\n".join(pages.values())
    assert "mover backup" in shown(whole)


@pytest.mark.peer("man")
def test_a_page_says_what_the_help_says(pages: dict[str, str]) -> None:
    text = shown(pages["mover-tape-create.1"])
    for line in (
        "mover-tape-create - Make empty cartridges in a virtual LIBRARY",
        "mover tape create [OPTIONS] LIBRARY",
        "--barcode B",
        "Of the one cartridge to make [default: the next free].",
        "-h, --help",
        "MOVER_ADMIN_SOCKET",
        "mover-tape(1), mover.toml(5)",
    ):
        assert line in text


@pytest.mark.peer("man")
def test_the_page_of_the_configuration_has_every_key_with_its_default(pages: dict[str, str]) -> None:
    text = shown(pages["mover.toml.5"])
    assert '(default: "/var/lib/mover")' in text
    assert "[[LIBRARY]]" in text
    assert "`" not in text
    assert "](" not in text


@pytest.mark.parametrize("text", [".SH injected", "'br", "\\fBbold", "a\\(bu", ".", "-x", "~^`"])
@pytest.mark.peer("man")
def test_nothing_in_a_text_is_roffs(text: str) -> None:
    page = "\n".join(
        [man_pages._title("x", 1, MOMENT), ".SH NAME", "x \\- y", ".SH DESCRIPTION", man_pages._text(text)]
    )
    assert text in shown(page + "\n")
