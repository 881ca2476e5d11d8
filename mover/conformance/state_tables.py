"""Which request is legal in which state, and what it leads to: the tables that `walk` turns into checks.

Written from states.md 3.1, 3.2, 4.1 and 5.1, not from the server's own tables, and read as there. A cell lists what is
right, the preferred answer first: a state = NO_ERR and that state next; ok = NO_ERR and nothing changes; ok? = NO_ERR,
and what is on the tape decides what comes next; any other name = that error, and nothing changes. More than one where
the texts disagree among themselves, or with the tests that deployed servers have to pass.
"""

from collections.abc import Mapping
from typing import Final

Table = Mapping[str, tuple[str, ...]]

NAMES: Final = {
    "IS": "ILLEGAL_STATE_ERR",
    "BUSY": "DEVICE_BUSY_ERR",
    "CLOSED": "DEV_NOT_OPEN_ERR",
    "OPENED": "DEVICE_OPENED_ERR",
    "ARGS": "ILLEGAL_ARGS_ERR",
    "PERMISSION": "PERMISSION_ERR",
    "CONNECT": "CONNECT_ERR",
    "PRECONDITION": "PRECONDITION_ERR",
    "NONE": "NOT_SUPPORTED_ERR",
}
"""How the cells abbreviate errors."""

# 2.1; the arguments of START may be looked at before the tape
DATA_1_CLOSED_STATES: Final = ("IDLE, no tape",)
DATA_1_CLOSED: Final[Table] = {
    "START_BACKUP":  ("CLOSED",),
    "START_RECOVER": ("CLOSED",),
    "ABORT":         ("IS",),
    "CONTINUE":      ("IS",),
    "STOP":          ("IS",),
    "GET_ENV":       ("IS",),
    "GET_STATE":     ("ok",),
}  # fmt: skip
DATA_1_STATES: Final = ("IDLE", "ACTIVE", "PAUSED", "HALTED")
DATA_1: Final[Table] = {
    "START_BACKUP":  ("ACTIVE", "IS",     "IS",     "IS"),
    "START_RECOVER": ("ok?",    "IS",     "IS",     "IS"),
    "ABORT":         ("IS",     "HALTED", "HALTED", "IS"),
    "CONTINUE":      ("IS",     "IS",     "ok?",    "IS"),
    "STOP":          ("IS",     "IS",     "IS",     "IDLE"),
    "GET_ENV":       ("IS",     "ok",     "ok",     "ok"),
    "GET_STATE":     ("ok",     "ok",     "ok",     "ok"),
}  # fmt: skip

# 2.4, 2.5; DATA ACTIVE is not described: BUSY recommended
TAPE_1_STATES: Final = ("closed", "IDLE", "DATA ACTIVE", "DATA HALTED")
TAPE_1: Final[Table] = {
    "OPEN":            ("ok",          "OPENED",             "OPENED",       "OPENED"),
    "CLOSE":           ("CLOSED",      "ok",                 "BUSY|IS",      "ok"),
    "GET_STATE":       ("CLOSED",      "ok",                 "ok",           "ok"),
    "MTIO":            ("CLOSED",      "ok",                 "BUSY|IS",      "ok"),
    "READ":            ("CLOSED",      "ok",                 "BUSY|IS",      "ok"),
    "WRITE":           ("CLOSED",      "ok|PERMISSION",      "BUSY|IS",      "ok|PERMISSION"),
    "SET_RECORD_SIZE": ("CLOSED",      "ok",                 "IS|BUSY",      "ok"),
    "EXECUTE_CDB":     ("CLOSED|NONE", "ok|NONE",            "BUSY|IS|NONE", "ok|NONE"),
}  # fmt: skip

# 3.1; ABORT in HALTED: "IS when no operation is in progress" (V2), NO_ERR (IX)
DATA_2_STATES: Final = ("IDLE", "ACTIVE", "HALTED")
DATA_2: Final[Table] = {
    "START_BACKUP":  ("ACTIVE", "IS",     "IS"),
    "START_RECOVER": ("ACTIVE", "IS",     "IS"),
    "ABORT":         ("IS",     "HALTED", "IS|ok"),
    "STOP":          ("IS",     "IS",     "IDLE"),
    "GET_ENV":       ("IS",     "ok",     "ok"),
    "GET_STATE":     ("ok",     "ok",     "ok"),
}  # fmt: skip

