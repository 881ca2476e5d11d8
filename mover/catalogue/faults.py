"""The kinds of errors in the code, by room and class: where a traceback or a text of theirs comes from."""

from typing import Final

from mover.catalogue.entry import Entry

_OURS: Final = "It never leaves the code that expects it; a traceback with it is a fault of mover: please report it."
_LINE: Final = "Do what its line says."

_FAULTS: Final = {
    # --- the protocol
    "ndmp.NdmpError": ("Base of all errors of the protocol core.", _OURS),
    "ndmp.PeerError": (
        "The peer broke the protocol; it is told the NDMP error that belongs to it.",
        "Look at the peer's version.",
    ),
    "ndmp.ApiError": ("The server asked its own protocol core for what cannot be.", _OURS),
    "ndmp.XdrDecodeError": (
        "A message does not hold what it should: XDR_DECODE_ERR.",
        "`mover log start` records the dialogue.",
    ),
    "ndmp.XdrEncodeError": ("A value does not fit its field: XDR_ENCODE_ERR.", _OURS),
    "ndmp.FramingError": (
        "What came is no NDMP record; the connection is closed.",
        "Another program, or TLS, speaks to this port.",
    ),
    "ndmp.IllegalStateError": ("The request is not possible in this state: ILLEGAL_STATE_ERR.", "See that code."),
    "ndmp.NotInVersionError": ("A message that this version does not have.", _OURS),
    "ndmp.LineError": (
        "A line of a protocol log cannot be read.",
        "Give `mover replay` a file that `mover log start` made.",
    ),
    # --- operators' commands and the server's start
    "admin.MessageError": (
        "Command and server do not understand each other.",
        "Use the `mover` of the server's own version.",
    ),
    "admin.NoControlProcessError": ("No control process answers at the admin socket: exit status 3.", "See `exit-3`."),
    "admin.RefusedError": ("The server refused an operator's command; its code is one of the catalogue.", _LINE),
    "cli.Failure": ("A command failed: exit status 1.", _LINE),
    "cli.WrongConfiguration": ("A command cannot use its configuration or options: exit status 2.", _LINE),
    "cli.NoControlProcess": ("No control process was reached: exit status 3.", "See `exit-3`."),
    "cli.NotReachedFailure": (
        "`mover conformance` did not reach the server.",
        "Address, port, firewall; is it running?",
    ),
    "cli.OutputLost": ("Standard output takes no more of what a command prints.", "Nothing, if its reader was ended."),
    "config.ConfigError": (
        "The configuration is wrong; the line names file, key and value.",
        "Mend the key: docs/configuration.md.",
    ),
    "control.StartError": (
        "The server cannot start; the line names the thing.",
        _LINE + " `mover doctor` looks at all of them.",
    ),
    "control.OptionError": (
        "An option cannot be changed so.",
        "`mover show` has the options, their values and their origin.",
    ),
    "control.AccountError": ("A user or role cannot be made or changed so.", _LINE),
    "control.HelperError": (
        "The auth helper gave no answer: PAM or NSS hangs or failed.",
        "`id USER` and `su USER` on the host show it.",
    ),
    "control.IdentityError": (
        "The certificate or key of the secure ports cannot be used.",
        "Mend the file that the line names.",
    ),
    "control.HeldError": (
        "Another server holds the same directory.",
        "One server for each state directory and library.",
    ),
    "control.RegistryError": (
        "The registry of the cluster's nodes cannot be read or written.",
        "Look at `cluster_directory`.",
    ),
    "control.StoreError": (
        "The database in the state directory cannot be used.",
        "Disk, rights, and the version that made it.",
    ),
    "control.SealError": (
        "The key that NDMP passwords are sealed with is wrong or missing.",
        "Bring `seal.key` back with the database it belongs to, or generate the passwords anew.",
    ),
    "control.TransferError": ("A file of exported dump dates cannot be made or read.", _LINE),
    "control.InventoryError": ("A library or cartridge cannot be used so.", "`mover library show` has what is where."),
    "control.StNodeError": (
        "A path is no tape device that can be driven.",
        "Give the non-rewinding node that the line names.",
    ),
    # --- inside control
    "control.Refusal": ("A request is refused with an NDMP error and a line for the DMA.", "See that error's code."),
    "control.PlacementError": (
        "No volume holds this path.",
        "`mover show` has the volumes; the DMA names /VSERVER/VOLUME/...",
    ),
    "control.ElsewhereError": (
        "The volume of this path is with another node.",
        "Back it up there, or `mover volume move` it.",
    ),
    "control.WorkerDied": (
        "A worker ended before it answered.",
        "The log says by which signal; the out-of-memory killer?",
    ),
    "control.WorkerHung": (
        "A worker did not answer in its time, and is killed.",
        "The device or disk that it waits for hangs.",
    ),
    "control.RelayFailed": ("The worker of a data connection could not begin.", "The log says why."),
    "control.CommandFailed": ("A real changer refused a command; the text has its words.", _LINE),
    "control.DeviceHungError": (
        "A device did not answer in its time, and is busy until it does.",
        "Look at the device; `mover tape show` says since when it hangs.",
    ),
    "control.IndexDamaged": ("The list of dump dates is damaged.", "See the log line `dump dates are lost, ...`."),
    # --- workers
    "workers.HalfWay": (
        "A worker of a recover could neither go on to mounts of its own nor back to the host's: it ended.",
        "A filter of system calls allows only some of `@mount`: allow all of it, or none.",
    ),
    "workers.ChannelBroken": ("The conversation of control and worker ended or is not understood.", _OURS),
    "ring.RingClosed": ("The other side of a ring has ended: the usual way in which an abort is heard of.", _OURS),
    "snapshot.SnapshotError": ("A snapshot cannot be made, found or removed.", _LINE),
    "snapshot.NoPlace": (
        "A volume is not where, or not what, its snapshot needs.",
        "Compare `[[snapshot]]` with `findmnt`.",
    ),
    "snapshot.Stopped": ("The server wants no more of a snapshot.", _OURS),
    # --- backups and recovers
    "data.RefusedError": ("A backup cannot be done as it was asked for: ILLEGAL_ARGS_ERR and a line.", _LINE),
    "data.Wrong": ("A recover cannot be done as it was asked for: ILLEGAL_ARGS_ERR and a line.", _LINE),
    "data.BadVariable": ("A variable of the environment has a wrong value.", "docs/environment.md has its values."),
    "data.FormatError": ("Bytes are no header of a dump or tar stream.", "In a log line: the stream is damaged there."),
    "data.StreamBroken": (
        "The stream ended before its own end.",
        "Is it all of the cartridges? `mover tape verify` them.",
    ),
    "data.StreamEnded": ("There is no more of the stream.", "As data.StreamBroken."),
    "data.StreamRefused": ("This stream cannot be recovered here.", "The line says by what program it can."),
    "data.DestinationLost": (
        "The destination's volume went away during a recover.",
        "Mount it, and repeat the recover.",
    ),
    "data.KeptExisting": ("Something of this name was there and was kept, as asked.", "Nothing."),
    "data.FlushFailed": (
        "What was recovered is not all on disk.",
        "Look at the destination's disk, and repeat the recover.",
    ),
    "data.NotBegun": (
        "What the destination holds could not be noted, so nothing was changed.",
        "Disk of the state directory.",
    ),
    "data.TableError": (
        "A table of an earlier dump or recover cannot be a base.",
        "The next backup is a full one; nothing is lost.",
    ),
    "data.NotThere": (
        "What lies at an offset is not what the list names: this name fails.",
        "Recover it without direct access.",
    ),
    "data.NoTree": (
        "A dump's directories are damaged: its recover lays over what is there.",
        "See the warnings of the recover.",
    ),
    # --- tape
    "tape.DriveError": ("A drive cannot be opened; it comes with an NDMP error.", "See that error's code."),
    "tape.CartridgeError": ("A cartridge file cannot be used.", "`mover tape verify FILE` says more."),
    "tape.TransportError": (
        "A SCSI command did not reach the device, or its answer did not come.",
        "Cable, target, initiator.",
    ),
    "tape.Stopped": ("The mover was stopped by control.", _OURS),
    "tape.OfflineError": (
        "A cartridge file cannot be read without a server, or lacks the tape file.",
        "`mover tape ls FILE`.",
    ),
    "media.LabelError": ("A name cannot be a label, or a label is broken.", "The line says which characters."),
    "scsi.CommandError": (
        "An emulated device ends a command with sense data.",
        "The DMA has the sense data; nothing here.",
    ),
    # --- the built-in DMA
    "dma.DmaError": ("Base of what goes wrong in a job of `mover backup`, `recover`, `list` and `copy`.", _LINE),
    "dma.ControlConnectionError": (
        "The server was not reached, refused the session, or went away.",
        "Address, port, TLS options.",
    ),
    "dma.LoginError": (
        "The server refused the login, or offers no method that we have.",
        "User, password, `authtype`.",
    ),
    "dma.NdmpError": ("The server answered with an NDMP error.", "See that error's code."),
    "dma.JobError": ("A job did not come to its good end.", _LINE),
    "dma.CartridgeFullError": (
        "The cartridge is full, and no other one may be taken.",
        "Label cartridges and give `--changer`.",
    ),
    "dma.CartridgeError": (
        "The cartridge that a job needs is not there, or is another one.",
        "`mover cartridge list`; load it.",
    ),
    "dma.ChangerError": ("The media changer refused.", "`mover library show`; is it in another session's hands?"),
    "dma.CatalogueError": (
        "The catalogue cannot be used, or lacks what was asked for.",
        "`--catalogue` names another one.",
    ),
    "dma.DiffersError": ("A replayed dialogue came out differently.", "The difference is printed."),
    # --- conformance
    "conformance.MismatchError": ("The tested server is wrong: the check fails.", "The row says what was expected."),
    "conformance.NotOfferedError": ("The tested server does not have this, and need not.", "Nothing."),
    "conformance.SkippedError": ("Nothing can be judged here.", "The row says what is missing."),
    "conformance.ServerGoneError": ("The tested server went away or said nothing.", "Its log."),
    "conformance.NotReachedError": ("The tested server was not reached.", "Address, port, firewall."),
}

FAULTS: Final = tuple(
    Entry(code=code, kind="fault", meaning=meaning, action=action) for code, (meaning, action) in _FAULTS.items()
)
