#!/usr/bin/env bash
# Makes .venv with the pinned packages and tools/kenlm with KenLM's programs; path.sh calls it when they are not there.
#
# Only what is missing is installed. The stamp that tells path.sh of a finished set-up is written last, so a set-up
# that was killed is taken up again by the next start.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$(pwd -P)
log=tools/set-up.log

say() { echo "set-up: $*" >&2; }

die() {
    echo "error: $*" >&2
    exit 1
}

# Runs a command with its output in the log; when it fails, shows the end of the log and stops.
logged() {
    echo "+ $*" >>"$log"
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "set-up failed at: $1 ${2-} ${3-} ${4-} (whole log: $root/$log); mend that and start again"
    fi
}

python_is_right() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        python_is_right "$PYTHON" || die "PYTHON=$PYTHON is no Python 3.11 or 3.12"
        python=$PYTHON
        return
    fi
    for candidate in python3.11 python3.12 python3; do
        if python_is_right "$candidate"; then
            python=$candidate
            return
        fi
    done
    die "no Python 3.11 found: install it, or name it: PYTHON=/path/to/python3.11 $0"
}

# A .venv is kept when it is whole as far as it goes. One whose set-up was killed between two files of a package looks
# good to pip, so it carries the mark `set-up-unfinished` meanwhile; one that was moved or copied has programs
# that start the old folder's Python.
venv_is_usable() {
    [ ! -e .venv/set-up-unfinished ] && grep -qsF "$root/.venv/bin/" .venv/bin/pip &&
        .venv/bin/python -m pip --version >/dev/null 2>&1
}

kenlm_is_built() {
    [ "$(cat tools/kenlm/version 2>/dev/null)" = "$kenlm_version" ] &&
        [ -x tools/kenlm/bin/lmplz ] && [ -x tools/kenlm/bin/build_binary ]
}

has_boost() {
    echo '#include <boost/program_options.hpp>
          #include <boost/thread.hpp>' | c++ -x c++ -E - >/dev/null 2>&1 &&
        echo 'int main() {}' |
        c++ -x c++ - -lboost_program_options -lboost_thread -o /dev/null >/dev/null 2>&1
}

# Sets `packages` to the Debian names of the system packages that are missing.
find_missing_packages() {
    packages=()
    local version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! venv_is_usable; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=("python$version-venv")
    fi
    # pyworld and kenlm come as source: pip compiles them against Python's headers.
    "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())' || packages+=("python$version-dev")
    command -v c++ >/dev/null && command -v cc >/dev/null && command -v make >/dev/null || packages+=(build-essential)
    if ! kenlm_is_built; then
        command -v cmake >/dev/null || packages+=(cmake)
        has_boost || packages+=(libboost-program-options-dev libboost-thread-dev)
    fi
}

# pip's own settings and mirrors hold; only its chatter is turned off.
pip_install() {
    logged .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off \
        --constraint constraints.txt "$@"
}

make_venv() {
    say "making .venv with $("$python" --version 2>&1) ($python)"
    rm -rf .venv
    mkdir .venv
    touch .venv/set-up-unfinished
    logged "$python" -m venv .venv
}

install_python_packages() {
    say "installing the Python packages of requirements.txt (a few minutes, 5 GB; log: $log)"
    touch .venv/set-up-unfinished
    pip_install --editable ".[tests]"
    pip_install --no-deps tinysoundfont DALI-dataset
    rm -f .venv/set-up-unfinished
}

[ $# = 1 ] || die "$0 is called by path.sh; start ./run.sh or tests/run.sh"
stamp=$1
kenlm_version=$(sed -n 's/^kenlm==//p' requirements.txt)
begin=$SECONDS

find_python
find_missing_packages
if [ ${#packages[@]} -gt 0 ] && ! { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }; then
    die "system packages are missing; install them and start again: apt-get install ${packages[*]}"
fi

mkdir -p tools
if command -v flock >/dev/null; then
    exec 9>tools/set-up.lock
    flock 9
fi
# Another start may have finished the set-up while this one waited for the lock.
if [ "$(cat .venv/set-up-stamp 2>/dev/null)" = "$stamp" ] && venv_is_usable && kenlm_is_built; then
    exit 0
fi
: >"$log"

if [ ${#packages[@]} -gt 0 ]; then
    say "installing system packages: ${packages[*]}"
    logged apt-get update -qq
    logged env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}"
fi
venv_is_usable || make_venv
if [ "$(cat .venv/set-up-stamp 2>/dev/null)" != "$stamp" ]; then
    install_python_packages
fi
if ! kenlm_is_built; then
    say "building KenLM's lmplz and build_binary (a minute or two)"
    logged bash local/install_kenlm.sh "$kenlm_version"
fi
echo "$stamp" >.venv/set-up-stamp
say "done in $((SECONDS - begin)) s"
