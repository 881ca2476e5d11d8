#!/usr/bin/env bash
# Runs in the guest that tests/tape/test_st_guest.py boots, where the kernel has st, sg and ch: a server on a real /dev/nst0.
# Usage: st-guest.sh CHECKOUT PYTHON SHARED
# Each stage leaves NAME.log and, when it is through, its exit status in NAME.status, both in SHARED.
set -u
checkout=$1 python=$2 shared=$3
export PYTHONDONTWRITEBYTECODE=1 PATH=$PATH:$(dirname "$python")

# The guest has file systems of its own on /tmp and /run, which hide what the host has there.
if [ ! -e "$checkout/mover" ]; then
    mkdir -p /run/whole "$checkout"
    mount --bind / /run/whole
    mount --bind "/run/whole$checkout" "$checkout"
fi

stage() {
    local name=$1
    shift
    "$@" >"$shared/$name.log" 2>&1
    echo $? >"$shared/$name.status"
}

# The tests of a file.
pytest_in_guest() {
    cd "$checkout" || return 1
    "$python" -m pytest -q -c /dev/null --rootdir "$checkout" --noconftest -p no:cacheprovider -p no:hypothesispytest \
        -p no:trio -p no:rerunfailures -p no:xdist -p no:xdist.looponfail -W ignore --tb=short -rfxs --durations=5 "$1"
}

job=/tmp/job
login="--user ndmp --password-file $job/password"

make_job() {
    mkdir -p $job/source/below $job/recovered
    (umask 077 && echo correct-horse >$job/password)
    head -c 3000000 /dev/urandom >$job/source/large
    cp -r "$checkout/docs" $job/source/below
}

# A server on the first drive and the changer.
start_server() {
    cat >$job/mover.toml <<TOML
[node]
state_directory = "$job/state"
admin_socket = "$job/admin.sock"
volumes = { source = "$job/source", recovered = "$job/recovered" }

[[lif]]
name = "loopback"
port = 10000

[[user]]
name = "ndmp"
password_file = "$job/password"

[[changer]]
name = "mc0"
device = "$CHANGER"

[[drive]]
name = "nst0"
device = "$TAPE"
TOML
    mt -f "$TAPE" rewind || return 1
    mover serve --config $job/mover.toml >$job/ready 2>"$shared/serve.log" &
    for _ in $(seq 600); do
        # Its first workers are forked by processes that an emulated machine takes long to start.
        if [ -s $job/ready ] && pgrep -x mover-tape >/dev/null && pgrep -x mover-data >/dev/null; then return 0; fi
        sleep 0.5
    done
    return 1
}

backup_and_recover() {
    local job_options="--host 127.0.0.1 --drive nst0 $login --catalogue $job/catalogue"
    # shellcheck disable=SC2086
    mover backup $job_options $job/source || return 1
    mt -f "$TAPE" rewind || return 1
    # shellcheck disable=SC2086
    mover recover $job_options --destination $job/recovered || return 1
    diff -r $job/source $job/recovered
}

# Small cartridges, so that one is soon full.
export SIZE=8
# shellcheck source=/dev/null
. "$PEERS/guest/tape-up.sh"
stage load mtx -f "$CHANGER" load 1 0
SG=/dev/$(basename "$(ls -d /sys/class/scsi_tape/nst0/device/scsi_generic/sg*)")
export SG CHANGER MEDIUM=$VTL/media/TAPE01L4 JOB=$job SHIM=$shared/shim.so
stage drive pytest_in_guest tests/tape/guest_st.py
make_job
stage server start_server
stage job backup_and_recover
mount -t tmpfs amanda /var/log/amanda && mkdir /var/log/amanda/client # ndmjob writes a log there
stage operators pytest_in_guest tests/tape/guest_operators.py
