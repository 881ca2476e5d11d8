"""What the configuration needs of the host before `mover serve` can start."""

import os

from mover.config.model import Config
from mover.config.vservers import overlaps


def check_environment(config: Config) -> list[str]:
    """One line for each directory or program that is missing or cannot be used; nothing is changed.

    Volumes, library directories, those of virtual drives' files, and the commands of snapshots must exist. The
    state directory and that of the admin socket are made at the start; here it is only checked that they can be.
    """
    wrong = []
    for name, directory in config.node.volumes.items():
        wrong += _missing(f"node.volumes.{name}", directory)
    for index, vserver in enumerate(config.vserver):
        for name, directory in vserver.volumes.items():
            wrong += _missing(f"vserver[{index}].volumes.{name}", directory)
    wrong += overlaps(config, os.path.realpath)
    for index, library in enumerate(config.library):
        wrong += _missing(f"library[{index}].directory", library.directory, to_write=True)
    for index, drive in enumerate(config.drive):
        if path := drive.virtual_path():
            wrong += _missing(f"drive[{index}].device", os.path.dirname(path), to_write=True)
    for index, snapshot in enumerate(config.snapshot):
        for key, command in (("pre", snapshot.pre), ("post", snapshot.post)):
            wrong += _not_a_program(f"snapshot[{index}].{key}", command)
    wrong += _not_creatable("node.state_directory", config.node.state_directory)
    wrong += _not_creatable("node.admin_socket", os.path.dirname(config.node.admin_socket))
    return wrong


def _missing(key: str, directory: str, *, to_write: bool = False) -> list[str]:
    if not os.path.exists(directory):
        return [f"{key}: {directory}: no such directory"]
    if not os.path.isdir(directory):
        return [f"{key}: {directory}: not a directory"]
    wanted = os.R_OK | os.X_OK | (os.W_OK if to_write else 0)
    if not os.access(directory, wanted):
        return [f"{key}: {directory}: permission denied"]
    return []


def _not_a_program(key: str, command: list[str]) -> list[str]:
    if not command or (os.path.isfile(command[0]) and os.access(command[0], os.X_OK)):
        return []
    return [f"{key}: {command[0]}: {'cannot be executed' if os.path.exists(command[0]) else 'no such program'}"]


def _not_creatable(key: str, directory: str) -> list[str]:
    existing = directory
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        return [f"{key}: {directory}: {existing} is not a directory"]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [f"{key}: {directory}: cannot be written or made, permission denied at {existing}"]
    return []