# 3.2; ABORT in HALTED: V4 excludes IDLE only, V3 "no operation in progress"
DATA_34_STATES: Final = ("IDLE", "LISTEN TCP", "LISTEN LOCAL", "CONNECTED", "ACTIVE", "HALTED")
DATA_34: Final[Table] = {
    "LISTEN TCP":             ("LISTEN TCP",   "IS",     "IS",     "IS",     "IS",     "IS"),
    "LISTEN LOCAL":           ("LISTEN LOCAL", "IS",     "IS",     "IS",     "IS",     "IS"),
    "CONNECT":                ("CONNECTED",    "IS",     "IS",     "IS",     "IS",     "IS"),
    "START_BACKUP":           ("IS",           "IS",     "IS",     "ACTIVE", "IS",     "IS"),
    "START_RECOVER":          ("IS",           "IS",     "IS",     "ACTIVE", "IS",     "IS"),
    "START_RECOVER_FILEHIST": ("IS",           "IS",     "IS",     "ACTIVE", "IS",     "IS"),
    "ABORT":                  ("IS",           "HALTED", "HALTED", "HALTED", "HALTED", "ok|IS"),
    "STOP":                   ("IS",           "IS",     "IS",     "IS",     "IS",     "IDLE"),
    "GET_ENV":                ("IS",           "IS",     "IS",     "IS",     "ok",     "ok"),
    "GET_STATE":              ("ok",           "ok",     "ok",     "ok",     "ok",     "ok"),
}  # fmt: skip
DATA_3: Final[Table] = {name: row for name, row in DATA_34.items() if name != "START_RECOVER_FILEHIST"}

# 4.1. CLOSE in LISTEN and ACTIVE: V4 IS, deployed clients need it; SET_WINDOW in IDLE: 4.4; ABORT in HALTED as DATA's.
# LISTEN and CONNECT ask for what the tape is open for.
MOVER_STATES: Final = (
    "IDLE", "LISTEN WRITE TCP", "LISTEN WRITE LOCAL", "LISTEN READ TCP", "LISTEN READ LOCAL",
    "ACTIVE WRITE", "ACTIVE READ", "PAUSED WRITE", "PAUSED READ", "HALTED",
)  # fmt: skip
_LISTENS = ("IS",) * 4
_CLOSE_LISTEN = ("HALTED|IS",) * 4
_WINDOW_23 = ("ok|IS", "ok", "ok", "ok", "ok", "IS", "IS", "ok", "ok", "IS")
MOVER_4: Final[Table] = {
    "SET_RECORD_SIZE": ("ok",     *_LISTENS, "IS", "IS", "IS",     "IS",     "IS"),
    "SET_WINDOW":      ("ok",     *_LISTENS, "IS", "IS", "ok",     "ok",     "IS"),
    "LISTEN TCP":      ("LISTEN", *_LISTENS, "IS", "IS", "IS",     "IS",     "IS"),
    "LISTEN LOCAL":    ("LISTEN", *_LISTENS, "IS", "IS", "IS",     "IS",     "IS"),
    "CONNECT":         ("ACTIVE", *_LISTENS, "IS", "IS", "IS",     "IS",     "IS"),
    "READ":            ("IS",     *_LISTENS, "ok?", "IS", "IS",    "IS",     "IS"),
    "CONTINUE":        ("IS",     *_LISTENS, "IS", "IS", "ok?",    "ACTIVE", "IS"),
    "CLOSE":           ("IS", *_CLOSE_LISTEN, "HALTED|IS", "HALTED|IS", "HALTED", "HALTED", "IS"),
    "ABORT":           ("IS", *("HALTED",) * 8, "ok|IS"),
    "STOP":            ("IS", *_LISTENS, "IS", "IS", "IS", "IS", "IDLE"),
    "GET_STATE":       ("ok",) * 10,
}  # fmt: skip
MOVER_3: Final[Table] = {
    **MOVER_4,
    "SET_WINDOW": _WINDOW_23,
    "CLOSE": ("IS", *_CLOSE_LISTEN, "HALTED", "HALTED", "HALTED", "HALTED", "IS"),
}
MOVER_2: Final[Table] = {name: row for name, row in MOVER_3.items() if name != "CONNECT"}

