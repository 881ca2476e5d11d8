"""Why branches of the protocol and dispatch code are not reached by fuzzing: by module and the text of their line."""

from typing import Final

NOT_YET: Final = "not reached yet"
OWN: Final = "a worker that breaks its own rules; it is logged as a fault of ours, and a find"
CALLER: Final = "a mistake of the server's own code, which no bytes of a peer make"
GUARD: Final = "a guard: between the two steps nothing is waited for that could change it"
CLOSED: Final = "the cases before are all there are"
OFF: Final = "by the letter of version 4; off, because deployed clients do otherwise (protocol.md)"
IMPORT: Final = "what is asked when a module is read"
SYSTEM: Final = "a system without memory or descriptors"
COST: Final = "40 MiB of names: one such input takes as long as thousands of others; `tests/control` has it"
CONFIG: Final = "another configuration; `tests/control` has it"
TURN: Final = "a robot that is busy with another's move; `tests/control` has it"

REASONS: Final[dict[tuple[str, str], str]] = {
    ("mover/control/connection.py", "case Request():"): CLOSED,
    ("mover/control/connection.py", "if handler is None:"): "every request of the tables has a handler; a guard",
    ("mover/control/data_connection.py", "case LogLine():"): OWN,
    ("mover/control/data_service.py", "case DataFinished():"): OWN,
    ("mover/control/data_service.py", "if end is None:"): GUARD,
    ("mover/control/data_service.py", "if run is not None:"): GUARD,
    ("mover/control/data_service.py", "if self.connection_end is not end:"): GUARD,
    ("mover/control/data_service.py",
     "if self._run is run and self.machine.can(signal) and self.machine.state in RUNNING:"): GUARD,
    ("mover/control/data_service.py", "if self.connection_end is not None:"): GUARD,
    ("mover/control/data_service.py",
     "if self.machine.state is not DataState.HALTED and self.machine.can(signal):"): GUARD,
    ("mover/control/data_service.py", "if not self.machine.can(signal) or not self.machine.apply(signal):"): GUARD,
    ("mover/control/data_service.py", "if self.machine.can(DataInput.CONNECTION_LOST):"): GUARD,
    ("mover/control/data_service.py", "if self.result is None and worker is self.worker:"): GUARD,
    ("mover/control/handlers/connect.py", "if AuthType.MD5 not in offered(connection.config):"): CONFIG,
    ("mover/control/incoming.py", "elif chunk is not None:"): "the kernel says readable, and then there is nothing",
    ("mover/control/handlers/data.py", "if data.connection_end is None:"): GUARD,
    ("mover/control/mover_service.py", "if end is None:"): GUARD,
    ("mover/control/mover_service.py", "if end is not None:"): GUARD,
    ("mover/control/mover_service.py", "if self.machine.can(MoverInput.CONNECTION_LOST):"): GUARD,
    ("mover/control/outbox.py", "if not parts:"): OWN,
    ("mover/control/recover_names.py", "if left < 0:"): COST,
    ("mover/control/scsi_bus.py", "if own:"): CONFIG,
    ("mover/control/scsi_service.py", "if waiting.cancelled_caught:"): TURN,
    ("mover/control/tape_service.py", "case Refused():"): OWN,
    ("mover/control/tape_service.py", "case MoverHalted():"): OWN,
    ("mover/control/tape_service.py", "if memory is not None:"): SYSTEM,
    ("mover/control/tape_service.py", "if self.bay is not None:"): GUARD,
    ("mover/control/tape_service.py", "if self._memory is not None:"): GUARD,
    ("mover/control/version_1/data.py", "if ring is None:"): GUARD,
    ("mover/control/version_1/data.py",
     "if self._mover.machine.state is not MoverState.PAUSED or not self.machine.can(signal):"): GUARD,
    ("mover/control/version_1/mover.py", "if self.machine.can(MoverInput.STOP):"): GUARD,
    ("mover/ndmp/dialogue.py", "if self.full:"): "the line before it fills the log to its last byte",
    ("mover/ndmp/server.py", "if offered_version not in VERSIONS:"): CALLER,
    ("mover/ndmp/states.py", "if moved:"): CALLER,
    ("mover/ndmp/window.py", "if record_size == 0:"): CALLER,
    ("mover/ndmp/window.py", "if strict and version >= 4 and not window_is_new:"): OFF,
    ("mover/ndmp/window.py", "if bytes_left_to_read:"): "the tape worker answers that (`tests/tape`)",
    ("mover/ndmp/xdr.py", "for mark in get_args(hint)[1:]:"): IMPORT,
    ("mover/ndmp/xdr.py", "case Arms():"): IMPORT,
    ("mover/ndmp/xdr.py", "if isclass(hint) and issubclass(hint, msgspec.Struct):"): IMPORT,
}  # fmt: skip
"""What has no reason here could be reached, and is not yet."""
