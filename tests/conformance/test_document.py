"""docs/conformance.md: its counts are those of the checks there are now."""

from types import ModuleType

import pytest

from mover.conformance.groups import GROUPS_BY_VERSION
from mover.conformance.options import GROUPS
from tests.support.scripts import CHECKOUT, load_script


@pytest.fixture
def script() -> ModuleType:
    return load_script("conformance_docs")


def test_every_check_is_counted(script: ModuleType) -> None:
    rows = {version: script.rows_of(version) for version in GROUPS_BY_VERSION}
    assert script.told(script.OWN) == rows, "run scripts/conformance-docs"
    left_out = script.NDMJOB_GROUPS_LEFT_OUT
    rows = {version: script.rows_of(version, left_out) for version in script.NDMJOB_VERSIONS}
    assert script.told(script.NDMJOB) == rows, "run scripts/conformance-docs --ndmjob"


def test_every_group_is_told() -> None:
    text = (CHECKOUT / "docs" / "conformance.md").read_text()
    table = text.split("| group | what it asks |\n| --- | --- |\n")[1].split("\n\n")[0]
    assert tuple(line.split("|")[1].strip() for line in table.splitlines()) == GROUPS
    assert {name for groups in GROUPS_BY_VERSION.values() for name in groups} == set(GROUPS)


def test_no_check_has_the_name_of_another() -> None:
    for version, groups in GROUPS_BY_VERSION.items():
        for name, group in groups.items():
            names = [check.name for check in group(version)]
            assert len(names) == len(set(names)), (version, name)
