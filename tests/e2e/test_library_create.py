"""A library that `mover library create` has made, in a server."""

import subprocess
from pathlib import Path

import pytest

from tests.support.servers import Login, Server, mover_command, write_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_its_section_is_all_that_the_server_needs(login: Login, shm: Path) -> None:
    config = write_config(shm / "server", login, drives=0)
    made = subprocess.run(
        [
            *mover_command(), "library", "create", "vtl7", "--directory", str(shm / "new"), "--slots", "4",
            "--cartridges", "3", "--config", str(config),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    config.write_text(config.read_text() + made.stdout)
    with Server(config) as server:
        assert server.ask("tape", "create", "vtl7")["barcodes"] == ["VTL70004"]
        cartridges = server.ask("tape", "show")["cartridges"]
        assert isinstance(cartridges, list)
        assert [each["barcode"] for each in cartridges] == [f"VTL7000{number}" for number in (1, 2, 3, 4)]
        assert server.ask("tape", "load", "vtl7/drive1")["barcodes"] == ["VTL70001"]
