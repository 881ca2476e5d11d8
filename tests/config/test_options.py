"""The options: values as operators write them, where they come from, and what contradicts them."""

from pathlib import Path

import pytest

from mover.config import Config, PortRange, Vserver, parse_config
from mover.config.options import NOT_APPLICABLE, OPTIONS, is_given, parse_change, read, with_changes

CONFIG = Config(vserver=[Vserver(name="vs1", sessions=3)])


@pytest.mark.parametrize("vserver", ["", "vs1"])
def test_what_is_shown_can_be_written(vserver: str) -> None:
    for name, option in OPTIONS.items():
        if vserver or option.node is not None:
            value = read(CONFIG, option, vserver)
            assert parse_change(vserver, name, option.show(value)) == value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("enable", "false", False),
        ("authtype", "plaintext, challenge", ["plaintext", "challenge"]),
        ("sessions", "7", 7),
        ("maxversion", "2", 2),
        ("data-port-range", "18600-18610", PortRange(18600, 18610)),
        ("data-port-range", "all", PortRange(0, 0)),
        ("tcpwinsize", "64KiB", 65536),
        ("tcpwinsize", "8192", 8192),
        ("tcpwinsize", "auto", 0),
        ("debug-filter", "all-fh", "all-fh"),
    ],
)
def test_a_change_is_that_of_its_scope_alone(name: str, text: str, value: object) -> None:
    option = OPTIONS[name]
    for changed, other in (("", "vs1"), ("vs1", "")):
        config = with_changes(CONFIG, {(changed, name): text})
        assert read(config, option, changed) == value
        if name != "data-port-range" or changed:  # a vserver that says nothing has the node's
            assert read(config, option, other) == read(CONFIG, option, other)
    assert with_changes(CONFIG, {("vs9", name): text}) == CONFIG  # kept for when it is there again


def test_protocols_are_those_of_a_vserver() -> None:
    option = OPTIONS["disallowed-protocols"]
    assert read(with_changes(CONFIG, {("vs1", option.name): "ndmp"}), option, "vs1") == ["ndmp"]
    assert parse_change("vs1", option.name, "-") == []
    with pytest.raises(ValueError, match="there is no option disallowed-protocols of the node"):
        parse_change("", option.name, "ndmp")
    with pytest.raises(KeyError):
        read(CONFIG, option, "")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("enable", "on", "enable: expected true or false, got 'on'"),
        ("sessions", "0", "sessions: expected a number from 1 to 100000, got '0'"),
        ("sessions", "\u0663", "sessions: expected a number from 1 to 100000, got '\u0663'"),
        ("maxversion", "5", "maxversion: expected a number from 1 to 4, got '5'"),
        (
            "authtype",
            "md5",
            (
                "authtype: expected names out of challenge, plaintext, plaintext_sso, none, with commas between them, "
                "got 'md5'"
            ),
        ),
        ("tcpwinsize", "1", "tcpwinsize: expected \"auto\" or a size from 4096 to 67108864 bytes, got '1'"),
        (
            "data-port-range",
            "9-1",
            'data-port-range: expected "all" or ports "first-last" within 1..65535, got \'9-1\'',
        ),
        ("colour", "red", "there is no option colour of the node"),
        *[(name, "true", f"{name} is not applicable: {reason}") for name, reason in NOT_APPLICABLE.items()],
    ],
)
def test_a_value_that_will_not_do_is_refused_with_its_reason(name: str, text: str, line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the whole text is compared
        parse_change("", name, text)
    assert str(caught.value) == line


def test_a_value_that_stands_in_the_file_is_given(tmp_path: Path) -> None:
    path = tmp_path / "mover.toml"
    path.write_text(
        '[node]\ntcpnodelay = true\n[limits]\nsessions = 64\n[[vserver]]\nname = "a"\n[[vserver]]\nname = "b"\n'
        'maxversion = 4\ndata_port_range = "all"\n'
    )
    config = parse_config(str(path))
    given = {
        (vserver, name)
        for vserver in ("", "a", "b")
        for name, option in OPTIONS.items()
        if is_given(config, option, vserver)
    }
    assert given == {("", "tcpnodelay"), ("", "sessions"), ("b", "maxversion"), ("b", "data-port-range")}
