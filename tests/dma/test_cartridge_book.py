"""Which cartridges are needed: whatever the order in which backups run, expire, fail and build on each other."""

from collections.abc import Iterator

import pytest

from mover.dma.cartridge_book import Cartridge, CartridgeBook, Segment
from mover.dma.catalogue import Catalogue
from mover.media import Label

NOW = 1000.0


@pytest.fixture
def book() -> Iterator[CartridgeBook]:
    catalogue = Catalogue(None)
    yield CartridgeBook(catalogue)
    catalogue.close()


def labelled(book: CartridgeBook, name: str, *, replaces: Cartridge | None = None, number: int = 0) -> Cartridge:
    label = Label(name, f"{name}{number}".encode().hex().rjust(32, "0"), 500)
    return book.labelled(label, name, replaces=replaces.id if replaces else None)


def backup(
    book: CartridgeBook, cartridge: Cartridge, *, level: int = 0, keep_until: float | None = None,
    filesystem: bytes = b"/f", status: str = "successful",
) -> int:  # fmt: skip
    job = book.catalogue.begin_job(
        data_server="a:1", tape_server="b:2", drive="d", record_size=512, butype="dump", filesystem=filesystem,
        protocol_version=4, keep_until=keep_until, level=level,
    )  # fmt: skip
    book.begin_segment(job, 0, cartridge, book.last_tape_file(cartridge) + 1, 0)
    book.end_segment(job, 0, 1024)
    if status != "running":
        env = [(b"LEVEL", b"%d" % level)]
        book.catalogue.end_job(job, status, "", tape_file=1, bytes_processed=1024, env=env, log=[])
    return job


def test_what_is_kept_is_needed(book: CartridgeBook) -> None:
    kept, expired, failed, running, until = (labelled(book, name) for name in "abcde")
    backup(book, kept)
    backup(book, expired, keep_until=NOW - 1)
    backup(book, failed, status="failed")
    backup(book, running, status="running", keep_until=NOW - 1)
    backup(book, until, keep_until=NOW + 1)
    assert book.needed(NOW) == {kept.id, running.id, until.id}


def test_what_is_built_on_is_needed(book: CartridgeBook) -> None:
    full, first, second, other = (labelled(book, name) for name in "abcd")
    backup(book, full, keep_until=NOW - 1)
    backup(book, first, level=1, keep_until=NOW - 1)
    backup(book, other, keep_until=NOW - 1, filesystem=b"/other")
    assert book.needed(NOW) == set()
    backup(book, second, level=2)
    assert book.needed(NOW) == {full.id, first.id, second.id}


def test_what_a_running_one_may_build_on_is_needed(book: CartridgeBook) -> None:
    full, present = labelled(book, "a"), labelled(book, "b")
    backup(book, full, keep_until=NOW - 1)
    backup(book, present, status="running")
    assert book.needed(NOW) == {present.id}
    backup(book, present, level=1, status="running")
    assert book.needed(NOW) == {full.id, present.id}


def test_a_cartridge_that_is_labelled_anew_is_another(book: CartridgeBook) -> None:
    before = labelled(book, "a")
    job = backup(book, before)
    after = labelled(book, "a", replaces=before, number=1)
    assert [each.id for each in book.cartridges()] == [after.id]
    (segment,) = book.segments(job)
    assert segment == Segment(book.find(before.id), 1, 0, 1024)  # type: ignore[arg-type] # it is there
    assert segment.cartridge.gone is not None
    assert [(each.name, each.jobs, each.needed) for each in book.known(NOW)] == [("a", [], False)]
    assert book.catalogue.job(job).cartridges == ["a"]


def test_segments_in_the_order_of_the_stream(book: CartridgeBook) -> None:
    first, second = labelled(book, "a"), labelled(book, "b")
    job = backup(book, first)
    book.begin_segment(job, 1, second, 4, 1024)
    book.end_segment(job, 1, 0)  # took nothing
    book.begin_segment(job, 2, second, 5, 1024)
    book.end_segment(job, 2, 2**40)
    assert [(each.cartridge.name, each.tape_file, each.offset, each.bytes) for each in book.segments(job)] == [
        ("a", 1, 0, 1024), ("b", 5, 1024, 2**40),
    ]  # fmt: skip
    assert book.last_tape_file(second) == 5
    assert book.catalogue.job(job).cartridges == ["a", "b"]
