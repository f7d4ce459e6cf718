#!/usr/bin/env bash
# Builds the images of docker-compose.yml where no image registry is reachable: a Debian base by debootstrap, services
# from Debian packages, our own programs from this tree. Must not pull or push any image.
set -euo pipefail
# shellcheck source=scripts/requirements.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/requirements.sh"

usage() {
    cat <<'TEXT'
deploy/offline/build.sh [--bin-dir DIR] [--fresh] [IMAGE...]

Builds IMAGEs (base, postgres, rabbitmq, s3, splitreel, prometheus; default: all but the last). What has not changed is
taken from Docker's cache. deploy/offline/offline.env names the results for docker-compose.

--bin-dir DIR   take the programs splitreel and s3-server from DIR instead of building them
--fresh         build from new packages, without the cache

SPLITREEL_DEBIAN_MIRROR, SPLITREEL_DEBIAN_SECURITY_MIRROR   where Debian packages come from
                                                            (default: from where this machine's apt gets them)
Needs a Docker daemon (deploy/offline/daemon.sh starts one) and root.
TEXT
}

bin_dir=
fresh=()
images=()
while (($#)); do
    case $1 in
    --bin-dir)
        (($# >= 2)) || die "--bin-dir needs a directory"
        bin_dir=$2
        shift
        ;;
    --fresh) fresh=(--no-cache) ;;
    base | postgres | rabbitmq | s3 | splitreel | prometheus) images+=("$1") ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) die "unknown argument '$1'; see deploy/offline/build.sh --help" ;;
    esac
    shift
done
((${#images[@]})) || images=(base postgres rabbitmq s3 splitreel)

suite=bookworm
# own_mirror LABEL: where this machine itself gets such packages from. Other repositories have other labels.
own_mirror() {
    # shellcheck disable=SC2016 # for apt-get, not for the shell
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n "s,^$1 \(.*[^/]\)/*\$,\1,p" | sort -u | head -n 1
}
names=splitreel-offline
base=$names/debian:$suite

require docker docker.io
docker version >/dev/null 2>&1 ||
    die "no Docker daemon answers: deploy/offline/daemon.sh start, then eval \"\$(deploy/offline/daemon.sh env)\""

# The classic builder: it takes a base image that only this daemon has, without asking a registry for it.
export DOCKER_BUILDKIT=0
build() { # build NAME:TAG DIR ARGUMENT...
    local image=$names/$1 dir=$2
    shift 2
    say "building $image"
    docker build --quiet "${fresh[@]}" --tag "$image" --build-arg "BASE_IMAGE=$base" "$@" "$dir" >&2
}

has() { docker image inspect "$1" >/dev/null 2>&1; }

work=
trap '[[ -z $work ]] || rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "${TMPDIR:-/tmp}/splitreel-images.XXXXXX")

base() {
    if has "$base" && ((${#fresh[@]} == 0)); then
        return
    fi
    ((EUID == 0)) || die "debootstrap needs root"
    require debootstrap debootstrap
    local mirror=${SPLITREEL_DEBIAN_MIRROR:-$(own_mirror Debian)}
    local security=${SPLITREEL_DEBIAN_SECURITY_MIRROR:-$(own_mirror Debian-Security)}
    [[ -n $mirror && -n $security ]] ||
        die "apt knows no Debian mirror here: set SPLITREEL_DEBIAN_MIRROR and SPLITREEL_DEBIAN_SECURITY_MIRROR"
    say "building $base from $mirror"
    if ! debootstrap --variant=minbase "$suite" "$work/root" "$mirror" >"$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        die "debootstrap failed; see the lines above"
    fi
    printf '%s\n' "deb $mirror $suite main" "deb $mirror $suite-updates main" "deb $security $suite-security main" \
        >"$work/root/etc/apt/sources.list"
    # Packages must not start services here, and manuals are not needed.
    printf '#!/bin/sh\nexit 101\n' >"$work/root/usr/sbin/policy-rc.d"
    chmod +x "$work/root/usr/sbin/policy-rc.d"
    printf '%s\n' 'path-exclude=/usr/share/man/*' 'path-exclude=/usr/share/locale/*' 'path-exclude=/usr/share/doc/*' \
        'path-include=/usr/share/doc/*/copyright' >"$work/root/etc/dpkg/dpkg.cfg.d/lean"
    rm -rf -- "$work/root/usr/share/man" "$work/root/usr/share/locale" "$work/root/etc/hostname"
    tar -C "$work/root" --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' -c . |
        docker import --change 'CMD ["bash"]' - "$names/debian-bare:$suite" >/dev/null
    rm -rf -- "$work/root"
    docker build --quiet "${fresh[@]}" --tag "$base" - >&2 <<DOCKERFILE
FROM $names/debian-bare:$suite
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get upgrade -y && rm -rf /var/lib/apt/lists/*
DOCKERFILE
}

# program NAME DIR: puts a program into DIR; builds it when --bin-dir is not given.
program() {
    local name=$1 into=$2 from=$bin_dir
    if [[ -z $from ]]; then
        require_rust
        # Of the whole workspace: built for one package alone, its dependencies would be compiled once for each.
        (cd "$root" && cargo build --release --locked --workspace --bin "$name") >&2
        from=$target_dir/release
    fi
    [[ -x $from/$name ]] || die "$from has no program $name"
    # Line tables of a development build are larger than the program.
    if command -v strip >/dev/null; then
        strip -o "$into/$name" -- "$from/$name"
    else
        cp -- "$from/$name" "$into/$name"
    fi
    chmod 755 "$into/$name"
}

s3() {
    local context=$work/s3
    cp -r -- "$root/deploy/offline/s3" "$context"
    program s3-server "$context"
    build s3:latest "$context"
}

# A context of two files: the whole tree would be sent to the daemon otherwise.
splitreel() {
    local context=$work/splitreel
    mkdir -p "$context/deploy/images"
    cp -- "$root/deploy/images/Dockerfile" "$root/deploy/images/closure" "$context/deploy/images"
    program splitreel "$context"
    build splitreel:latest "$context" --file "$context/deploy/images/Dockerfile" --target prebuilt \
        --build-arg BINARY=splitreel
}

base
for image in "${images[@]}"; do
    case $image in
    base) ;;
    postgres) build postgres:15 "$root/deploy/offline/postgres" ;;
    rabbitmq) build rabbitmq:3.10 "$root/deploy/offline/rabbitmq" ;;
    prometheus) build prometheus:2 "$root/deploy/offline/prometheus" ;;
    s3) s3 ;;
    splitreel) splitreel ;;
    esac
done
