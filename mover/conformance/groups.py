"""Which version has which group of checks.

A group that a version does not have has no rows in it.
"""

from typing import Final

from mover.conformance import (
    group_config,
    group_connect,
    group_data,
    group_job,
    group_joined,
    group_medium,
    group_mover,
    group_notices,
    group_scsi,
    group_tape,
    group_three_way,
    group_version_1,
)
from mover.conformance.checks import Group

_FROM_2: Final[dict[str, Group]] = {
    "connect": group_connect.checks,
    "config": group_config.checks,
    "scsi": group_scsi.checks,
    "tape": group_tape.checks,
    "data": group_data.checks,
    "mover": group_mover.checks,
    "medium": group_medium.checks,
    "joined": group_joined.checks,
    "job": group_job.checks,
    "three-way": group_three_way.checks,
    "notices": group_notices.checks,
}

_1: Final[dict[str, Group]] = {
    "connect": group_connect.checks,
    "config": group_config.checks,
    "scsi": group_scsi.checks,
    "tape": group_version_1.tape_checks,
    "data": group_version_1.data_checks,
    "medium": group_medium.checks,
    "joined": group_joined.checks,
    "job": group_version_1.job_checks,
    "notices": group_notices.checks,
}

GROUPS_BY_VERSION: Final[dict[int, dict[str, Group]]] = {1: _1, 2: _FROM_2, 3: _FROM_2, 4: _FROM_2}
"""Version -> group -> its checks."""
