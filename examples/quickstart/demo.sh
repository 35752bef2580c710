#!/usr/bin/env bash
# Three hosts on one machine: what weft does, step by step, with the commands
# that a user would type.
#
#   demo.sh            runs the demo and removes everything
#   demo.sh --keep     leaves the hosts running, also when a step fails, and says
#                      how to look at them
#   demo.sh remove ID  removes what --keep left
#
# The hosts are network namespaces: ../hosts.sh says how. Several demos run side
# by side.
set -euo pipefail
example=demo
source "$(dirname "$0")/../hosts.sh"

# --------------------------------------------------------------------- the demo

demo() {
	title "Three hosts, 192.0.2.1 to 192.0.2.3, joined by a switch; an agent on each"
	machines 3
	page internet "hello from the internet"
	for n in 1 2 3; do agent "$n" --embedded-store "$dir/store.sock"; done
	on host1 agentctl init
	on host2 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"
	on host3 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"
	on host3 agentctl members

	title "Two networks, created on one host, usable on all"
	on host1 agentctl network create blue
	on host1 agentctl network create red
	await 2 known 3 red
	on host3 agentctl network ls

	title "Endpoints: a network namespace, a network, a name"
	sandbox web 1
	on host1 agentctl attach blue --netns "$id-web" --name web
	page web "hello from web on host1"
	sandbox client 2
	on host2 agentctl attach blue --netns "$id-client" --name client
	sandbox far 3
	on host3 agentctl attach blue --netns "$id-far" --name far --alias far-away
	sandbox stranger 3
	on host3 agentctl attach red --netns "$id-stranger" --name stranger
	on host2 agentctl endpoint ls

	title "Names answer on every host, with nothing configured in the sandboxes"
	await 2 resolves client far
	in_ client getent hosts web
	in_ client getent hosts far-away.blue
	in_ far getent hosts web.blue.weft.internal

	title "Ping and HTTP, across hosts, by name"
	in_ client ping -c 3 -i 0.2 far
	in_ client curl -sS --max-time 5 http://web/
	in_ far curl -sS --max-time 5 http://web.blue/

	title "Networks are isolated: red neither resolves nor reaches blue"
	address=$(ip netns exec "$id-client" getent hosts web | awk '{print $1}')
	refused in_ stranger getent hosts web.blue.weft.internal
	note "(no such name)"
	refused in_ stranger ping -c 1 -W 1 "$address"

	title "Out to the internet, with the address of the host"
	in_ client curl -sS --max-time 5 http://198.51.100.1/

	title "The agent of host2 is killed with -9, twice, while client on host2 is pinging web"
	kill_under_ping

	title "What the kernel of host2 holds: one fabric namespace, and of each remote endpoint one neighbour and one FDB entry"
	vni=$(ctl 2 network inspect blue -o json | sed -n 's/.*"VNI": *\([0-9]*\).*/\1/p')
	device=$(printf 'v%06x' "$vni")
	show "ip -n $id-fabric2 -brief link"
	show "ip -n $id-fabric2 neighbour show dev $device"
	show "bridge -n $id-fabric2 fdb show dev $device"

	title "Gone is gone, everywhere"
	on host1 agentctl detach blue web
	await 2 forgotten client web
	refused in_ client getent hosts web
	note "(no such name)"
}

kill_under_ping() {
	local log=$dir/ping.log pinger
	printf '%sclient$%s ping -n -i 0.02 web &\n' "$bold" "$plain"
	ip netns exec "$id-client" ping -n -i 0.02 web >"$log" 2>&1 &
	pinger=$!
	await 5 grep -q icmp_seq=5 "$log"
	for _ in 1 2; do
		printf '%shost2#%s kill -9 %s    # agentd\n' "$bold" "$plain" "$(<"$dir/host2/pid")"
		kill -9 "$(<"$dir/host2/pid")"
		await 2 ended "$(<"$dir/host2/pid")"
		printf '%shost2#%s agentd … &\n' "$bold" "$plain"
		agent 2 --embedded-store "$dir/store.sock"
		await 5 resolves client web
	done
	in_ client curl -sS --max-time 5 http://web/
	kill -INT "$pinger"
	wait "$pinger" || true
	tail -n 3 "$log"
	grep -q ' 0% packet loss' "$log" || fail "packets were lost"
}

# ending is finish, which leaves the hosts of a failed demo running for --keep.
ending() {
	local status=$?
	((status == 0)) || [[ -z $keep ]] || { explore >&2 && trap - EXIT && exit "$status"; }
	finish "$status"
}

explore() {
	touch "$dir/kept"
	title "Left running as $id"
	cat <<-END
		export PATH=$bin:\$PATH
		export WEFT_SOCKET=$dir/host2/run/agentd.sock    # or host1, host3
		agentctl members
		agentctl network inspect blue
		agentctl endpoint ls
		agentctl dns query far.blue
		ip netns exec $id-client curl http://far/        # or ping, getent, a shell
		ip -n $id-fabric2 neighbour
		less $dir/host2/agentd.log

		Remove it:

		$repo/examples/quickstart/demo.sh remove $id
	END
}

keep=''
case ${1:-} in
'' | --keep)
	keep=${1:-}
	begin
	trap ending EXIT
	trap 'exit 130' INT TERM HUP
	demo
	if [[ -n $keep ]]; then
		trap - EXIT
		explore
	else
		erase
		trap - EXIT
		title "Everything is removed again. KEEP=1 make demo leaves it running."
	fi
	;;
remove)
	[[ ${2:-} == demo[1-9]* ]] || fail "usage: demo.sh remove ID, with the id that --keep printed"
	id=$2 dir=$all/$2
	erase
	;;
*) fail "usage: demo.sh [--keep] | remove ID" ;;
esac
