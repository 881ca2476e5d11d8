"""What is on a cartridge behind its label: data that nobody may write over is found wherever it lies."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from mover.dma import CartridgeError
from mover.media import Label, encode_label
from tests.dma.test_library import DEADLINE_S, Library, create, fill, make_library
from tests.tape import tap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LABEL = encode_label(Label("STRANGE1", "0f" * 16, 1_700_000_000))
DATA = b"the only copy" * 100


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    yield from make_library(tmp_path, drives=1)


@pytest.mark.parametrize("version", [3, 4])
async def test_data_behind_a_label_of_another_catalogue_stays(library: Library, version: int) -> None:
    tapes: list[tap.Tape] = [
        [LABEL, DATA],
        [LABEL, DATA, None],
        [LABEL, None, DATA],
        [LABEL, None, None, None, DATA, None],
    ]
    paths = [library.tape(barcode) for barcode in create(library, len(tapes))]
    for path, tape in zip(paths, tapes, strict=True):
        path.write_bytes(tap.build(tape))
    fill(library.source, 100_000)
    with trio.fail_after(DEADLINE_S), pytest.raises(CartridgeError, match=r"no cartridge .* \(4 were looked at\)"):
        await library.back_up(max_version=version)
    refused = [
        line.text for line in library.said if line.text.endswith("this catalogue does not know: not written over")
    ]
    assert len(refused) == len(tapes)
    assert [path.read_bytes() for path in paths] == [tap.build(tape) for tape in tapes]


@pytest.mark.parametrize("version", [3, 4])
async def test_a_label_alone_is_in_nobodys_way(library: Library, version: int) -> None:
    tapes: list[tap.Tape] = [[LABEL], [LABEL, None], [LABEL, None, None]]
    for barcode, tape in zip(create(library, len(tapes)), tapes, strict=True):
        library.tape(barcode).write_bytes(tap.build(tape))
    fill(library.source, 100_000)
    with trio.fail_after(DEADLINE_S):
        for _ in tapes:
            job = await library.back_up(max_version=version, new_cartridge=True)
            assert await library.cartridges(job) == ["STRANGE1"]
