#!/usr/bin/env bash
# Runs in the guest that tests/packaging/test_service.py boots, and before that in namespaces on the host: the Debian
# package under a systemd of its own.
# Usage: systemd-guest.sh PACKAGE SHARED
# Each stage (STAGES; all of this file in order) leaves NAME.log and, when it is through, its exit status in NAME.status, both in SHARED.
#
# systemd is process 1 of a process namespace, on a writable copy of the host's files (an overlay), as in a container.
set -u
package=$1 shared=$2
script=$(realpath "${BASH_SOURCE[0]}")
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 SYSTEMD_PAGER=cat SYSTEMD_COLORS=0
unset NOTIFY_SOCKET

# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
    local end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        if [ "$(date +%s)" -ge $end ]; then
            echo "not in time: $*"
            return 1
        fi
        sleep 0.2
    done
}

# --- outside: the machine around systemd

layers=/run/layers
group=$layers/cgroup/mover-test.$$

start_systemd() {
    local root=$layers/root inner checkout
    mkdir -p $layers && mount -t tmpfs -o size=75% layers $layers || return 1
    mkdir -p $layers/upper $layers/work $root
    mount -t overlay overlay -o lowerdir=/,upperdir=$layers/upper,workdir=$layers/work $root || return 1
    for directory in tmp run var/tmp var/log; do mount -t tmpfs tmpfs $root/$directory || return 1; done
    mkdir -p "$root$shared" && mount --bind "$shared" "$root$shared" || return 1
    if [ -e "$shared/typed/checkout" ]; then
        checkout=$(cat "$shared/typed/checkout")
        mkdir -p "$root$checkout" && mount -o bind,ro "$checkout" "$root$checkout" || return 1
    fi
    # Devices of its own: systemd makes more of them, and the host's are not for that.
    mount -t tmpfs dev $root/dev && mkdir $root/dev/pts $root/dev/shm || return 1
    cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty $root/dev && ln -s /proc/self/fd $root/dev/fd
    mount -t devpts devpts $root/dev/pts || return 1
    mount -t sysfs sysfs $root/sys || return 1
    # A control group of its own, which is the root of all that it sees.
    mkdir -p $layers/cgroup && mount -t cgroup2 cgroup2 $layers/cgroup && mkdir "$group" || return 1
    # Of the host's units only those that every start has, and none that look for hardware.
    rm -rf $root/etc/systemd/system $root/usr/sbin/policy-rc.d $root/etc/fstab
    mkdir -p $root/etc/systemd/system
    for unit in systemd-udevd systemd-udev-trigger systemd-logind systemd-hwdb-update systemd-random-seed \
        systemd-sysusers systemd-binfmt systemd-modules-load systemd-sysctl systemd-firstboot systemd-machine-id-commit \
        systemd-update-utmp systemd-journal-flush systemd-journal-catalog-update systemd-remount-fs ldconfig \
        keyboard-setup console-setup apparmor dbus procps networking; do
        ln -s /dev/null $root/etc/systemd/system/$unit.service
    done
    rm -f $root/etc/machine-id
    echo 0123456789abcdef0123456789abcdef >$root/etc/machine-id
    mkdir -p $root/run/old
    inner="mount --make-rprivate / && mount -t proc proc $root/proc && mount -t cgroup2 cgroup2 $root/sys/fs/cgroup &&
        cd $root && pivot_root . run/old && umount -l run/old && mount --make-rshared / &&
        exec chroot . /lib/systemd/systemd --system --unit=basic.target"
    env -i container=test PATH="$PATH" bash -c "
        echo \$\$ >$group/cgroup.procs && exec unshare --cgroup --mount --pid --fork bash -c '$inner'" \
        </dev/null >"$shared/systemd.log" 2>&1 &
    unshared=$!
    eventually 300 pgrep -P $unshared -x systemd >/dev/null
}

stop_systemd() {
    kill -KILL "$(pgrep -P "$unshared")"
    wait "$unshared"
    find "$group" -depth -type d -exec rmdir {} +
}

inside() {
    local pid
    pid=$(pgrep -P "$unshared") || return 1
    nsenter -t "$pid" -m -p -r -- bash "$shared/$(basename "$script")" "$package" "$shared" "$@"
}

stage() {
    local name=$1
    inside "$name" >"$shared/$name.log" 2>&1
    echo $? >"$shared/$name.status"
}

# --- inside

password=/root/password
login="--user ndmp --password-file $password"

property() { systemctl show mover --value -p "$1"; }
expect() {
    if [ "$1" != "$2" ]; then
        echo "expected $2, got $1"
        return 1
    fi
}

boot() {
    eventually 300 systemctl show-environment >/dev/null 2>&1 || return 1
    systemctl start basic.target || return 1
    systemctl --failed
}

