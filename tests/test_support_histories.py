"""The histories of trees: every action can happen, and the chain of a round is the one that a DMA would recover."""

import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tests.support.histories import ACTIONS, History, Life, Round, Step, chain, histories


def test_every_action_changes_something(tmp_path: Path) -> None:
    for action in ACTIONS:
        place = tmp_path / action
        place.mkdir()
        life = Life(place)
        life.live([Step("mkdir", 0, 0, 0), Step("create", 0, 1, 3), Step("create", 1, 2, 3), Step("create", 0, 4, 4)])
        if action == "remove-attribute":
            life.live([Step("attribute", 1, 0, 0)])
        life.live([Step(action, number, number + 2, 5) for number in range(4)])
        assert os.path.isdir(life.tree)


def test_the_chain_of_a_round() -> None:
    rounds = [Round(level, []) for level in (0, 3, 2, 5, 4, 1, 5, 0, 9)]
    assert [chain(rounds, last) for last in range(9)] == [
        *([0], [0, 1], [0, 2], [0, 2, 3], [0, 2, 4], [0, 5], [0, 5, 6], [7], [7, 8]),
    ]
    assert chain([Round(2, []), Round(1, [])], 1) == [1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
def test_any_history_can_be_lived(tmp_path: Path, history: History) -> None:
    place = tmp_path / str(len(os.listdir(tmp_path)))
    place.mkdir()
    life = Life(place)
    for each in history:
        life.live(each.steps)
        life.entries()
