# Sourced by the scripts beside it: makes the checkout's own virtual environment with nothing but Python and pip.
# Sets `checkout` and `python`. Every failure is one line on standard error, and exit 1.

set -euo pipefail
tool=$(basename "$0")
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$checkout/.venv/bin/python
# Byte-compiled code starts a worker in 45 ms instead of 195: what the caller's environment says is not for us.
unset PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

fail() {
    printf '%s: %s\n' "$tool" "$1" >&2
    exit 1
}

say() { printf '%s: %s\n' "$tool" "$1" >&2; }

# Prints the first interpreter that is new enough.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# What pip says when no index answers: one line tells it, the pages of its own attempts do not.
unreachable='connection broken by|Failed to establish a new connection|name resolution|from versions: none'

# quietly WHAT COMMAND...: runs a command; when it fails, shows what it said and ends with one clear line.
quietly() {
    local what=$1 output
    shift
    if ! output=$("$@" 2>&1); then
        if [[ $output =~ $unreachable ]]; then
            fail "$what failed: pip reached no package index that has what is needed; is there a network?"
        fi
        printf '%s\n' "$output" >&2
        fail "$what failed (see above)"
    fi
}

# pip keeps its cache in the home directory; without one, in the virtual environment.
run_pip() {
    if [ -d "${HOME:-}" ]; then
        "$python" -m pip "$@"
    else
        HOME=$checkout/.venv "$python" -m pip "$@"
    fi
}

# make_environment [dev]: .venv with the project installed, and with `dev` what the checks need.
make_environment() {
    local group=${1:-} interpreter stamp wanted installed
    interpreter=$(find_python) || fail "needs Python 3.11 or newer; set PYTHON to one"
    [ -w "$checkout" ] || fail "cannot write to $checkout, where .venv is made; clone it to a place of your own"
    "$interpreter" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$interpreter has no venv module (on Debian: apt install python3-venv)"
    stamp=$checkout/.venv/.installed${group:+-$group}
    wanted=$(cat "$checkout/pyproject.toml" "$checkout/constraints.txt" | cksum)" $checkout"
    if ! "$python" -c '' 2>/dev/null; then
        say "making $checkout/.venv"
        quietly "making the virtual environment" "$interpreter" -m venv --clear "$checkout/.venv"
    elif ! [ -w "$checkout/.venv" ]; then
        fail "cannot write to $checkout/.venv; it belongs to another user"
    fi
    installed=$(cat "$stamp" 2>/dev/null || true)
    # What the checks need holds the project too.
    if [ -z "$group" ] && [ -z "$installed" ]; then installed=$(cat "$stamp-dev" 2>/dev/null || true); fi
    if [ "$installed" != "$wanted" ]; then
        say "installing the project${group:+ and what its checks need}"
        cd "$checkout"
        if [ -n "$group" ]; then
            quietly "updating pip" run_pip install --quiet --upgrade 'pip>=25.1' # for groups
            quietly "installing the project" run_pip install --quiet --group "$group" -c constraints.txt -e .
        else
            quietly "installing the project" run_pip install --quiet -c constraints.txt -e .
        fi
        quietly "compiling the packages" "$python" -c \
            'import compileall, sysconfig, sys; sys.exit(not compileall.compile_dir(sysconfig.get_path("purelib"), quiet=1))'
        cd "$OLDPWD"
        printf '%s\n' "$wanted" >"$stamp"
    fi
    quietly "compiling the project" "$python" -m compileall -q "$checkout/mover"
}
