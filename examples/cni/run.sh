#!/usr/bin/env bash
# Two hosts with containerd on one machine: containers that ctr starts reach each
# other by name. The commands are those of README.md; what makes two containerds
# of one machine's is in the function containerds.
set -euo pipefail
example=cni
source "$(dirname "$0")/../hosts.sh"

# containerds gives each host a containerd with state of its own, below $dir, and
# a ctr that sees the host's /etc/cni/net.d and /opt/cni/bin.
containerds() {
	local n host
	mkdir "$dir/bin"
	for n in 1 2; do
		host=$dir/host$n
		rootfs "$host/rootfs"
		mkdir -p "$host/plugins" "$host/net.d"
		ln -s "$bin/weft-cni" "$host/plugins/weft"
		cat >"$host/containerd.toml" <<-END
			version = 2
			root = "$host/containerd"
			state = "$host/state"
			disabled_plugins = ["io.containerd.grpc.v1.cri"]
			[grpc]
			  address = "$host/containerd.sock"
		END
		nsenter --net="/run/netns/$id-host$n" -- containerd --config "$host/containerd.toml" >"$host/containerd.log" 2>&1 </dev/null &
		disown
	done
	cat >"$dir/bin/ctr" <<-END
		#!/bin/sh
		host=\${WEFT_SOCKET%/run/agentd.sock}
		mkdir -p /etc/cni/net.d
		[ "\$1" != run ] || { shift; set -- run --runc-root "\$host/runc" "\$@"; }
		exec unshare -m sh -c 'mount -t tmpfs tmpfs /opt && mkdir -p /opt/cni/bin && mount --bind "\$0/plugins" /opt/cni/bin &&
			mount --bind "\$0/net.d" /etc/cni/net.d && exec /usr/bin/ctr -a "\$0/containerd.sock" -n $id "\$@"' "\$host" "\$@"
	END
	chmod +x "$dir/bin/ctr"
	PATH=$dir/bin:$PATH
	for n in 1 2; do await 20 silent "$n" ctr version; done
}

# release removes the containers of this run, or of a killed one.
release() {
	local root name
	for root in "$dir"/host*/runc/*; do
		[[ -d $root ]] || continue
		for name in $(runc --root "$root" list -q 2>/dev/null); do
			runc --root "$root" delete --force "$name" >/dev/null 2>&1 || true
		done
	done
}

# silent NUMBER COMMAND… runs a command on a host and shows nothing.
silent() { WEFT_SOCKET=$dir/host$1/run/agentd.sock inside "host$1" "${@:2}" >/dev/null 2>&1; }

# resolver writes the resolv.conf of a host's containers: ctr writes none.
resolver() {
	printf 'nameserver %s\nsearch blue.weft.internal weft.internal\n' "$2" >"$dir/host$1/rootfs/etc/resolv.conf"
}

gone() { ! silent 2 ctr task exec --exec-id "look$RANDOM" client /bin/ping -c 1 -W 1 "$id-web"; }

begin
trap finish EXIT
trap 'exit 130' INT TERM HUP

title "Two hosts, an agent and a containerd on each"
machines 2
containerds
for n in 1 2; do agent "$n" --embedded-store "$dir/store.sock" --cni-conf-dir "$dir/host$n/net.d"; done
on host1 agentctl init
on host2 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"

title "A network, created once, is a CNI configuration on every host"
on host1 agentctl network create blue
await 2 test -e "$dir/host2/net.d/weft-blue.conflist"
show "cat $dir/host2/net.d/weft-blue.conflist"

title "Containers, named <namespace>-<container> by ctr"
gateway=$(ctl 1 network inspect blue -o json | sed -n 's/.*"Gateway": *"\([^"]*\)".*/\1/p')
resolver 1 "$gateway"
resolver 2 "$gateway"
on host1 ctr run -d --cni --rootfs "$dir/host1/rootfs" web /bin/httpd -f -h /www
on host2 ctr run -d --cni --rootfs "$dir/host2/rootfs" client /bin/sleep 1000
on host2 agentctl endpoint ls

title "Names, both ways"
on host2 ctr task exec --exec-id one client /bin/ping -c 1 "$id-web"
on host1 ctr task exec --exec-id two web /bin/ping -c 1 "$id-client.blue"

title "Gone is gone, everywhere"
on host1 ctr task kill -s SIGKILL web
await 5 silent 1 ctr task delete web
on host1 ctr container delete web
await 5 gone
note "($id-web is no name any more)"
