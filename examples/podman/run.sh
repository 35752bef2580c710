#!/usr/bin/env bash
# Two hosts with podman on one machine: containers reach each other by name. The
# commands are those of README.md; what makes two podmans of one machine's is in
# the function podmans.
set -euo pipefail
example=podman
source "$(dirname "$0")/../hosts.sh"

# podmans gives each host a podman with storage of its own, below $dir.
podmans() {
	local n host
	for n in 1 2; do
		host=$dir/host$n
		rootfs "$host/rootfs"
		echo "hello from web on host$n" >"$host/rootfs/www/index.html"
		mkdir -p "$host/plugins"
		ln -s "$bin/weft-cni" "$host/plugins/weft"
		cat >"$host/containers.conf" <<-END
			[containers]
			default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
			[engine]
			runtime = "runc"
			cgroup_manager = "cgroupfs"
			events_logger = "file"
			lock_type = "file"
			[network]
			network_backend = "cni"
			cni_plugin_dirs = ["$host/plugins"]
			network_config_dir = "$host/net.d"
		END
	done
	mkdir "$dir/bin"
	cat >"$dir/bin/podman" <<-'END'
		#!/bin/sh
		host=${WEFT_SOCKET%/run/agentd.sock}
		export CONTAINERS_CONF=$host/containers.conf
		exec /usr/bin/podman --root "$host/storage" --runroot "$host/state" --tmpdir "$host/tmp" --storage-driver vfs "$@"
	END
	chmod +x "$dir/bin/podman"
	PATH=$dir/bin:$PATH
}

# release removes the containers of this run, or of a killed one.
release() {
	local host
	for host in "$dir"/host*; do
		[[ ! -e $host/containers.conf ]] || WEFT_SOCKET=$host/run/agentd.sock "$dir/bin/podman" rm -f -t 0 -a >/dev/null 2>&1 || true
	done
}

gone() { ! WEFT_SOCKET=$dir/host2/run/agentd.sock inside host2 podman exec client nslookup web >/dev/null 2>&1; }
listed() { WEFT_SOCKET=$dir/host2/run/agentd.sock inside host2 podman network inspect blue >/dev/null 2>&1; }

begin
trap finish EXIT
trap 'exit 130' INT TERM HUP

title "Two hosts, an agent and a podman on each"
machines 2
podmans
for n in 1 2; do agent "$n" --embedded-store "$dir/store.sock" --cni-conf-dir "$dir/host$n/net.d"; done
on host1 agentctl init
on host2 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"

title "A network, created once, is a podman network on every host"
on host1 agentctl network create blue
await 2 listed
on host2 podman network ls

title "Containers with names"
on host1 podman run -d --name web --network blue --network-alias www --rootfs "$dir/host1/rootfs" httpd -f -h /www
on host2 podman run -d --name client --network blue --rootfs "$dir/host2/rootfs" sleep 1000
on host2 agentctl endpoint ls

title "Names, both ways"
on host2 podman exec client wget -q -O - http://web/
on host2 podman exec client wget -q -O - http://www.blue/
on host1 podman exec web ping -c 1 client

title "Gone is gone, everywhere"
on host1 podman rm -f -t 0 web
await 2 gone
note "(web is no name any more)"
