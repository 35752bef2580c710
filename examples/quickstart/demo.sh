#!/usr/bin/env bash
# Three hosts on one machine: what weft does, step by step, with the commands
# that a user would type.
#
#   demo.sh            runs the demo and removes everything
#   demo.sh --keep     leaves the hosts running, also when a step fails, and says
#                      how to look at them
#   demo.sh remove ID  removes what --keep left
#
# A host is a network namespace with an agent in it, the three of them joined by
# a switch in a fourth; behind their default route is "the internet". Several
# demos run side by side: each has an id that all its names begin with.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${WEFT_BIN:-$PWD/bin}
all=/tmp/weft-demo # one directory for each demo that runs or is kept
export PATH=$bin:$PATH

# ---------------------------------------------------------------- on the screen

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
	bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
	bold='' dim='' plain=''
fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
fail() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

# on HOST COMMAND… shows a command at the prompt of a host, and runs it there.
on() {
	local host=$1
	shift
	printf '%s%s#%s %s\n' "$bold" "$host" "$plain" "$*"
	WEFT_SOCKET=$dir/$host/run/agentd.sock inside "$host" "$@"
}

# ctl NUMBER ARGUMENTS… runs agentctl on a host, in silence.
ctl() { WEFT_SOCKET=$dir/host$1/run/agentd.sock inside "host$1" agentctl "${@:2}"; }

# in_ SANDBOX COMMAND… does the same in a sandbox: with its network, and the
# resolv.conf that attach wrote for it.
in_() {
	local sandbox=$1
	shift
	printf '%s%s$%s %s\n' "$bold" "$sandbox" "$plain" "$*"
	ip netns exec "$id-$sandbox" "$@"
}

# inside NAME COMMAND… runs a command in a namespace of the demo, in silence.
inside() {
	local name=$1
	shift
	nsenter --net="/run/netns/$id-$name" -- "$@"
}

# refused COMMAND… expects a command to fail.
refused() {
	if "$@"; then fail "this should not have worked"; fi
	return 0
}

# ------------------------------------------------------- hosts out of namespaces