install() {
    mkdir -p /etc/systemd/system/mover.service.d
    # As in the unit, but soon: the test does not wait for minutes.
    printf '[Service]\nWatchdogSec=30\nTimeoutAbortSec=1\n' >/etc/systemd/system/mover.service.d/test.conf
    dpkg --no-triggers --force-unsafe-io -i "$package" || return 1
    systemctl status mover --no-pager -l || return 1
    expect "$(property ActiveState)" active && expect "$(property StatusText)" \
        "listening on mgmt (127.0.0.1 port 10000)" || return 1
    expect "$(mover status)" "no sessions" || return 1
    # What the unit takes away is away, and nothing is half in force.
    grep -E '^(CapBnd|Seccomp|NoNewPrivs):' "/proc/$(property MainPID)/status"
    grep -q '^Seccomp:[[:space:]]*2' "/proc/$(property MainPID)/status" || return 1
    expect "$(systemctl is-enabled mover)" enabled
}

configure() {
    mkdir -p /srv/source/below /srv/recovered /srv/again /srv/tapes
    (umask 077 && echo correct-horse >$password)
    cat >/etc/mover/mover.toml <<TOML
[node]
volumes = { source = "/srv/source", recovered = "/srv/recovered" }

[[lif]]
name = "mgmt"
port = 10000

[[user]]
name = "ndmp"
password_file = "$password"

[[library]]
name = "vtl0"
directory = "/srv/tapes"
drives = 1
TOML
    head -c 2000000 /dev/urandom >/srv/source/large
    cp -r /usr/share/doc/mover /srv/source/below
    cp /bin/true /srv/source/setuid && chmod 4755 /srv/source/setuid
    ln /srv/source/large /srv/source/below/second-name
    ln -s nowhere /srv/source/link
    mknod /srv/source/null c 1 3
    mkfifo /srv/source/pipe
    chown -R 1234:4321 /srv/source/below
    systemctl restart mover || return 1
    mover tape create vtl0 --barcode ONE --json && mover tape load vtl0/drive0 --barcode ONE
}

names() { (cd "$1" && find . -mindepth 1 -printf '%P %y %m %U %G %l\n' | sort); }

job() { # DESTINATION OPTIONS...: a backup of the source and its recovery, and they are equal.
    local destination=$1
    shift
    # shellcheck disable=SC2086
    mover backup --host 127.0.0.1 --drive vtl0/drive0 $login --catalogue /root/catalogue "$@" /srv/source || return 1
    # shellcheck disable=SC2086
    mover recover --host 127.0.0.1 --drive vtl0/drive0 $login --catalogue /root/catalogue "$@" \
        --destination "$destination" || return 1
    diff <(names /srv/source) <(names "$destination") && diff -r --no-dereference --exclude=pipe --exclude=null \
        /srv/source "$destination"
}

local_job() { job /srv/recovered; }

reload() {
    sed -i 's|recovered = |again = "/srv/again", recovered = |' /etc/mover/mover.toml
    systemctl reload mover || return 1
    expect "$(property ActiveState)" active && expect "$(property NRestarts)" 0 || return 1
    journalctl -u mover --no-pager | grep "configuration read again"
}

three_way() {
    mover tape unload vtl0/drive0 && mover tape create vtl0 --barcode TWO || return 1
    mover tape load vtl0/drive0 --barcode TWO || return 1
    # The volume came with the reload.
    job /srv/again --tape-host 127.0.0.1
}

restarted() { [ "$(property NRestarts)" = 1 ] && [ "$(property ActiveState)" = active ]; }
workers() { pgrep -f 'mover\.(data|tape|relay) ' || true; }

watchdog() {
    local pid before
    pid=$(property MainPID)
    before=$(workers)
    kill -STOP "$pid"
    eventually 600 restarted || return 1
    [ "$(property MainPID)" != "$pid" ] || return 1
    for worker in $before; do
        if [ -e "/proc/$worker" ]; then
            echo "worker $worker lives on"
            return 1
        fi
    done
    expect "$(mover status)" "no sessions" || return 1
    journalctl -u mover --no-pager | grep -i watchdog
}

# With a session open the version before goes on; without one the new version takes over.
in_session() { [ "$(mover status)" != "no sessions" ]; }
out_of_session() { [ "$(mover status)" = "no sessions" ]; }
upgrade() {
    local pid
    pid=$(property MainPID)
    exec 3<>/dev/tcp/127.0.0.1/10000
    eventually 300 in_session || return 1
    dpkg --no-triggers --force-unsafe-io -i "$package" 2>&1 | tee /tmp/upgrade.log
    expect "$(property MainPID)" "$pid" && grep "systemctl restart mover" /tmp/upgrade.log || return 1
    exec 3>&-
    eventually 300 out_of_session || return 1
    dpkg --no-triggers --force-unsafe-io -i "$package" || return 1
    [ "$(property MainPID)" != "$pid" ] && expect "$(property ActiveState)" active
}

# The key of the passwords is the one that systemd hands over.
credential() {
    mkdir -p /etc/credstore && (umask 077 && head -c 32 /dev/urandom >/etc/credstore/mover-seal-key)
    systemctl restart mover || return 1
    mover user create --user ops --role backup --password-file $password || return 1
    mover generate-password --user ops || return 1
    [ ! -e /var/lib/mover/seal.key ]
}

