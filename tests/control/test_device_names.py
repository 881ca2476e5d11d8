"""Names of a drive by what closing does."""

from pathlib import Path
from typing import cast

import pytest

from mover.config import Config, Drive, Library
from mover.control.device_names import AtClose, device_names
from mover.control.drives import Devices, DriveBay
from mover.control.store import Store


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("vtl0/drive0", ["vtl0/drive0", "vtl0/rdrive0", "vtl0/udrive0"]),
        ("nst0", ["nst0", "st0", "ust0"]),
        ("tape", ["tape", "rtape", "utape"]),
    ],
)
def test_the_names_of_a_drive(name: str, names: list[str]) -> None:
    assert list(device_names(name).items()) == list(zip(names, AtClose, strict=True))


def test_a_drive_of_the_configuration_goes_before_a_name_of_another(tmp_path: Path) -> None:
    drives = [Drive(name=name, device=f"virtual:{tmp_path}/{name}.tap") for name in ("a", "ra", "nst0")]
    library = Library(name="vtl0", directory=str(tmp_path), drives=1)
    devices = Devices(Config(library=[library], drive=drives), cast("Store", None))
    found = {
        name: devices.find_device(name) for name in ("a", "ra", "rra", "ua", "st0", "vtl0/udrive0", "uvtl0/drive0", "")
    }
    assert {name: (each[0].name, each[1]) for name, each in found.items() if each is not None} == {
        "a": ("a", AtClose.STAYS),
        "ra": ("ra", AtClose.STAYS),
        "rra": ("ra", AtClose.REWINDS),
        "ua": ("a", AtClose.UNLOADS),
        "st0": ("nst0", AtClose.REWINDS),
        "vtl0/udrive0": ("vtl0/drive0", AtClose.UNLOADS),
    }
    assert list(devices.names(drives_of(devices)["a"])) == ["a", "ua"]


def drives_of(devices: Devices) -> dict[str, DriveBay]:
    return {bay.name: bay for bay in devices}