# begin removes what killed demos left and takes the lowest free id.
begin() {
	local n
	mkdir -p "$all"
	exec 9>"$all/lock"
	flock 9
	for dir in "$all"/demo*; do
		id=${dir##*/}
		[[ ! -d $dir || -e $dir/kept ]] || alive || erase
	done
	for n in {1..99}; do
		id=demo$n dir=$all/demo$n
		[[ ! -e $dir ]] || continue
		mkdir "$dir"
		process $$ >"$dir/owner"
		exec 9>&-
		return
	done
	fail "99 demos run or are kept: remove some of them"
}

# process identifies a process for ever: its number and when it started.
process() { awk '{print $1, $22}' "/proc/$1/stat" 2>/dev/null; }

# alive tells whether the script that made this demo is still running.
alive() {
	local owner
	owner=$(cat "$dir/owner" 2>/dev/null) && [[ -n $owner && $(process "${owner% *}") == "$owner" ]]
}

# namespaces lists those of this demo.
namespaces() { ip netns list | awk -v id="$id-" 'index($1, id) == 1 {print $1}'; }

# erase ends every process of this demo and removes all that it made.
erase() {
	local name pids
	for name in $(namespaces); do
		pids=$(ip netns pids "$name")
		[[ -z $pids ]] || kill -9 $pids 2>/dev/null || true
	done
	for name in $(namespaces); do
		ip netns delete "$name"
		rm -rf "/etc/netns/$name"
	done
	rm -rf "$dir"
}

finish() {
	local status=$?
	trap - EXIT
	if ((status != 0)) && [[ -n $keep ]]; then
		explore >&2
		exit "$status"
	fi
	if ((status != 0)); then
		for log in "$dir"/host*/agentd.log; do
			[[ ! -e $log ]] || { printf '\nend of %s:\n' "$log" && tail -n 15 "$log"; } >&2
		done
	fi
	erase
	exit "$status"
}

# namespace NAME makes one of this demo, with its loopback up.
namespace() {
	ip netns add "$id-$1"
	ip -n "$id-$1" link set lo up
}

# plug NAME ADDRESS connects a namespace to the switch.
plug() {
	ip -n "$id-switch" link add "$1" type veth peer name eth0 netns "$id-$1"
	ip -n "$id-switch" link set "$1" master br0 up
	ip -n "$id-$1" addr add "$2/24" dev eth0
	ip -n "$id-$1" link set eth0 up
}

machines() {
	local n
	namespace switch
	ip -n "$id-switch" link add br0 type bridge
	ip -n "$id-switch" link set br0 up
	namespace internet
	plug internet 192.0.2.254
	ip -n "$id-internet" addr add 198.51.100.1/32 dev lo
	page internet "hello from the internet"
	for n in 1 2 3; do
		namespace "host$n"
		plug "host$n" "192.0.2.$n"
		ip -n "$id-host$n" route add default via 192.0.2.254
		mkdir -p "$dir/host$n"
	done
}

# agent NUMBER starts the agent of a host. Several agents on one machine share a
# store, and each has directories and a fabric of its own.
agent() {
	# nsenter itself and not the function, whose number would be a shell's.
	nsenter --net="/run/netns/$id-host$1" -- "$bin/agentd" --name "host$1" --advertise "192.0.2.$1" \
		--run-dir "$dir/host$1/run" --data-dir "$dir/host$1/data" \
		--fabric "$id-fabric$1" --embedded-store "$dir/store.sock" \
		>>"$dir/host$1/agentd.log" 2>&1 </dev/null &
	echo $! >"$dir/host$1/pid"
	disown
	await 20 answers "$1"
}

# answers: a host that is no member yet has a status too, with exit code 1.
answers() {
	local status=0
	ctl "$1" status >/dev/null 2>&1 || status=$?
	((status <= 1))
}

# page NAME TEXT serves a text over HTTP in a namespace, by a real server.
page() {
	mkdir -p "$dir/www-$1"
	echo "$2" >"$dir/www-$1/index.html"
	inside "$1" busybox httpd -f -p 80 -h "$dir/www-$1" >/dev/null 2>&1 </dev/null &
	disown
}

# await SECONDS COMMAND… runs a command until it succeeds.
await() {
	local until=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < until)) || fail "gave up waiting: $*"
		sleep 0.05
	done
}

# sandbox NAME makes the network namespace of a "container".
sandbox() {
	printf '%shost%s#%s ip netns add %s\n' "$bold" "$2" "$plain" "$id-$1"
	namespace "$1"
}

# --------------------------------------------------------------------- the demo

demo() {
	title "Three hosts, 192.0.2.1 to 192.0.2.3, joined by a switch; an agent on each"
	machines
	for n in 1 2 3; do agent "$n"; done
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
		agent 2
		await 5 resolves client web
	done
	in_ client curl -sS --max-time 5 http://web/
	kill -INT "$pinger"
	wait "$pinger" || true
	tail -n 3 "$log"
	grep -q ' 0% packet loss' "$log" || fail "packets were lost"
}

# show prints a command that needs no host to be typed on, and runs it.
show() {
	printf '%s#%s %s\n' "$bold" "$plain" "$1"
	$1
}

known() { ctl "$1" network inspect "$2" >/dev/null 2>&1; }
resolves() { ip netns exec "$id-$1" getent hosts "$2" >/dev/null; }
ended() { ! kill -0 "$1" 2>/dev/null; }
forgotten() { ! resolves "$1" "$2"; }

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

		$PWD/examples/quickstart/demo.sh remove $id
	END
}

keep=''
case ${1:-} in
'' | --keep)
	keep=${1:-}
	[[ $(id -u) == 0 ]] || fail "making network namespaces needs root"
	[[ -x $bin/agentd ]] || fail "no $bin/agentd: run make build, or make demo"
	begin
	trap finish EXIT
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
