"""Imported before all else by what is started as ``python -I -m``: leaves out what msgspec would import and not use.

msgspec takes typing_extensions where it is installed, as it is for `mover top`; that is a sixth of the time that a
worker's interpreter takes to start, and nothing of it is needed here. Tests import workers' modules, too: they are not
isolated.
"""

import sys

if sys.flags.isolated:
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]  # documented: None = not to be found
