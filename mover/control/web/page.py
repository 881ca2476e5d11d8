"""The status page: one document with its style and its program in it, and a policy that lets nothing else run.

What it shows comes by /events. Whatever is in there, names of files above all, becomes text by the DOM and never
markup; the policy holds even if that were wrong, because it names the one program by its hash.

Source: Content Security Policy Level 3, 2.3.1 (hash-source).
"""

import base64
import hashlib
from http import HTTPStatus
from importlib import resources
from typing import Final

from mover.control.web.http_message import Answer

_FILES: Final = "mover.control.web"
_STYLE: Final = "/* page.css */"
_PROGRAM: Final = "/* page.js */"


class Page:
    """The page as it goes out.

    Attributes:
        answer: the document with its headers.
    """

    def __init__(self) -> None:
        style, program = _file("page.css"), _file("page.js")
        document = _file("page.html").replace(_STYLE, style).replace(_PROGRAM, program)
        policy = "; ".join(
            (
                "default-src 'none'",
                f"style-src {_hash(style)}",
                f"script-src {_hash(program)}",
                "connect-src 'self'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )
        self.answer: Final = Answer(
            HTTPStatus.OK,
            document.encode(),
            "text/html; charset=utf-8",
            (("Content-Security-Policy", policy),),
        )


def _file(name: str) -> str:
    return resources.files(_FILES).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
