"""Which dump is this: a backup labels its stream with a random name, and a recover that was told it insists on it.

A tape file is found by its number, which says nothing of what it holds once another cartridge was loaded or this one
was written over. The name travels with the job: out by DATA_GET_ENV, kept by the DMA with the rest of the environment,
and back with START_RECOVER. Source: backup-env.md section 3.
"""

import os
import time
from base64 import b32encode
from typing import Final

from mover.data.dump_format import Header
from mover.workers.data_messages import Pairs

DUMP_ID: Final = b"MOVER_DUMP_ID"
"""Variable of our own in the environment: the label in every header of the dump. In the reply to GET_ENV of a backup;
in START_RECOVER and START_RECOVER_FILEHIST it makes every other dump an error. Empty or absent: any dump will do."""
_RANDOM_BYTES: Final = 9  # 15 characters, what restore takes of a label


def new_dump_id() -> bytes:
    """A label that no other dump has."""
    return b32encode(os.urandom(_RANDOM_BYTES)).rstrip(b"=").lower()


def wrong_dump(first: Header, env: Pairs) -> str:
    """Why a dump is not the one that an environment names, in one line; "" = it is, or none is named.

    Args:
        first: the header that the dump begins with.
    """
    values = dict(env)
    wanted = values.get(DUMP_ID, b"")
    if wanted in {b"", first.label}:
        return ""
    date = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(first.date))
    found = f"the dump of {shown(first.filesystem)} of {date} (id {shown(first.label)})"
    filesystem = values.get(b"FILESYSTEM", b"")
    of = f" of {shown(filesystem)}" if filesystem else ""
    return f"the tape file holds {found}, not the dump{of} that is wanted (id {shown(wanted)})"


def shown(text: bytes) -> str:
    """Bytes of a header as they may stand in a line of text."""
    return "".join(c if c.isprintable() else " " for c in text.decode("utf-8", "replace")) or "unknown"
