"""What keeps vservers apart in the configuration."""

from pathlib import Path

import pytest

from mover.config import Config, ConfigError, User, Vserver, check_environment, load_config
from mover.config.vservers import overlaps

USER = '[[user]]\nname = "u"\npassword = "p"\n'
VS1 = '[[vserver]]\nname = "vs1"\n'


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "mover.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load_config(str(path))


def test_a_vserver_has_options_of_its_own(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f'[node]\ndebug_filter = "data"\n{VS1}volumes = {{ home = "/srv/home/" }}\nauthtype = ["plaintext"]\n'
        f'sessions = 3\n[[lif]]\nname = "d"\nrole = "data"\nvserver = "vs1"\n'
        f'{USER}role = "vsadmin"\nvservers = ["vs1"]',
    )
    assert config.vserver == [Vserver(name="vs1", volumes={"home": "/srv/home"}, authtype=["plaintext"], sessions=3)]
    assert config.service("vs1") is config.vserver[0]
    assert config.service("") is config.node
    assert config.user[0].vservers == ["vs1"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            f'{VS1}[[lif]]\nname = "m"\nvserver = "vs1"',
            (
                "lif[0].vserver: a LIF of role data belongs to a [[vserver]] and no other does, "
                'got role node-mgmt and vserver "vs1"'
            ),
        ),
        (
            f'{VS1}authtype = ["none"]\n[[lif]]\nname = "d"\naddress = "0.0.0.0"\nrole = "data"\nvserver = "vs1"',
            'vserver vs1.authtype: "none" is for loopback LIFs only, got lif[0].address 0.0.0.0',
        ),
        (f"{VS1}sessions = 0", "vserver[0].sessions: expected an integer of at least 1, got 0"),
        (
            f'{VS1}disallowed_protocols = ["nfs"]',
            'vserver[0].disallowed_protocols[0]: expected one of ndmp, got "nfs"',
        ),
        (
            f'{VS1}volumes = {{ a = "/srv/a" }}\n[[vserver]]\nname = "vs2"\nvolumes = {{ b = "/srv/a/b" }}',
            (
                "vserver[1].volumes.b: expected a directory apart from those of other vservers, "
                "got /srv/a/b and vserver[0].volumes.a /srv/a"
            ),
        ),
        (
            f'{VS1}volumes = {{ a = "/srv/a" }}\n[[vserver]]\nname = "vs2"\nvolumes = {{ b = "/" }}',
            (
                "vserver[1].volumes.b: expected a directory apart from those of other vservers, "
                "got / and vserver[0].volumes.a /srv/a"
            ),
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == f"{tmp_path}/mover.toml: {line}"


def test_names_that_only_begin_alike_do_not_overlap() -> None:
    vservers = [Vserver(name="vs1", volumes={"a": "/srv/a"}), Vserver(name="vs2", volumes={"b": "/srv/ab"})]
    assert overlaps(Config(vserver=vservers, user=[User(name="u")]), lambda name: name) == []


def test_symbolic_links_lead_two_vservers_into_one_directory(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    config = load(
        tmp_path,
        f'[node]\nstate_directory = "{tmp_path}/s"\nadmin_socket = "{tmp_path}/s/a"\n'
        f'{VS1}volumes = {{ a = "{tmp_path}/a" }}\n[[vserver]]\nname = "vs2"\nvolumes = {{ l = "{tmp_path}/link" }}',
    )
    assert check_environment(config) == [
        (
            "vserver[1].volumes.l: expected a directory apart from those of other vservers, "
            f"got {tmp_path}/link and vserver[0].volumes.a {tmp_path}/a"
        )
    ]
