"""Histories of a tree: every state comes back from its chain, whoever recovers it and wherever it lies.

MOVER_HISTORIES says how many are lived through in all, MOVER_HISTORIES_SEED which ones; scripts/histories makes many
more.
"""

import os
from pathlib import Path

import msgspec
import pytest

from tests.data.chain_histories import WAYS, Counts, prove, prove_many
from tests.support.histories import History
from tests.support.mounts import HOST, ground

EXAMPLES = int(os.environ.get("MOVER_HISTORIES", "500"))
SEED = int(os.environ.get("MOVER_HISTORIES_SEED", "1"))
# Way, file system, how many of a hundred.
SHARES = [
    ("dump", HOST, 12),
    ("dump", "ext4", 26),
    ("dump", "xfs", 10),
    ("dump", "btrfs", 10),
    ("restore", "ext4", 14),
    ("plain", HOST, 10),
    ("tar", HOST, 10),
    ("tar-recover", HOST, 8),
]
# One of each error that was found, and what is known to be hard.
FINDS = Path(__file__).resolve().parents[1] / "corpus" / "histories"


def peers_of(name: str) -> list[pytest.MarkDecorator]:
    """The mark of a way that takes a peer."""
    programs = WAYS[name].programs
    return [pytest.mark.peer(*programs)] if programs else []


def test_the_shares_are_the_whole() -> None:
    assert sum(share for _, _, share in SHARES) == 100
    assert {way for way, _, _ in SHARES} == WAYS.keys()


@pytest.mark.slow
@pytest.mark.timeout(max(900, 5 * EXAMPLES))
@pytest.mark.parametrize(
    ("name", "kind", "share"),
    [pytest.param(*row, marks=peers_of(row[0])) for row in SHARES],
)
def test_any_chain_makes_the_tree(name: str, kind: str, share: int) -> None:
    """On the host's file system where this user cannot mount another."""
    counts, examples = Counts(), max(1, EXAMPLES * share // 100)
    with ground(kind) as where:
        prove_many(WAYS[name], where, examples=examples, number=SEED, counts=counts)
    assert counts.histories == examples


@pytest.mark.slow
@pytest.mark.parametrize("find", sorted(FINDS.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("name", [pytest.param(name, marks=peers_of(name)) for name in WAYS])
def test_what_once_was_wrong_is_right(name: str, find: Path) -> None:
    history = msgspec.json.decode(find.read_bytes(), type=History)
    with ground(HOST) as where:
        prove(WAYS[name], where, history, Counts())
