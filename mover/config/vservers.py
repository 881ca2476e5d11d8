"""What keeps vservers apart: volumes that no two of them share."""

import os
from collections.abc import Callable

from mover.config.model import Config


def overlaps(config: Config, resolve: Callable[[str], str]) -> list[str]:
    """A line for each volume of a vserver that lies in one of another vserver, or is the same.

    Args:
        resolve: what a directory is known by: its name, or its path behind symbolic links.
    """
    rows = [
        (f"vserver[{index}].volumes.{name}", index, directory, resolve(directory))
        for index, vserver in enumerate(config.vserver)
        for name, directory in vserver.volumes.items()
    ]
    return [
        f"{key}: expected a directory apart from those of other vservers, got {directory} and {other_key} {other}"
        for key, index, directory, real in rows
        for other_key, other_index, other, other_real in rows
        if index > other_index and os.path.commonpath([real, other_real]) in {real, other_real}
    ]
