"""`mover cartridge` and the options of labelled cartridges: what the DMA is told, and what is shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any  # any of the DMA's options

import pytest

import mover.dma
from mover.dma import (
    BackupOptions,
    CartridgeInfo,
    Credentials,
    ElementContents,
    InventoryOptions,
    InventoryResult,
    LabelledCartridge,
    LabelOptions,
    LabelResult,
    RecoverOptions,
    Server,
)
from mover.dma.cartridge_book import CartridgeBook
from mover.dma.catalogue import Catalogue
from mover.media import Label
from tests.cli.conftest import Run
from tests.cli.test_jobs import BACKUP, RECOVER

LABELLED = LabelResult([LabelledCartridge("A1", "A1", "0" * 32)], ["A2 is a cartridge of\x1b somebody"])
INVENTORY = InventoryResult(
    [
        ElementContents(512, "slot", "A1", full=True, name="A1", jobs=[1, 2], needed=True),
        ElementContents(513, "slot", "", full=False, name="", jobs=[], needed=False),
        ElementContents(1, "drive", "", full=False, name="", jobs=[], needed=False),
    ]
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Options that the stand-ins for the DMA's jobs were given."""
    options: list[Any] = []

    def stand_in(result: object) -> Callable[..., Any]:
        async def run(given: object, **_sinks: object) -> object:
            options.append(given)
            return result

        return run

    results = {"run_label": LABELLED, "run_inventory": INVENTORY, "run_backup": BACKUP, "run_recover": RECOVER}
    for name, result in results.items():
        monkeypatch.setattr(mover.dma, name, stand_in(result))
    return options


@pytest.fixture
def login(tmp_path: Path) -> list[str]:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("geheim\n")
    return ["--host", "h", "--drive", "vtl0/drive0", "--user", "u", "--password-file", str(password)]


SESSION: dict[str, Any] = {"data": Server("h"), "credentials": Credentials("u", "geheim"), "drive": "vtl0/drive0"}
CHANGER = ["--changer", "vtl0/changer", "--drive-element", "1"]


def test_label(mover: Run, told: list[Any], login: list[str]) -> None:
    everything = mover("cartridge", "label", *login, *CHANGER)
    assert (everything.exit_code, everything.stdout) == (0, "labelled: A1\n")
    assert "mover: A2 is a cartridge of\\x1b somebody\n" in everything.stderr
    some = mover("cartridge", "label", *login, *CHANGER, "A1", "A2", "--overwrite", "--json")
    assert some.exit_code == 1
    assert json.loads(some.stdout) == {
        "labelled": [{"name": "A1", "barcode": "A1", "id": "0" * 32}],
        "refused": ["A2 is a cartridge of\x1b somebody"],
    }
    mover("cartridge", "label", *login, "B1")
    changer: dict[str, Any] = {"changer": "vtl0/changer", "drive_element": 1}
    assert told == [
        LabelOptions(**SESSION, **changer, names=[]),
        LabelOptions(**SESSION, **changer, names=["A1", "A2"], overwrite=True),
        LabelOptions(**SESSION, names=["B1"]),
    ]


def test_inventory(mover: Run, told: list[Any], login: list[str]) -> None:
    shown = mover("cartridge", "inventory", *login, *CHANGER)
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["address", "element", "barcode", "label", "jobs", "needed"],
        ["512", "slot", "A1", "A1", "1", "2", "true"],
        ["1", "drive", "-", "-", "-", "false"],
        ["2", "slots,", "1", "of", "them", "free"],
    ]
    document = json.loads(mover("cartridge", "inventory", *login, *CHANGER, "--initialize", "--json").stdout)
    assert document["elements"][0] == {
        "address": 512, "kind": "slot", "barcode": "A1", "full": True, "name": "A1", "jobs": [1, 2], "needed": True,
    }  # fmt: skip
    assert len(document["elements"]) == 3
    both: dict[str, Any] = {"changer": "vtl0/changer", "drive_element": 1}
    assert told == [InventoryOptions(**SESSION, **both), InventoryOptions(**SESSION, **both, initialize=True)]


def test_list(mover: Run, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    missing = mover("cartridge", "list", "--catalogue", str(path))
    assert (missing.exit_code, missing.stderr) == (1, f"mover: no catalogue at {path}\n")
    catalogue = Catalogue(path)
    assert mover("cartridge", "list", "--catalogue", str(path)).stdout == "no cartridges\n"
    CartridgeBook(catalogue).labelled(Label("A1", "0" * 32, 86_400), "B1")
    catalogue.close()
    shown = mover("cartridge", "list", "--catalogue", str(path))
    assert shown.stdout.splitlines()[1].split()[:2] == ["A1", "B1"]
    document = json.loads(mover("cartridge", "list", "--catalogue", str(path), "--json").stdout)
    info = CartridgeInfo("A1", "B1", 86_400.0, full=False, jobs=[], needed=False)
    assert document == {"cartridges": [{name: getattr(info, name) for name in info.__struct_fields__}]}


def test_backup_and_recover(mover: Run, told: list[Any], login: list[str]) -> None:
    mover("backup", "/srv", *login, *CHANGER, "--keep", "30", "--new-cartridge", "--wait", "60")
    mover("backup", "/srv", *login, "--labels")
    mover("recover", *login, *CHANGER, "--wait", "60", "--destination", "/to")
    changer: dict[str, Any] = {"changer": "vtl0/changer", "drive_element": 1, "wait_s": 60}
    assert told == [
        BackupOptions(**SESSION, **changer, filesystem="/srv", new_cartridge=True, keep_s=30 * 86400),
        BackupOptions(**SESSION, filesystem="/srv", labels=True),
        RecoverOptions(**SESSION, **changer, destination="/to"),
    ]