# A configuration that cannot be used: one line, of priority 3, and no second try.
wrong() {
    cp /etc/mover/mover.toml /tmp/right.toml
    echo 'wrong = true' | cat - /tmp/right.toml >/etc/mover/mover.toml
    if systemctl restart mover; then return 1; fi
    expect "$(property ActiveState)" failed && expect "$(property ExecMainStatus)" 2 || return 1
    journalctl -u mover --no-pager -o json --output-fields=MESSAGE,PRIORITY | grep 'mover.toml: wrong' | tail -1 |
        grep '"PRIORITY":"3"' || return 1
    cp /tmp/right.toml /etc/mover/mover.toml
    systemctl reset-failed mover && systemctl start mover
}

# What docs/install.md offers to sites that do not need it.
tighter() {
    cat >/etc/systemd/system/mover.service.d/tighter.conf <<'UNIT'
[Service]
NoNewPrivileges=yes
MemoryDenyWriteExecute=yes
DevicePolicy=closed
DeviceAllow=char-* m
DeviceAllow=block-* m
ProtectSystem=full
IPAddressDeny=any
IPAddressAllow=localhost
UNIT
    systemctl daemon-reload && systemctl restart mover || return 1
    mover tape create vtl0 --barcode THREE || return 1
    mover tape unload vtl0/drive0 || true # the restart may have put it back
    mover tape load vtl0/drive0 --barcode THREE || return 1
    mkdir -p /srv/recovered/tight && job /srv/recovered/tight
}

stop() {
    systemctl stop mover || return 1
    expect "$(property ActiveState)" inactive && expect "$(property Result)" success &&
        expect "$(property ExecMainStatus)" 0 && expect "$(workers)" "" || return 1
    journalctl -u mover --no-pager -o json --output-fields=MESSAGE,PRIORITY | grep '"stopping ' | tail -1 |
        grep '"PRIORITY":"6"'
}

remove() {
    dpkg --no-triggers --force-unsafe-io -r mover || return 1
    [ ! -e /usr/bin/mover ] && [ -e /etc/mover/mover.toml ] || return 1
    dpkg --no-triggers --force-unsafe-io --purge mover || return 1
    [ ! -e /etc/mover/mover.toml ] && [ -d /var/lib/mover ]
}

# docs/install.md as it stands there, on a host without mover. The test leaves its blocks of commands in SHARED/typed,
# with the package in typed/dist, and what the configuration is to say.
typed=$shared/typed
answer_prompts() {
    local prompt
    for prompt in 'login password of ops: ' 'confirmation: '; do
        eventually 120 grep -q "$prompt" /tmp/said >&2 || return 1
        echo correct-horse
    done
}
by_the_document() {
    ip address add 192.0.2.10/32 dev lo
    # What the stages before have left: state stays behind a removal.
    rm -rf /var/lib/mover /etc/mover /etc/credstore/mover-seal-key /etc/systemd/system/mover.service.d /srv/tapes
    mkdir -p /srv/restored /srv/tapes
    systemctl daemon-reload
    (cd "$typed" && DEBIAN_FRONTEND=noninteractive bash -ex package) || return 1
    cp "$typed/configuration" /etc/mover/mover.toml
    bash -ex "$typed/restart" || return 1
    # systemd has found no devices here, and terminals are wanted: a password is asked for, and an editor opened.
    ln -sf pts/ptmx /dev/ptmx
    : >/tmp/said
    answer_prompts | script -qefc "bash -ex $typed/user" /tmp/said || return 1
    mover user show | grep -w ops || return 1
    journalctl -u mover -p warning --no-pager || return 1
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nprintf "[Service]\\nNoNewPrivileges=yes\\n" >"$1"\n' >/root/editor && chmod 755 /root/editor
    # shellcheck disable=SC2094
    SYSTEMD_EDITOR=/root/editor script -qec "bash -ex $typed/edit" /dev/null </dev/null || return 1
    systemctl restart mover && expect "$(property NoNewPrivileges)" yes || return 1
    systemctl stop mover && rm -r /etc/systemd/system/mover.service.d && dpkg --no-triggers --force-unsafe-io --purge mover
}

# The same chapter's other way, in the checkout whose environment the tests run in.
from_a_checkout() {
    cd "$(cat "$typed/checkout")" || return 1
    rm -rf /etc/mover && bash -ex "$typed/service" || return 1
    expect "$(property ActiveState)" active && expect "$(.venv/bin/mover status)" "no sessions" || return 1
    property ExecStart | grep -F "path=$PWD/.venv/bin/mover" || return 1
    systemctl stop mover
}

if [ $# -gt 2 ]; then
    cd / || exit 1
    "$3"
    status=$?
    if [ $status -ne 0 ]; then journalctl -b --no-pager -n 60; fi
    exit $status
fi

start_systemd || exit 1
for each in ${STAGES:-boot install configure local_job reload three_way watchdog upgrade credential wrong tighter stop remove by_the_document from_a_checkout}; do stage "$each"; done
stop_systemd
