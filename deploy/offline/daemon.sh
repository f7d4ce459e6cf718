#!/usr/bin/env bash
# A Docker daemon for machines where none runs and nothing would start it: own data directory, own socket, own bridge.
# Must not touch the system's own daemon or its images.
set -euo pipefail
# shellcheck source=scripts/requirements.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/requirements.sh"

usage() {
    cat <<'TEXT'
deploy/offline/daemon.sh start|stop|status|env [--dir DIR]

start    starts a Docker daemon unless this one runs already; installs the package docker.io when it is missing
stop     ends it and its containers, and takes its bridge and firewall rules away; images stay in DIR
status   says whether it runs; fails when it does not
env      prints the variables for its clients: eval "$(deploy/offline/daemon.sh env)"

--dir DIR   where its data, socket and log are (default $SPLITREEL_DOCKER_DIR or /var/lib/splitreel-docker)
Needs root.
TEXT
}

command=
dir=${SPLITREEL_DOCKER_DIR:-/var/lib/splitreel-docker}
while (($#)); do
    case $1 in
    start | stop | status | env)
        [[ -z $command ]] || die "one of start, stop, status, env; see deploy/offline/daemon.sh --help"
        command=$1
        ;;
    --dir)
        (($# >= 2)) || die "--dir needs a directory"
        dir=$2
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) die "unknown argument '$1'; see deploy/offline/daemon.sh --help" ;;
    esac
    shift
done
[[ -n $command ]] || die "one of start, stop, status, env; see deploy/offline/daemon.sh --help"
[[ $dir == /* ]] || dir=$PWD/$dir
# A socket's path has at most 107 bytes, containerd's is the longest below.
((${#dir} <= 60)) || die "$dir: too long for the sockets in it; give a shorter one with --dir"

bridge=splitreel0
subnet=${SPLITREEL_DOCKER_BRIDGE:-172.31.77.1/24}
state=$dir/run/state

recall() { [[ -f $state ]] && sed -n "s/^$1 //p" "$state" | tail -n 1; }

# A process id alone may have been given to another process since: the start time distinguishes them.
started_at() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The name in parentheses may hold spaces; the start time is the 20th field after it.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [[ $1 != Z ]] && printf '%s\n' "${20}"
}
is_running() {
    local pid
    pid=$(recall pid) && [[ -n $pid ]] || return 1
    [[ $(started_at "$pid") == "$(recall since)" ]]
}
answers() { curl -fsS --max-time 5 --unix-socket "$dir/run/docker.sock" http://docker/_ping >/dev/null 2>&1; }

has_docker_rules() { iptables -t nat -S DOCKER >/dev/null 2>&1; }

# The rules that a daemon leaves behind. Only called when there were none before ours started.
drop_docker_rules() {
    local table rule ours="-j DOCKER|-[io] $bridge|-[io] br-[0-9a-f]{12}"
    for table in nat filter; do
        iptables -t "$table" -S |
            sed -nE "/$ours/s/^-A (PREROUTING|OUTPUT|POSTROUTING|FORWARD) /-D \\1 /p" |
            while read -r rule; do
                # shellcheck disable=SC2086
                iptables -t "$table" $rule || true
            done
        iptables -t "$table" -S | sed -n 's/^-N \(DOCKER[A-Z0-9-]*\)$/\1/p' | while read -r rule; do
            iptables -t "$table" -F "$rule" || true
        done
        iptables -t "$table" -S | sed -n 's/^-N \(DOCKER[A-Z0-9-]*\)$/\1/p' | while read -r rule; do
            iptables -t "$table" -X "$rule" || true
        done
    done
    # Bridges of networks that were not taken down.
    ip -brief link show type bridge | grep -oE '^br-[0-9a-f]{12}' | while read -r rule; do
        ip link del "$rule" || true
    done || true
    iptables -P FORWARD "$(recall forward)"
    recall ip_forward >/proc/sys/net/ipv4/ip_forward
}

start() {
    ((EUID == 0)) || die "a Docker daemon needs root"
    require /usr/sbin/dockerd docker.io iptables iptables ip iproute2 curl curl
    mkdir -p -- "$dir/run" "$dir/data" "$dir/exec"
    chmod 711 "$dir"
    exec 9>"$dir/run/lock"
    flock -w 60 9 || die "another daemon.sh holds $dir/run/lock"
    if is_running && answers; then
        say "already running"
        return
    fi
    rm -f -- "$state"
    {
        has_docker_rules && echo 'rules theirs' || echo 'rules ours'
        echo "forward $(iptables -S FORWARD | sed -n 's/^-P FORWARD //p')"
        echo "ip_forward $(cat /proc/sys/net/ipv4/ip_forward)"
    } >"$state"
    ip link show "$bridge" >/dev/null 2>&1 || ip link add "$bridge" type bridge
    ip addr replace "$subnet" dev "$bridge"
    ip link set "$bridge" up
    # Packets larger than the way out takes would vanish: some tunnels take less than Ethernet.
    local way mtu=1500
    way=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    [[ -z $way ]] || mtu=$(cat "/sys/class/net/$way/mtu")
    printf '{}\n' >"$dir/run/daemon.json"
    setsid /usr/sbin/dockerd --config-file "$dir/run/daemon.json" --data-root "$dir/data" --exec-root "$dir/exec" \
        --pidfile "$dir/run/docker.pid" --host "unix://$dir/run/docker.sock" --bridge "$bridge" --mtu "$mtu" \
        >"$dir/run/log" 2>&1 </dev/null 9>&- &
    local pid=$!
    echo "pid $pid" >>"$state"
    echo "since $(started_at "$pid")" >>"$state"
    local until=$((SECONDS + 60))
    while ((SECONDS < until)); do
        if answers; then
            say "Docker daemon $pid listens on $dir/run/docker.sock"
            say "for its clients: eval \"\$(deploy/offline/daemon.sh env)\""
            return
        fi
        is_running || break
        sleep 0.1
    done
    tail -n 20 -- "$dir/run/log" >&2 || true
    stop
    die "the Docker daemon did not start; see the lines above, all of them are in $dir/run/log"
}

stop() {
    [[ -f $state ]] || return 0
    ((EUID == 0)) || die "a Docker daemon needs root"
    if is_running; then
        local pid until
        pid=$(recall pid)
        kill -TERM "$pid"
        # It stops its containers first.
        until=$((SECONDS + 60))
        while is_running && ((SECONDS < until)); do sleep 0.1; done
        if is_running; then
            say "the Docker daemon $pid did not end by itself within a minute"
            kill -KILL "$pid"
        fi
    fi
    ip link del "$bridge" 2>/dev/null || true
    [[ $(recall rules) != ours ]] || drop_docker_rules
    rm -f -- "$state" "$dir/run/docker.sock" "$dir/run/docker.pid"
}

case $command in
start) start ;;
stop) stop ;;
status)
    if is_running && answers; then
        say "running: process $(recall pid), socket $dir/run/docker.sock"
    else
        say "not running"
        exit 1
    fi
    ;;
env)
    # shellcheck disable=SC2016 # for the shell that evaluates it
    # Debian's own client first: a newer one that lies before it in the path may lack its plugins.
    printf 'export DOCKER_HOST=%q DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0 PATH=%s:$PATH\n' \
        "unix://$dir/run/docker.sock" /usr/bin
    ;;
esac
