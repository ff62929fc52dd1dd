#!/usr/bin/env bash
# Sets the project up: system packages that are missing, then Python packages in .venv.
# `make` runs it when pyproject.toml or this file has changed.  It may be interrupted and repeated.
set -euo pipefail
cd "$(dirname "$0")"

say() { echo "bootstrap: $*"; }
refuse() { say "$*" >&2; exit 1; }

exec 9<bootstrap.sh
flock 9 # two `make` at once: the second waits

# --- Python -----------------------------------------------------------------------------------------------

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate found
    for candidate in python3.11 python3.12 python3.13 python3; do # 3.11 first: it is what is tested
        if recent "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    found=$(python3 --version 2>&1) || found=missing
    refuse "Python 3.11 or later is needed; python3 is: $found"
}

python=$(find_python)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# --- System packages --------------------------------------------------------------------------------------

missing=()
need() { # PACKAGE, then a command that succeeds where the package is installed
    "${@:2}" >/dev/null 2>&1 || missing+=("$1")
}
need iverilog command -v iverilog
need g++ command -v g++
need make command -v make
need perl perl -MPod::Usage -e 1 # Verilator's front end uses this module, which Debian's perl-base lacks
need ccache command -v ccache
need "python$version-venv" "$python" -c 'import ensurepip'
need "libpython$version" "$python" -c "import ctypes; ctypes.CDLL('libpython$version.so.1.0')" # for cocotb

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)

apt_install() {
    command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null || return
    say "installing system packages: $*"
    "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

if [ ${#missing[@]} -gt 0 ]; then
    apt_install "${missing[@]}" ||
        refuse "system packages are missing; run: ${as_root[0]:+sudo }apt-get install ${missing[*]}"
fi

# --- Python packages --------------------------------------------------------------------------------------

# .venv/unfinished marks a run that did not end; .venv/ready, which `make` looks at, one that did.
if [ -e .venv/unfinished ] || ! recent .venv/bin/python || ! .venv/bin/python -m pip --version &>/dev/null; then
    "$python" -m venv --clear .venv
fi
rm -f .venv/ready
touch .venv/unfinished
say "Python packages into .venv (torch is the large one)"
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install --quiet 'pip>=25.1,<27' # --group came with 25.1
pip install --group run --group test --group lint --group docs |
    sed -un 's/^ *\(Downloading .* MB)\)$/bootstrap: \1/p'
say "compiling the Verilog writer, once"
.venv/bin/python -m gen apot_pe --k 2 --n 2 -o - >/dev/null
mv .venv/unfinished .venv/ready
say "ready"
