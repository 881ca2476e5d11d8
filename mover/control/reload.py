"""SIGHUP: the configuration is read again."""

import os
from typing import Final

import msgspec
import structlog
import trio

from mover.config import Config, ConfigError, load_config
from mover.config.vservers import overlaps
from mover.control.node import Node
from mover.control.tls_identity import IdentityError

# What a running server cannot change; compared at SIGHUP.
_FIXED: Final = ("lif", "library", "drive", "changer")
_FIXED_NODE: Final = (
    "state_directory", "cluster_directory", "admin_socket", "log_format", "metrics",
    "statistics_interval_s",
)  # fmt: skip

log = structlog.get_logger()


def _load(path: str) -> Config:
    """The configuration, once no volume of a vserver lies in one of another. Raises ConfigError."""
    config = load_config(path)
    for line in overlaps(config, os.path.realpath):
        raise ConfigError(f"{path}: {line}")
    return config


async def read_again(node: Node, path: str | None) -> None:
    """SIGHUP: take the configuration's file as it is now, but for what takes a restart; a wrong one changes nothing."""
    if path is None:
        log.warning("no configuration file to read again")
        return
    try:
        config = await trio.to_thread.run_sync(_load, path)
    except (ConfigError, OSError) as error:
        log.error("configuration not taken", error=str(error))
        return
    before = node.options.configured
    changed = [name for name in _FIXED if getattr(config, name) != getattr(before, name)]
    changed += [f"node.{name}" for name in _FIXED_NODE if getattr(config.node, name) != getattr(before.node, name)]
    if config.limits.spares != before.limits.spares:
        changed.append("limits.spares")
    fixed = [*_FIXED]
    if [each.name for each in config.vserver] != [each.name for each in before.vserver]:
        fixed.append("vserver")  # LIFs are theirs
        changed.append("vserver")
    if changed:
        log.warning("these need a restart", keys=changed)
    taken = msgspec.structs.replace(
        config,
        **{name: getattr(before, name) for name in fixed},
        node=msgspec.structs.replace(config.node, **{name: getattr(before.node, name) for name in _FIXED_NODE}),
    )
    await trio.to_thread.run_sync(node.configure, taken)
    try:
        await node.secure_ports.configure(node.config)
    except IdentityError as error:
        log.error("certificate not taken", error=str(error))
    except OSError as error:
        log.error("secure port not opened", lif=error.filename, error=error.strerror)
    node.end_barred_sessions()  # of users who are not in it any more, or are others
    log.info("configuration read again", path=path)
