"""Targets of nlist entries, version by version, as clients really send them."""

import pytest

from mover.ndmp.messages import RecoverName
from mover.ndmp.nlist import recover_target

CASES = [
    # version, original_path, destination, name, target
    (2, b"/u/t", b"/rec/u/t", b"", b"/rec/u/t"),
    (2, b"/u/t", b"", b"", b""),
    (3, b"/u/t", b"/rec", b"", b"/rec/u/t"),
    (3, b"u/t", b"/rec/", b"", b"/rec/u/t"),
    (3, b"/u/t", b"/rec", b"new", b"/rec/new"),
    (3, b"/u/t", b"", b"/else/where", b"/else/where"),
    (3, b"/u/t", b"", b"", b""),
    (3, b"", b"/rec", b"", b"/rec"),
    (4, b"", b"/vol/v3", b"", b"/vol/v3"),
    (4, b"", b"/vol", b"v3", b"/vol/v3"),
    (4, b"/u/t", b"/vol/v1/u/t.old", b"", b"/vol/v1/u/t.old"),
    (4, b"/u/t", b"/vol/v1/u", b"t.old", b"/vol/v1/u/t.old"),
    (4, b"/log", b"/", b"log", b"/log"),
]


@pytest.mark.parametrize(("version", "original", "destination", "name", "target"), CASES)
def test_target(version: int, original: bytes, destination: bytes, name: bytes, target: bytes) -> None:
    assert recover_target(version, RecoverName(original, destination, name)) == target