# The same IDLE with no tape open: the tape comes behind arguments and state (4.1). The window of no length is what
# NDMJOB's test-mover insists on in every version (4.4).
MOVER_CLOSED_STATES: Final = ("IDLE, no tape",)
MOVER_CLOSED: Final[Table] = {
    "SET_RECORD_SIZE":    ("ok",),
    "SET_WINDOW":         ("ok",),
    "SET_WINDOW(0, 0)":   ("ok",),
    "LISTEN READ TCP":    ("CLOSED",),
    "LISTEN READ LOCAL":  ("CLOSED",),
    "LISTEN WRITE TCP":   ("CLOSED",),
    "LISTEN WRITE LOCAL": ("CLOSED",),
    "CONNECT":            ("CLOSED",),
    "READ":               ("IS",),
    "CONTINUE":           ("IS",),
    "CLOSE":              ("IS",),
    "ABORT":              ("IS",),
    "STOP":               ("IS",),
    "GET_STATE":          ("ok",),
}  # fmt: skip

# 5.1. BUSY in the texts, IS in NDMJOB's server; a zero-length WRITE does nothing, whatever the mode (5.5, 5.9);
# EXECUTE_CDB may be refused as a policy (5.11)
TAPE_STATES: Final = (
    "closed", "IDLE", "LISTEN WRITE TCP", "ACTIVE WRITE", "ACTIVE READ", "PAUSED WRITE", "PAUSED READ", "HALTED",
)  # fmt: skip
_BUSY = ("BUSY|IS",) * 3
TAPE: Final[Table] = {
    "OPEN":        ("ok",     "OPENED", "OPENED", "OPENED", "OPENED", "OPENED", "OPENED", "OPENED"),
    "CLOSE":       ("CLOSED", "ok",     *_BUSY,                                 "ok", "ok", "ok"),
    "GET_STATE":   ("CLOSED", "ok",     "ok", "ok", "ok",                       "ok", "ok", "ok"),
    "MTIO":        ("CLOSED", "ok",     *_BUSY,                                 "ok", "ok", "ok"),
    "READ":        ("CLOSED", "ok",     *_BUSY,                                 "ok", "ok", "ok"),
    "WRITE":       ("CLOSED", "ok|ARGS|PERMISSION", *_BUSY, *("ok|ARGS|PERMISSION",) * 3),
    "EXECUTE_CDB": ("CLOSED|NONE", "ok|NONE", "BUSY|IS|NONE", "BUSY|IS|NONE", "BUSY|IS|NONE", *("ok|NONE",) * 3),
}  # fmt: skip

MOVER_CLOSED_3: Final[Table] = {**MOVER_CLOSED, "SET_WINDOW": ("ok|IS",)}
MOVER_CLOSED_2: Final[Table] = {name: row for name, row in MOVER_CLOSED_3.items() if name != "CONNECT"}

DATA_TABLES: Final = {2: (DATA_2_STATES, DATA_2), 3: (DATA_34_STATES, DATA_3), 4: (DATA_34_STATES, DATA_34)}
MOVER_CLOSED_TABLES: Final = {2: MOVER_CLOSED_2, 3: MOVER_CLOSED_3, 4: MOVER_CLOSED}
MOVER_TABLES: Final = {2: MOVER_2, 3: MOVER_3, 4: MOVER_4}
OPTIONAL: Final = frozenset({"START_RECOVER_FILEHIST", "EXECUTE_CDB"})
"""Requests that a server need not have: NOT_SUPPORTED_ERR is no failure."""
