"""What the lines of the server's log mean that tell of something wrong: the event, as the log has it, is the code."""

from typing import Final

from mover.catalogue.entry import Entry

_OURS: Final = "This is a fault of mover: please report it with the log around it."
_DISK: Final = "See `error`: space, rights and the disk of the state directory."
_JOB: Final = "The job that it belonged to has ended with an error; the DMA was told. Repeat it."

_LINES: Final = {
    # --- connections and logins
    "connection refused": (
        "A DMA was not let in; `reason` says why: too many sessions, the service is off, an address, another node.",
        "`limits.sessions`, `mover on`, or `authentication.allow`, by the reason.",
    ),
    "secure connection refused": (
        "More TLS handshakes are under way than are served at once.",
        "Nothing if it passes; else look at `peer`, which opens connections and says nothing.",
    ),
    "no connection accepted": (
        "The kernel gave no connection, usually for want of descriptors.",
        "Raise the service's LimitNOFILE; see who holds so many.",
    ),
    "connection failed": ("A connection ended by an error of the server.", _OURS),
    "handler failed": ("A request failed by an error of the server; the DMA was told UNDEFINED_ERR.", _OURS),
    "no login in time": (
        "A DMA connected and did not log in.",
        "`limits.authentication_timeout_s` gives it longer; a port scanner looks the same.",
    ),
    "peer does not answer": (
        "A DMA's host does not answer any more, and its session was ended.",
        "Look at that host and at firewalls that forget idle connections.",
    ),
    "broken framing": (
        "What came on a connection is no NDMP.",
        "Another program speaks to this port: TLS to the plain port, a scanner, or a DMA that is broken.",
    ),
    "message too long before login": (
        "Somebody without a login sent a long message, and was disconnected.",
        "Look at who `client_addr` is.",
    ),
    "login failed": (
        "A login was refused; `reason` says why.",
        "Wrong password, a stale NDMP password (`mover generate-password`), or a role that may not log in at this LIF.",
    ),
    "user is locked out": (
        "Too many logins of this user failed from one address.",
        "It ends by itself; look at who tries from `peer`.",
    ),
    "session ended: its user may not log in any more": (
        "The user lost the role, the vserver or the account.",
        "Nothing, if it was meant.",
    ),
    "session killed": ("An operator ended a session.", "Nothing, if it was meant."),
    "post not sent": ("A post could not be encoded in this version.", _OURS),
    "data connection refused": (
        "Somebody whose address is not allowed, or who is not the expected peer, came to a data port.",
        "`data_connections.allow`, if it was the other mover.",
    ),
    # --- service
    "this kernel has no Landlock: workers are confined by capabilities and file ownership alone": (
        "The kernel was built without Landlock, or it is off.",
        "Boot a kernel from 5.13 on with `lsm=landlock,...`.",
    ),
    "this kernel's Landlock is too old for recovers: capabilities and file ownership alone confine them": (
        "The first version of Landlock denies links between directories.",
        "Boot a kernel from 5.19 on.",
    ),
    "recovers have no mounts of their own here: Landlock alone holds them": (
        "The server has CAP_SYS_ADMIN, but its container or unit refuses what `error` names.",
        "Allow mount namespaces (`RestrictNamespaces=mnt`) and mounting (`@mount`) where it runs.",
    ),
    "no configuration file to read again": (
        "SIGHUP came to a server that was started without a file.",
        "Start it with `--config`.",
    ),
    "configuration not taken": (
        "The file was changed and is wrong; the server goes on with what it had.",
        "Mend what `error` names, then send SIGHUP again.",
    ),
    "these need a restart": (
        "Some keys that were changed are read at the start only.",
        "Restart the service when no job runs.",
    ),
    "certificate not taken": (
        "The new certificate or key cannot be used; the old one stays.",
        "Mend what `error` names, then SIGHUP.",
    ),
    "secure port not opened": (
        "A LIF's secure port is taken or may not be opened.",
        "`mover doctor` says by whom; change `secure_port`.",
    ),
    "the ready line was not taken": ("Who started the server has closed its standard output.", "Nothing."),
    "systemd was not told": (
        "The notify socket of systemd did not take a word.",
        "Look at `NotifyAccess=` of the unit.",
    ),
    "stopping at once": ("A second signal came while the server waited for jobs.", "Repeat the jobs that were cut."),
    "killing the workers of what does not end": (
        "Sessions did not end within the grace time.",
        "A drive or disk hangs; `mover doctor` after the restart.",
    ),
    "changed option not taken": (
        "An option of `mover modify` is not valid any more and counts no more.",
        "`mover modify --reset` it.",
    ),
    "changed option does not count: it contradicts the configuration": (
        "An option of `mover modify` and the configuration exclude each other.",
        "`mover modify --reset` it, or mend the file.",
    ),
    "no command accepted": ("The admin socket gave no connection.", "As `no connection accepted`."),
    "command failed": ("A command of an operator ended by an error of the server.", _OURS),
    "task failed": ("A task of the server ended by an error.", _OURS),
    "directory cannot be locked": (
        "The file system knows no locks: nothing keeps a second server from the same directory.",
        "Keep state and libraries on a local file system.",
    ),
    "audit log cannot be written, lines are lost": ("Logins and starts are not recorded now.", _DISK),
    "audit log is written again": ("What hindered the audit log is over; lines between are lost.", "Nothing."),
    "audit log is not on disk": ("The audit log may lose its last lines in a crash.", _DISK),
    "backup log cannot be written, lines are lost": ("What jobs did is not recorded now; the jobs go on.", _DISK),
    "backup log is written again": ("What hindered the backup log is over; lines between are lost.", "Nothing."),
    "backup log is not on disk": ("The backup log may lose its last lines in a crash.", _DISK),
    "records of jobs cannot be kept": ("`mover jobs` will lack jobs; the jobs go on.", _DISK),
    "the record of a job cannot be read": ("One job is missing in `mover jobs`.", "Remove the file that `path` names."),
    "no protocol log": ("The file for a protocol log could not be made.", _DISK),
    "protocol log ended": ("A protocol log could not be written any more.", _DISK),
    "protocol log is full": (
        "A protocol log has its largest size and takes no more.",
        "`mover log stop`, then start anew with a filter.",
    ),
    # --- statistics
    "no sample for statistics": (
        "The processes could not be looked at; jobs do not suffer, and the next look comes.",
        _OURS,
    ),
    "no status page and no metrics: node.metrics says where else": (
        "The address of `node.metrics` is taken or not of this host.",
        'Give another one, or "" for none.',
    ),
    "no HTTP connection accepted": ("As `no connection accepted`, of the status page.", "Raise LimitNOFILE."),
    "HTTP request failed": ("A request for the page or for metrics ended by an error of the server.", _OURS),
    "no moment for the status page": ("The page could not be told what there is.", _OURS),
    "wrong token of HTTP requests": (
        "Somebody asked for the page or metrics with a wrong token.",
        "Look at who `peer` is; give the scraper the token.",
    ),
    # --- nodes
    "registry of the cluster not reached": (
        "The shared directory of the cluster does not answer; other nodes count as down.",
        "Look at the mount of `cluster_directory`.",
    ),
    "no beat for the cluster": (
        "This node could not tell the others what it has; it counts as down there until it can.",
        _OURS,
    ),
    "registry of the cluster: left out": (
        "A row of another node is wrong or contradicts another one.",
        "Mend the configuration of the node that it names.",
    ),
    # --- workers
    "worker conversation broken": ("A worker said what cannot be understood, and was ended.", _OURS),
    "worker cannot be killed, a system call of it hangs": (
        "A disk, a file server or a drive does not answer the kernel.",
        "Look at the device or mount; what the worker held is free when the call returns.",
    ),
    "no template for workers": (
        "No worker can be started.",
        "Memory, LimitNPROC and the installation; see `error`.",
    ),
    "no spare worker": ("A worker could not be started ahead.", "Memory and LimitNPROC; see `error`."),
    "spare worker ended": (
        "A worker that waited for work died.",
        "`exit` says how; the kernel's log has the out-of-memory killer.",
    ),
    "template ended": ("What starts workers died, and is started again.", "As `spare worker ended`."),
    "template conversation broken": ("What starts workers said what cannot be understood.", _OURS),
    "unexpected event of a relay": ("A relay said what it may not say now.", _OURS),
    "unexpected event of a data worker": ("A data worker said what it may not say now.", _OURS),
    "unexpected event of a tape worker": ("A tape worker said what it may not say now.", _OURS),
    "unexpected event of a snapshot helper": ("A snapshot helper said what it may not say now.", _OURS),
    "unexpected reply of a snapshot helper": ("A snapshot helper answered what was not asked.", _OURS),
    # --- dump dates
    "not kept": (
        "A backup went well, but its dump date could not be kept: the next one takes the same again.",
        _DISK,
    ),
    "dump date forgotten": (
        "What a date is based on is not on tape for certain; `why` says so.",
        "Nothing: the next backup takes more.",
    ),
    "dump date not taken back, the next start does": ("The list of dates could not be changed.", _DISK),
    "dump dates are lost, the next backup of each tree is full": (
        "The list of dates cannot be read.",
        "Look at the disk; `mover dumpdates import` an export, if there is one.",
    ),
    "the list of dump dates cannot be written": ("Dates of backups are not kept.", _DISK),
    # --- snapshots
    "snapshot failed": ("A snapshot ended by an error of the server.", _OURS),
    "a snapshot's task failed": ("The work around a snapshot ended by an error of the server.", _OURS),
    "post failed": (
        "The `post` command of a volume failed: what `pre` stopped may stand still.",
        "See `why`; run it by hand.",
    ),
    "snapshot not removed, it is tried again": (
        "A snapshot could not be removed now.",
        "See `why`; it is tried at the next backup and start.",
    ),
    "a snapshot may be left that nobody removes": (
        "A lease cannot be read, so what it names is not undone.",
        "Look for old snapshots, and remove them by hand.",
    ),
    "a snapshot command whose helper was killed goes on": (
        "A command still runs that nobody waits for.",
        "Look for it in `ps`; the volume may stand still until it ends.",
    ),
    "leases of snapshots cannot be read": ("What a crash left is not undone.", _DISK),
    "lease not removed": ("A lease of a snapshot that is gone stays.", _DISK),
    "lease not kept, post may run again after a crash": ("That `post` has run could not be noted.", _DISK),
    "left by a crash": ("A snapshot of a backup before a crash is removed now.", "Nothing."),
    "snapshots cannot be listed": ("Old snapshots of a volume cannot be looked for.", "See `why`."),
    "snapshots that no lease names stay": (
        "Snapshots have names like ours, and nothing says that they are.",
        "Remove them by hand, if nobody wants them.",
    ),
    # --- tapes and libraries
    "robot failed": ("A move in a virtual library failed on its disk.", "See `error`: the library's directory."),
    "robot refused": (
        "A virtual library's changer refused a move.",
        "See `why`; `mover library show` has what is where.",
    ),
    "failed move not taken back": (
        "A cartridge file may lie in another directory than the inventory says.",
        "`mover library inventory` finds it.",
    ),
    "interrupted move finished": ("A crash cut a move, and it is done now.", "Nothing."),
    "volume does not answer": (
        "Asked for its size, the file system of a volume gave no answer; the DMA was told that it is offline.",
        "Look at the mount of `directory`: a server of files that is gone, a disk that hangs.",
    ),
    "no mail slot": (
        "The directory of a library's mail slot cannot be made.",
        "Rights and space of the library's directory.",
    ),
    "two cartridges of one barcode": (
        "Two files are the same cartridge: one is left out.",
        "Rename or remove one, then `mover library inventory`.",
    ),
    "cartridge file is gone": (
        "A cartridge's file was removed behind the server's back.",
        "Bring it back, or `mover library inventory`.",
    ),
    "file name is no barcode": ("A file in a library's directory is left out.", "Rename it to BARCODE.tap."),
    "no free place for cartridge": ("The library has no empty slot for a file.", "More `slots`, or move files out."),
    "drive rehearses faults": ("`[[fault]]` makes this drive fail on purpose.", "Remove it where backups count."),
    "device of a drive is not there": (
        "The node of a drive does not exist now.",
        "Cable, power, driver; then it is found by itself.",
    ),
    "no device there": ("As `device of a drive is not there`, at a look at all devices.", "Cable, power, driver."),
    "device does not say who it is": ("A device did not answer INQUIRY.", "See `text`; power and cable."),
    "device busy until it answers": (
        "A device hangs, and nobody gets it until it answers.",
        "Look at the device; reset it if it stays so.",
    ),
    "device answers again": ("A device that hung is free again.", "Look why, if it comes again."),
    "drive does not unload": (
        "A drive kept its cartridge before a move.",
        "See `error`; the changer may refuse the move.",
    ),
    "data halted": (
        "A backup or recover failed, or its data connection was lost; nobody aborted it. `reason` and `text` say why.",
        "`mover explain DATA_HALT_INTERNAL_ERROR`, or whatever `reason` is; `mover jobs` has the job. Repeat it.",
    ),
    "mover halted": (
        "A mover ended before the end of its stream; `reason` and `text` say why.",
        "`mover explain MOVER_HALT_MEDIA_ERROR`, or whatever `reason` is; the log of the file server has the job.",
    ),
    "drive lost": ("The worker of an open drive ended: the tape's place is not known.", _JOB),
    "drive not closed": (
        "A drive did not close in order: what was written last may not be on tape.",
        _JOB + " `mover tape verify` the cartridge.",
    ),
    "tape worker killed with the drive open": ("A drive did not close in its time.", "As `drive not closed`."),
    "tape not moved at its close": ("A rewind or unload at TAPE_CLOSE failed; the data is on tape.", "See `text`."),
    "locate failed": ("A LOCATE of a DMA failed.", "See `text`; the DMA was told by sense data."),
}

LOG_LINES: Final = tuple(
    Entry(code=event, kind="log line", meaning=meaning, action=action) for event, (meaning, action) in _LINES.items()
)
