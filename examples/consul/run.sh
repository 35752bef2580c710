#!/usr/bin/env bash
# Three hosts that share a Consul: what it keeps, and what goes on without it.
#
# The hosts are network namespaces: ../hosts.sh says how. Several runs go side
# by side, and each removes everything in the end.
set -euo pipefail
example=consul
source "$(dirname "$0")/../hosts.sh"

# server starts Consul on a machine of its own and waits for a leader.
server() {
	# One server on a quiet link elects itself at once.
	local flags=(-server -bootstrap-expect=1 -bind 192.0.2.10 -client 192.0.2.10)
	printf '%sconsul#%s consul agent %s -data-dir … &\n' "$bold" "$plain" "${flags[*]}"
	nsenter --net="/run/netns/$id-consul" -- consul agent "${flags[@]}" -data-dir "$dir/consul" \
		-disable-host-node-id -log-level warn -hcl 'performance { raft_multiplier = 1 }' >>"$dir/consul.log" 2>&1 </dev/null &
	echo $! >"$dir/consul.pid"
	disown
	await 30 leads
}

leads() { [[ $(inside consul curl -sf -m 1 http://192.0.2.10:8500/v1/status/leader) == *:* ]]; }
degraded() { ! ctl 1 status >/dev/null 2>&1; }
well() { ctl "$1" status >/dev/null 2>&1; }

consul=$(command -v consul || echo "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/weft/consul-1.12.9")
[[ -x $consul ]] || fail "no consul in PATH: see developer.hashicorp.com/consul/install, or run .ci/install examples"
begin
mkdir "$dir/bin"
ln -s "$consul" "$dir/bin/consul"
PATH=$PATH:$dir/bin
trap finish EXIT
trap 'exit 130' INT TERM HUP

title "Three hosts, an agent on each, and a Consul server at 192.0.2.10"
machines 3
namespace consul
plug consul 192.0.2.10
server
for n in 1 2 3; do agent "$n"; done
on host1 agentctl init --consul http://192.0.2.10:8500
on host2 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"
on host3 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"
on host3 agentctl members

title "A network, created on one host, and endpoints on all"
on host1 agentctl network create blue
for n in 2 3; do await 2 known "$n" blue; done
sandbox web 1
on host1 agentctl attach blue --netns "$id-web" --name web
page web "hello from web on host1"
sandbox client 2
on host2 agentctl attach blue --netns "$id-client" --name client
sandbox far 3
on host3 agentctl attach blue --netns "$id-far" --name far

title "Names and traffic, across hosts"
await 2 resolves client far
in_ client getent hosts web.blue
in_ client curl -sS --max-time 5 http://web/

title "What Consul holds: the cluster, its networks, and which host hands out which addresses"
on consul consul kv get -http-addr=192.0.2.10:8500 -keys -separator= weft/v1/

title "Consul is killed with -9, while client is pinging web"
ip netns exec "$id-client" ping -n -i 0.05 web >"$dir/ping.log" 2>&1 &
pinger=$!
await 5 grep -q icmp_seq=5 "$dir/ping.log"
printf '%sconsul#%s kill -9 %s\n' "$bold" "$plain" "$(<"$dir/consul.pid")"
kill -9 "$(<"$dir/consul.pid")"
await 5 ended "$(<"$dir/consul.pid")"
await 30 degraded
refused on host1 agentctl status

title "Traffic, names and new endpoints go on: every host has addresses in hand"
sandbox late 3
on host3 agentctl attach blue --netns "$id-late" --name late
await 2 resolves client late
in_ client ping -c 3 -i 0.2 late
in_ client curl -sS --max-time 5 http://web/
refused on host1 agentctl network create red
note "(a new network waits for Consul)"

title "Consul is back, and so are new networks"
server
for n in 1 2 3; do await 30 well "$n"; done
on host1 agentctl network create red
await 40 known 3 red # a host looks for Consul again every 30 s at the latest
on host3 agentctl network ls
kill -INT "$pinger"
wait "$pinger" || true
tail -n 3 "$dir/ping.log"
grep -q ' 0% packet loss' "$dir/ping.log" || fail "packets were lost"
