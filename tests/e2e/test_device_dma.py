"""The built-in DMA with a real changer and drive, tgtd's over iSCSI: labels, a backup, a recover.

tgtd calls no element accessible, cuts the last of each report, and knows drives by vendor, product and serial number.
"""

from pathlib import Path

import pytest
import trio

from mover.dma import (
    BackupOptions,
    Credentials,
    InventoryOptions,
    LabelOptions,
    RecoverOptions,
    run_backup,
    run_inventory,
    run_label,
    run_recover,
)
from mover.dma import Server as Address
from mover.dma.compare import compare_trees
from tests.support.servers import Login, Server, write_config
from tests.support.tgtd import PROGRAMS, running_library

pytestmark = [pytest.mark.slow, pytest.mark.peer(*PROGRAMS), pytest.mark.timeout(300)]

DEADLINE_S = 120


async def test_labels_backup_and_recover_by_a_real_changer(tmp_path: Path, login: Login) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for directory in (source, target):
        directory.mkdir()
    (source / "file").write_bytes(b"content " * 100_000)
    with running_library() as tgtd:
        extra = (
            f'[[changer]]\nname = "mc0"\ndevice = "{tgtd.changer_url}"\n'
            f'[[drive]]\nname = "lto0"\ndevice = "{tgtd.url(1)}"\n'
        )
        volumes = {"source": source, "target": target}
        with Server(write_config(tmp_path / "server", login, volumes=volumes, extra=extra)) as server:
            host, _, port = server.address.rpartition(":")
            session = {
                "data": Address(host, int(port)),
                "credentials": Credentials(login.user, login.password),
                "drive": "lto0",
                "changer": "mc0",
                "catalogue": tmp_path / "catalogue.sqlite",
            }
            with trio.fail_after(DEADLINE_S):
                labelled = await run_label(LabelOptions(**session, names=[]))  # type: ignore[arg-type] # a test's own choices
                assert [each.barcode for each in labelled.labelled] == ["TAPE01L4", "TAPE02L4", "TAPE03L4"]
                backup = BackupOptions(**session, filesystem=str(source))  # type: ignore[arg-type] # as above
                job = (await run_backup(backup)).job
                inventory = await run_inventory(InventoryOptions(**session))  # type: ignore[arg-type] # as above
                full = {each.barcode: each.kind for each in inventory.elements if each.full}
                assert full == {"TAPE01L4": "slot", "TAPE02L4": "slot", "TAPE03L4": "drive"}
                recover = RecoverOptions(**session, job=job, destination=str(target))  # type: ignore[arg-type] # as above
                assert (await run_recover(recover)).failed == []
    assert compare_trees(source, target).differences == []
