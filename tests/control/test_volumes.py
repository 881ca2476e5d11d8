"""The path policy: what lies below a volume, and what is refused with the path in the text."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.control.volumes import PlacementError, Volumes, components, show
from mover.workers.data_messages import Place

VOLUMES = Volumes({"srv": "/srv", "home": "/srv/home", "odd": "/no/such\nplace"})


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (b"/srv", Place(b"/srv", b"")),
        (b"/srv/", Place(b"/srv", b"")),
        (b"/srv/a/b", Place(b"/srv", b"a/b")),
        (b"//srv/./a//b/", Place(b"/srv", b"a/b")),
        (b"/srv/home", Place(b"/srv/home", b"")),  # the deepest volume
        (b"/srv/home/u", Place(b"/srv/home", b"u")),
        (b"/srv/homes", Place(b"/srv", b"homes")),
        (b"/srv/...", Place(b"/srv", b"...")),
        (b"/srv/\xff", Place(b"/srv", b"\xff")),
    ],
)
def test_a_path_below_a_volume_has_a_place(path: bytes, place: Place) -> None:
    assert VOLUMES.place(path) == place


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"", "an empty path: not an absolute path"),
        (b"srv/a", "srv/a: not an absolute path"),
        (b"/srv/../etc", "/srv/../etc: a path may not climb with .."),
        (b"/srv/..", "/srv/..: a path may not climb with .."),
        (b"/srv/a\0b", "/srv/a\\x00b: a path may not hold a NUL"),
        (b"/", "/: outside every volume of this server"),
        (b"/etc", "/etc: outside every volume of this server"),
        (b"/srvx/a", "/srvx/a: outside every volume of this server"),
    ],
)
def test_any_other_path_is_refused_by_name(path: bytes, text: str) -> None:
    with pytest.raises(PlacementError) as caught:
        VOLUMES.place(path)
    assert str(caught.value) == text


def test_a_volume_is_also_known_by_the_name_behind_its_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    volumes = Volumes({"v": str(tmp_path / "link")})
    directory = os.fsencode(tmp_path / "link")
    assert volumes.place(os.fsencode(tmp_path / "real" / "a")) == Place(directory, b"a")
    assert volumes.place(os.fsencode(tmp_path / "link" / "a")) == Place(directory, b"a")


def test_no_volume_holds_nothing() -> None:
    with pytest.raises(PlacementError):
        Volumes({}).place(b"/")


@settings(max_examples=100)
@given(st.lists(st.sampled_from([b"srv", b"home", b"..", b".", b"", b"a", b"etc"]), max_size=8))
def test_a_place_never_climbs_out(names: list[bytes]) -> None:
    path = b"/" + b"/".join(names)
    try:
        place = VOLUMES.place(path)
    except PlacementError:
        return
    assert b".." not in place.path.split(b"/")
    assert os.path.normpath(place.volume + b"/" + place.path) == os.path.normpath(b"/" + path.lstrip(b"/"))


def test_show_escapes_what_people_cannot_read() -> None:
    assert show(b"/a\n\xff\xc3\xa4") == "/a\\n\\xffä"
    assert components(b"./a//b/") == [b"a", b"b"]
