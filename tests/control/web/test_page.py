"""The page as a document: whole by itself, and with a policy that fits it."""

import base64
import hashlib
import re
from html.parser import HTMLParser

from mover.control.web.page import Page


class Elements(HTMLParser):
    """Every element with its attributes, and the text of style and script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, str] = {}
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in = tag

    def handle_data(self, data: str) -> None:
        if self._in in {"style", "script"}:
            self.inline[self._in] = self.inline.get(self._in, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._in = ""


def elements() -> Elements:
    parser = Elements()
    parser.feed(Page().answer.body.decode())
    return parser


def test_the_policy_names_what_is_in_the_page_and_nothing_else() -> None:
    headers = dict(Page().answer.headers)
    directives = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
    hashes = {
        kind: "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for kind, text in elements().inline.items()
    }
    assert directives == {
        "default-src": "'none'",
        "style-src": hashes["style"],
        "script-src": hashes["script"],
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_nothing_comes_from_elsewhere() -> None:
    for tag, attributes in elements().found:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert attributes.get(name) in {None, "data:,", "metrics"}, (tag, attributes)
    inline = elements().inline
    assert re.findall(r"https?://[^\"' ]+", inline["script"]) == ["http://www.w3.org/2000/svg"]  # a name
    assert "@import" not in inline["style"]
    assert "url(" not in inline["style"]


def test_names_of_strangers_never_become_markup() -> None:
    for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert dangerous not in elements().inline["script"]
