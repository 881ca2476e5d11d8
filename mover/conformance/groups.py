"""Which version has which group of checks.

A version without a row is not checked, and a run that asks for it says so.
"""

from typing import Final

from mover.conformance import (
    group_config,
    group_connect,
    group_data,
    group_job,
    group_joined,
    group_mover,
    group_scsi,
    group_tape,
)
from mover.conformance.checks import Group

_FROM_2: Final[dict[str, Group]] = {
    "connect": group_connect.checks,
    "config": group_config.checks,
    "scsi": group_scsi.checks,
    "tape": group_tape.checks,
    "data": group_data.checks,
    "mover": group_mover.checks,
    "joined": group_joined.checks,
    "job": group_job.checks,
}

GROUPS_BY_VERSION: Final[dict[int, dict[str, Group]]] = {2: _FROM_2, 3: _FROM_2, 4: _FROM_2}
"""Version -> group -> its checks."""
