#!/usr/bin/env bash
# Two Docker hosts and one network: what README.md shows, on one machine. Each
# host is a network namespace with an agent and a dockerd in it; ../hosts.sh
# says how.
set -euo pipefail
example=docker
source "$(dirname "$0")/../hosts.sh"
cd "$(dirname "$0")"

# Debian's client: another one in the path may be newer than the engine.
docker() { /usr/bin/docker "$@"; }

# at NUMBER COMMAND… shows a command at the prompt of a host, and runs it
# against the host's dockerd.
at() {
	printf '%shost%s#%s %s\n' "$bold" "$1" "$plain" "${*:2}"
	DOCKER_HOST=unix://$dir/host$1/docker.sock "${@:2}"
}

# engine NUMBER starts the dockerd of a host, with a /run of its own where it
# looks for the plugin's socket.
engine() {
	local at=$dir/host$1
	nsenter --net="/run/netns/$id-host$1" -- unshare --mount --uts sh -c '
		mount -t tmpfs tmpfs /run
		mkdir -p /run/docker/plugins
		ln -s "$1/weft.sock" /run/docker/plugins/weft.sock
		hostname "$2"
		mount --bind "$1/resolv.conf" /etc/resolv.conf
		exec dockerd --data-root "$1/docker" --exec-root "$1/exec" -H "unix://$1/docker.sock" \
			--pidfile "$1/docker.pid" --storage-driver vfs' sh "$at" "host$1" \
		>"$at/dockerd.log" 2>&1 </dev/null &
	echo $! >"$at/engine"
	disown
	await 30 up "$1"
	tar -C "$dir/image" -c . | DOCKER_HOST=unix://$at/docker.sock docker import -c 'CMD ["sh"]' - busybox >/dev/null
}

up() { DOCKER_HOST=unix://$dir/host$1/docker.sock docker version >/dev/null 2>&1; }

# release stops what holds more than a network namespace: containers, their
# mounts, and the engines.
release() {
	local host pid
	for host in "$dir"/host*; do
		[[ -S $host/docker.sock ]] || continue
		DOCKER_HOST=unix://$host/docker.sock timeout 30 /usr/bin/docker ps -aq 2>/dev/null |
			DOCKER_HOST=unix://$host/docker.sock xargs -r timeout 60 /usr/bin/docker rm -f >/dev/null 2>&1 || true
		pid=$(cat "$host/engine" 2>/dev/null) || continue
		kill "$pid" 2>/dev/null || true
		for _ in {1..100}; do
			[[ -d /proc/$pid ]] || break
			sleep 0.05
		done
	done
}

listed() { DOCKER_HOST=unix://$dir/host$1/docker.sock docker network ls --format '{{.Name}}' | grep -qx "$2"; }
running() { [[ $(DOCKER_HOST=unix://$dir/host$1/docker.sock docker inspect -f '{{.State.Running}}' "$2") == true ]]; }

begin
trap finish EXIT
trap 'exit 130' INT TERM HUP

title "Two hosts, each with an agent and a dockerd"
machines 2
rootfs "$dir/image"
for n in 1 2; do
	echo "nameserver 192.0.2.254" >"$dir/host$n/resolv.conf"
	agent "$n" --embedded-store "$dir/store.sock" --docker-socket "$dir/host$n/docker.sock" --docker-plugin-socket "$dir/host$n/weft.sock" \
		--dns-resolv-conf "$dir/host$n/resolv.conf"
	engine "$n"
done
on host1 agentctl init
on host2 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"

title "One network, made once, known to Docker on every host"
on host1 agentctl network create backend
await 2 listed 2 backend
at 2 docker network ls

title "A container on one host, found by name from the other"
await 2 listed 1 backend
at 1 docker run -d --network backend --name web --network-alias www busybox \
	sh -c 'mkdir -p /www && echo hello from web > /www/index.html && exec httpd -f -p 80 -h /www' >/dev/null
at 2 docker run --rm --network backend busybox wget -qO- http://web/
at 2 docker run --rm --network backend busybox ping -c 1 www

title "The same with Docker Compose: the network is external, everything else is as usual"
at 1 docker-compose -p shop up -d web
at 2 docker-compose -p shop run --rm -T client

title "What there is"
on host2 agentctl endpoint ls
at 1 docker rm -f web >/dev/null
at 1 docker-compose -p shop down
on host1 agentctl network rm backend

erase
trap - EXIT
title "Everything is removed again."
