# shellcheck shell=bash
# Sourced by the other scripts. Finds the repository, puts cargo on the path, installs missing Debian packages.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# Where cargo builds to, as an absolute path: cargo is started from the root, callers may be anywhere.
target_dir=${CARGO_TARGET_DIR:-$root/target}
[[ $target_dir == /* ]] || target_dir=$PWD/$target_dir
export CARGO_TARGET_DIR=$target_dir

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 2
}

# require COMMAND PACKAGE [COMMAND PACKAGE]...: installs the packages of the commands that are missing.
require() {
    local -a missing=()
    while (($# >= 2)); do
        command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    ((${#missing[@]})) || return 0
    local -a as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            die "missing: ${missing[*]}. Install them as root (apt-get install ${missing[*]}) and run this again."
        as_root=(sudo)
    fi
    command -v apt-get >/dev/null ||
        die "missing: ${missing[*]}. There is no apt-get here; install them with this system's package manager."
    say "installing ${missing[*]}"
    local -a install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
    # The package lists of a fresh machine are empty or old: fetch them, then install.
    if ! { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" "${install[@]}"; } >&2; then
        die "apt-get could not install ${missing[*]}: see its messages above; install them by hand and run this again."
    fi
}

require_rust() {
    # A shell that has not read the profile since rustup ran.
    if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    command -v cargo >/dev/null || die "cargo is missing: install Rust 1.95 or later with rustup and run this again."
    require cc gcc
    # gcc alone brings no C library headers when recommended packages are left out; SQLite is compiled from source.
    if ! printf '#include <stdio.h>\n' | cc -E - >/dev/null 2>&1; then
        require /usr/include/stdio.h libc6-dev
    fi
}
