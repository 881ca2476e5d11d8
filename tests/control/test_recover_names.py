"""Every row of the reference's recover list rules: what each version's fields mean."""

import pytest

from mover.control.recover_names import NAMES_BYTES_MAX, resolve_names
from mover.control.volumes import PlacementError, Volumes
from mover.ndmp.messages import RecoverName
from mover.workers.data_messages import Place

VOLUMES = Volumes({"vol": "/vol", "home": "/home"})
ROOT = b"/vol/v3"
UNKNOWN = 2**64 - 1

# version, original_path, destination, name, path to take, absolute target
ROWS = [
    # version 2: dest is the complete target
    (2, b"a/b", b"/vol/x", b"", b"a/b", b"/vol/x"),
    (2, b"/a/b", b"/vol/x/b", b"", b"a/b", b"/vol/x/b"),
    (2, b"a", b"", b"", b"a", b"/vol/v3/a"),
    (2, b"a/b", b"x", b"", b"a/b", b"/vol/v3/x"),
    (2, b"", b"/vol/x", b"", b"", b"/vol/x"),
    (1, b"a/b", b"/vol/x", b"", b"a/b", b"/vol/x"),
    (1, b"a/b", b"", b"", b"a/b", b"/vol/v3/a/b"),
    # version 3: a directory to recover into, and a new last component
    (3, b"a/b", b"/vol/x", b"", b"a/b", b"/vol/x/a/b"),
    (3, b"", b"/vol/x", b"", b"", b"/vol/x"),
    (3, b"a/b", b"", b"", b"a/b", b"/vol/v3/a/b"),
    (3, b"a/b", b"/vol/x", b"c", b"a/b", b"/vol/x/c"),
    (3, b"a/b", b"/vol/x", b"c/d", b"a/b", b"/vol/x/c/d"),  # separators in new_name
    (3, b"a/b", b"", b"/vol/y/full", b"a/b", b"/vol/y/full"),  # what NDMJOB's client sends for another name
    (3, b"a/b", b"/vol/x/", b"/c", b"a/b", b"/vol/x/c"),
    (3, b"a/b", b"", b"c", b"a/b", b"/vol/v3/a/c"),  # a new last component where it was
    (3, b"a", b"", b"c", b"a", b"/vol/v3/c"),
    (3, b"a/b", b"", b"x/y", b"a/b", b"/vol/v3/x/y"),  # a path, then, below the root of the backup
    (3, b"a/b", b"x", b"", b"a/b", b"/vol/v3/x/a/b"),  # a directory that is not absolute, likewise
    (3, b"", b"", b"", b"", b"/vol/v3"),
    (3, b"", b"/vol", b"v4", b"", b"/vol/v4"),
    (3, b"/a/b/", b"/", b"vol/z", b"a/b", b"/vol/z"),
    # version 4: the destination is the target, or with a name its directory; the table of section 4.3
    (4, b"", b"/vol/v3", b"", b"", b"/vol/v3"),
    (4, b"", b"/vol", b"v3", b"", b"/vol/v3"),
    (4, b"/u/t", b"/vol/v1/u/t.old", b"", b"u/t", b"/vol/v1/u/t.old"),
    (4, b"/u/t", b"/vol/v1/u", b"t.old", b"u/t", b"/vol/v1/u/t.old"),
    (4, b"/log", b"/vol/v3/rec", b"log", b"log", b"/vol/v3/rec/log"),
    (4, b"/u/t", b"", b"", b"u/t", b"/vol/v3/u/t"),  # never empty, it says: where it was
    (4, b"/u/t", b"x/y", b"", b"u/t", b"/vol/v3/x/y"),
    (4, b"/u/t", b"/vol/x/", b"/y", b"u/t", b"/vol/x/y"),
    # section 4.4: everything is /, . and empty alike; separators in front or not
    (4, b"/", b"/home/x", b"", b"", b"/home/x"),
    (4, b".", b"/home/x", b"", b"", b"/home/x"),
    (4, b"./a//b/", b"/home/x/", b"", b"a/b", b"/home/x"),
]


@pytest.mark.parametrize(("version", "original", "destination", "name", "take", "target"), ROWS)
async def test_a_row_of_the_reference(
    version: int, original: bytes, destination: bytes, name: bytes, take: bytes, target: bytes
) -> None:
    (resolved,) = await resolve_names(version, [RecoverName(original, destination, name)], ROOT, VOLUMES, direct=False)
    assert resolved.original == take
    assert resolved.target == VOLUMES.place(target)
    assert resolved.reported == original
    assert (resolved.node, resolved.fh_info) == (UNKNOWN, UNKNOWN)


@pytest.mark.parametrize(("version", "original", "destination", "name", "take", "target"), ROWS)
async def test_a_name_in_a_second_name_space_changes_nothing(
    version: int, original: bytes, destination: bytes, name: bytes, take: bytes, target: bytes
) -> None:
    """There is none on Linux: other_name is no name of what is made, and none to look for."""
    entry = RecoverName(original, destination, name, other_name=b"OTHER~1")
    (resolved,) = await resolve_names(version, [entry], ROOT, VOLUMES, direct=False)
    assert (resolved.original, resolved.target) == (take, VOLUMES.place(target))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (RecoverName(b"../x", b"/vol/x"), "../x: a path may not climb with .."),
        (RecoverName(b"a\0b", b"/vol/x"), "a\\x00b: a path may not hold a NUL"),
        (RecoverName(b"a", b"/etc"), "/etc: outside every volume of this server"),
        (RecoverName(b"a", b"/vol/../etc"), "/vol/../etc: a path may not climb with .."),
        (RecoverName(b"a", b"/vol", b"../etc"), "/vol/../etc: a path may not climb with .."),
    ],
)
async def test_a_name_that_leads_out_is_refused(name: RecoverName, text: str) -> None:
    with pytest.raises(PlacementError) as caught:
        await resolve_names(4, [RecoverName(b"ok", b"/vol/ok"), name], ROOT, VOLUMES, direct=False)
    assert str(caught.value) == text


async def test_without_destination_and_root_there_is_no_target() -> None:
    with pytest.raises(PlacementError, match="no destination"):
        await resolve_names(3, [RecoverName(b"a", b"")], None, VOLUMES, direct=False)


@pytest.mark.parametrize(("direct", "kept"), [(False, UNKNOWN), (True, 0)])
async def test_fh_info_of_zero_is_unknown_unless_direct(direct: bool, kept: int) -> None:
    (resolved,) = await resolve_names(
        4, [RecoverName(b"a", b"/vol/a", fh_info=0, node=7)], ROOT, VOLUMES, direct=direct
    )
    assert (resolved.node, resolved.fh_info) == (7, kept)
    assert resolved.target == Place(b"/vol", b"a")


@pytest.mark.slow
async def test_short_names_in_a_long_root_are_too_much_together() -> None:
    names = [RecoverName(b"%d" % number, b"") for number in range(1000)]
    with pytest.raises(PlacementError, match=f"at most {NAMES_BYTES_MAX} bytes"):
        await resolve_names(4, names, b"/vol" + b"/d" * 50_000, VOLUMES, direct=False)
