"""Types what the documents say: their blocks of code, on servers and in places of a test's own."""

import re
import subprocess
from pathlib import Path

from tests.support.servers import Login, Server, mover_command

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
DEADLINE_S = 240


def chapter_of(document: str, heading: str) -> str:
    """A chapter of a document, below its heading."""
    text = (DOCUMENTS / document).read_text()
    return text[text.index(f"## {heading}\n") :].split("\n## ")[0]


def code_of_preamble(document: str) -> str:
    """The only block of commands before the first chapter."""
    (code,) = re.findall(
        r"^```\n(.*?)^```$", (DOCUMENTS / document).read_text().split("\n## ")[0], re.MULTILINE | re.DOTALL
    )
    assert isinstance(code, str)
    return code


def code_of(document: str, heading: str, language: str = "") -> list[str]:
    """The blocks of code of a chapter, in order; those without a language are commands."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", chapter_of(document, heading), flags=re.MULTILINE | re.DOTALL)
    return [code for tag, code in blocks if tag == language]


class Site:
    """Where the documents' commands are typed: places of a directory in the place of theirs.

    Attributes:
        source, scratch, backup, tapes: /srv, /scratch, /var/lib/backup and /var/lib/tapes of the documents.
        bin: for programs that are to be found.
        places: what stands in a document -> what is typed.
        environment: of the commands.
    """

    def __init__(self, server: Server, login: Login, directory: Path) -> None:
        self.source, self.scratch, self.backup = (directory / name for name in ("srv", "scratch", "backup"))
        for path in (self.source, self.scratch, self.scratch / "off-site", self.scratch / "week", self.backup):
            path.mkdir(parents=True)
        self.tapes = directory / "tapes"
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.program("mover", *mover_command())
        password = directory / "password"
        password.touch(mode=0o600)
        password.write_text(f"{login.password}\n")
        where = f"--host {server.address} --drive vtl0/drive0"
        self.tape_socket = ""
        self.environment = {
            "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
            "MOVER_ADMIN_SOCKET": server.ready.admin_socket,
            "MOVER_PASSWORD_FILE": str(password),
            "job": f"{where} --user {login.user} --catalogue {self.backup}/catalogue.sqlite",
        }
        self.places = {
            "127.0.0.1:10000": server.address,
            "correct-horse": login.password,
            "/var/lib/tapes": str(self.tapes),
            "/var/lib/backup": str(self.backup),
            "/scratch": str(self.scratch),
            " /srv": f" {self.source}",
        }

    def program(self, name: str, *command: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
        path.chmod(0o755)

    def placed(self, text: str) -> str:
        for there, here in self.places.items():
            text = text.replace(there, here)
        return text

    def type(self, text: str, cwd: Path) -> str:
        """Run a block of commands, each of which must end well; what they said."""
        result = subprocess.run(
            ["bash", "-exc", self.placed(text)], env=self.environment, cwd=cwd, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="backslashreplace", timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        said = result.stdout + result.stderr
        assert result.returncode == 0, said
        return said
