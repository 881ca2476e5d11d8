"""What a Textual application shows, as lines of plain text."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from textual.app import App

SCREENS = Path(__file__).parent.parent / "cli" / "screens"

_TEXT = "{http://www.w3.org/2000/svg}text"
_CELL = 12.2  # the width of a cell in the picture that rich makes: 20 times 0.61


def screen_text(app: App[None]) -> str:
    """The screen, a line each, without blanks at the end: read back from the application's own screenshot."""
    picture = ElementTree.fromstring(app.export_screenshot())
    lines = [[" "] * app.size.width for _ in range(app.size.height)]
    for element in picture.iter(_TEXT):
        place = re.search(r"line-(\d+)\)", element.get("clip-path", ""))
        if place is None:
            continue  # the picture's own title
        line, column = lines[int(place[1])], round(float(element.get("x", "0")) / _CELL)
        for letter in (element.text or "").replace("\xa0", " "):
            if column < len(line):
                line[column] = letter
            column += 1
    return "".join("".join(line).rstrip() + "\n" for line in lines)


def compare(name: str, text: str) -> None:
    """With the screen that is kept; MOVER_WRITE_SCREENS=1 writes what is seen, to be looked at and committed."""
    path = SCREENS / f"{name}.txt"
    if os.environ.get("MOVER_WRITE_SCREENS"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.fixture(autouse=True)
def universal_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are those of the host's zone; those of the screens that are kept are UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
