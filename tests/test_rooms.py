"""The doors between rooms, read from the source: a room imports only what docs/architecture.md lets it.

The table is design's rooms table; a module that reaches past it fails here, with file and line.
"""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mover"

WORKER_STDLIB_REFUSED = {
    "asyncio", "subprocess", "logging", "dataclasses", "pathlib", "multiprocessing",
}  # 10 to 44 ms of start-up each  # fmt: skip

# room -> (rooms it may import, third-party packages it may import)
DOORS: dict[str, tuple[set[str], set[str]]] = {
    "ndmp": (set(), {"msgspec"}),
    "ring": (set(), set()),
    "workers": ({"ring"}, {"msgspec"}),
    "data": ({"ring", "workers", "ndmp.history"}, {"msgspec"}),
    "media": (set(), {"msgspec"}),
    "tape": ({"ring", "workers", "media"}, {"fastcrc", "msgspec"}),
    "relay": ({"ring", "workers"}, set()),
    "snapshot": ({"workers"}, set()),
    "auth": (set(), {"pam"}),
    "scsi": (set(), {"msgspec"}),
    "config": (set(), {"msgspec"}),
    "admin": (set(), {"msgspec"}),
    "control": (
        {"ndmp", "scsi", "ring", "workers", "config", "admin"},
        {"trio", "msgspec", "psutil", "structlog", "cryptography", "h11", "prometheus_client"},
    ),
    "dma": ({"ndmp", "media"}, {"trio", "msgspec"}),
    "conformance": ({"ndmp"}, {"msgspec"}),
    "doctor": ({"admin", "config", "workers.confine"}, {"msgspec", "cryptography"}),
    "catalogue": ({"ndmp.enums"}, {"msgspec"}),
    "cli": (
        {"admin", "config", "dma", "conformance", "catalogue", "doctor"},
        {"click", "rich", "textual", "trio", "msgspec", "structlog"},
    ),
}
# The doors that single modules have beyond their room's.
EXTRA: dict[str, set[str]] = {
    "cli/serve.py": {"control"},
    "cli/tape_offline.py": {"tape"},
}
WORKER_ROOMS = {"ring", "workers", "media", "data", "tape", "relay", "snapshot"}


def imports(path: Path) -> list[tuple[int, str]]:
    """Every absolute module name that a file imports, with its line."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def breaches(path: Path) -> list[str]:
    """What a file imports that its room's doors do not let through."""
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0]
    if room == "__init__.py":
        return []
    rooms, packages = DOORS[room]
    allowed = rooms | EXTRA.get(relative.as_posix(), set()) | {room}
    wrong = []
    for line, name in imports(path):
        top, _, rest = name.partition(".")
        if top == "mover":
            if rest and rest != "__version__" and not any(
                rest == door or rest.startswith(door + ".") for door in allowed
            ):  # fmt: skip
                wrong.append(f"{relative}:{line}: {room} may not import {name}")
        elif top == "_typeshed":
            continue  # the standard library's own types, which exist for the type checker only
        elif top in sys.stdlib_module_names:
            if room in WORKER_ROOMS and top in WORKER_STDLIB_REFUSED:
                wrong.append(f"{relative}:{line}: {name} is too slow to import in a worker")
        elif top not in packages:
            wrong.append(f"{relative}:{line}: {room} may not import the package {name}")
    return wrong


def test_every_room_has_a_row() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(DOORS)


def test_no_room_reaches_past_its_doors() -> None:
    assert [wrong for path in sorted(PACKAGE.rglob("*.py")) for wrong in breaches(path)] == []


@pytest.mark.parametrize(
    ("room", "line"),
    [("ndmp", "import trio"), ("data", "from mover.tape import x"), ("relay", "import logging")],
)
def test_a_planted_breach_is_found(room: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    planted = tmp_path / room / "planted.py"
    planted.parent.mkdir()
    planted.write_text(line + "\n")
    assert len(breaches(planted)) == 1
