# Sourced by run.sh and tests/run.sh: sets the project up where that has not been done, and puts its tools on PATH.
#
#   . ./path.sh || exit 1
#
# PYTHON=/path/to/python3.11 chooses the Python that .venv is made with.

altpo_root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

# What a finished set-up depends on. The folder is part of it: a .venv that was moved or copied does not work.
altpo_set_up_stamp() {
    (cd "$altpo_root" && { pwd -P; cat requirements.txt constraints.txt pyproject.toml; } | cksum)
}

altpo_is_set_up() {
    [ "$(cat "$altpo_root/.venv/set-up-stamp" 2>/dev/null)" = "$(altpo_set_up_stamp)" ] &&
        [ -x "$altpo_root/.venv/bin/python" ] &&
        [ -x "$altpo_root/tools/kenlm/bin/lmplz" ] && [ -x "$altpo_root/tools/kenlm/bin/build_binary" ]
}

if ! altpo_is_set_up; then
    bash "$altpo_root/local/set_up.sh" "$(altpo_set_up_stamp)" || return 1
fi

export PATH="$altpo_root/.venv/bin:$altpo_root/tools/kenlm/bin:$PATH"
export VIRTUAL_ENV="$altpo_root/.venv"
# Modules of another Python must not come before those of .venv.
unset PYTHONPATH PYTHONHOME
