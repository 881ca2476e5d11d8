"""The unit: systemd takes every line of it, and what it leaves to the service is what workers need."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mover.config import load_config
from mover.data import rights
from mover.workers import confine
from tests.support import peers

EXPOSURE_MAX = 55
"""Tenths: what `systemd-analyze security` may say of it at the most; its comments say why it is not less."""


def unit(checkout: Path) -> str:
    return (checkout / "packaging" / "mover.service").read_text()


def values(text: str, key: str) -> list[str]:
    return " ".join(re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)).split()


@pytest.mark.peer("systemd-analyze")
def test_systemd_has_nothing_to_say_against_it(checkout: Path, tmp_path: Path) -> None:
    # The program is not installed here; everything else is as it is.
    text = unit(checkout).replace("ExecStart=/usr/bin/mover", f"ExecStart={shutil.which('true')}")
    (tmp_path / "mover.service").write_text(text)
    told = subprocess.run(
        [peers.require("systemd-analyze"), "verify", "--man=no", tmp_path / "mover.service"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # Of units of the host, which are none of ours, it may complain.
    assert [line for line in told.stderr.splitlines() if "mover" in line] == []
    assert told.returncode == 0


@pytest.mark.peer("systemd-analyze")
def test_it_is_exposed_no_more_than_it_was(checkout: Path) -> None:
    told = subprocess.run(
        [
            peers.require("systemd-analyze"), "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX}",
            checkout / "packaging" / "mover.service",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout[-200:]


def test_it_has_every_capability_that_a_worker_keeps(checkout: Path) -> None:
    wanted = rights.MOST | confine.CAP_SYS_RAWIO | confine._CAP_SETPCAP
    names = {name for name in dir(confine) if name.startswith("CAP_") and getattr(confine, name) & wanted}
    assert names | {"CAP_SETPCAP"} <= set(values(unit(checkout), "CapabilityBoundingSet"))


def test_it_lets_workers_confine_themselves(checkout: Path) -> None:
    allowed = set(values(unit(checkout), "SystemCallFilter"))
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "@mount"} <= allowed
    assert values(unit(checkout), "RestrictNamespaces") == ["mnt"]


def test_its_directories_are_the_defaults_of_the_configuration(checkout: Path) -> None:
    config = load_config(str(checkout / "packaging" / "mover.toml"))
    assert config.node.state_directory == "/var/lib/" + values(unit(checkout), "StateDirectory")[0]
    assert config.node.admin_socket == f"/run/{values(unit(checkout), 'RuntimeDirectory')[0]}/admin.sock"


def test_the_configuration_that_is_installed_opens_nothing(checkout: Path) -> None:
    config = load_config(str(checkout / "packaging" / "mover.toml"))
    assert [(lif.address, lif.port) for lif in config.lif] == [("127.0.0.1", 10000)]
    assert (config.user, config.node.volumes, config.drive, config.library) == ([], {}, [], [])


def test_its_commented_lines_are_a_configuration_too(checkout: Path, tmp_path: Path) -> None:
    text = (checkout / "packaging" / "mover.toml").read_text()
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("correct-horse\n")
    example = re.sub(r"^# (?=\[\[|\w+ = )", "", text, flags=re.MULTILINE)
    path = tmp_path / "mover.toml"
    path.write_text(example.replace("/etc/mover/ndmp.password", str(password)))
    config = load_config(str(path))
    assert set(config.node.volumes) == {"home", "srv"}
    named = [config.user[0].name, config.library[0].name, config.drive[0].name]
    assert named == ["ndmp", "vtl0", "nst0"]
