"""What a data worker may do, by its operation. Source: docs/architecture.md section 1, Rights."""

from typing import Final

from mover.data.codes import TAR
from mover.data.recover_options import recover_options
from mover.data.tar_recover_attributes import GROUP, PASSWD
from mover.workers.confine import (
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_MKNOD,
    CAP_SETFCAP,
    CAP_SYS_ADMIN,
    POPULATE,
    READ,
    READ_FILE,
    Grant,
)
from mover.workers.data_messages import CheckBackup, Pairs, StartBackup, StartRecover
from mover.workers.messages import ToWorker

TRUSTED_XATTRS: Final = b"TRUSTED_XATTRS"
"""Variable of our own, types backup and recover, Y/N, default N: keep the right (CAP_SYS_ADMIN) that it takes to see
``trusted.*`` attributes in a backup, and to set them and most of ``security.*`` in a recover."""

BACKUP: Final = CAP_DAC_READ_SEARCH
RECOVER: Final = CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_FOWNER | CAP_FSETID | CAP_MKNOD | CAP_SETFCAP

MOST: Final = BACKUP | RECOVER | CAP_SYS_ADMIN


def need(message: ToWorker) -> Grant:
    """Reading below the volume for a backup, everything below the destination's volumes for a recover, else nothing.

    ACLs in a tar stream may hold names of users and groups, which become numbers by the local files.
    """
    match message:
        case StartBackup() | CheckBackup():
            return Grant(BACKUP | _asked_for(message.env), ((message.root.volume, READ),))
        case StartRecover() if not recover_options(message.env).writes:
            return Grant()
        case StartRecover():
            volumes = sorted({name.target.volume for name in message.names})
            trees = tuple((volume, POPULATE) for volume in volumes)
            names = tuple((path, READ_FILE) for path in (PASSWD, GROUP)) if message.butype == TAR else ()
            return Grant(RECOVER | _asked_for(message.env), trees + names, own_mounts=True)
        case _:
            return Grant()


def _asked_for(env: Pairs) -> int:
    return CAP_SYS_ADMIN if dict(env).get(TRUSTED_XATTRS, b"")[:1].lower() in {b"y", b"t"} else 0
