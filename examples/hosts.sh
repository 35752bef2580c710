# Hosts out of network namespaces, for the examples: sourced, never run.
#
# An example names itself and then calls begin, which gives it an id that all
# its names begin with, so that any number of them run side by side:
#
#   example=redis
#   source ../hosts.sh
#   begin && trap finish EXIT && trap 'exit 130' INT TERM HUP
#   machines 3
#
# A host is a network namespace with an agent in it. A switch in another joins
# them, 192.0.2.1 and on; behind their default route is "the internet".

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${WEFT_BIN:-$repo/bin}
all=/tmp/weft-$example # one directory for each run, and for each that is kept
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
	printf '%s: %s\n' "$example" "$*" >&2
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

# in_ SANDBOX COMMAND… shows a command at the prompt of a sandbox, and runs it
# with its network and the resolv.conf that attach wrote for it.
in_() {
	local sandbox=$1
	shift
	printf '%s%s$%s %s\n' "$bold" "$sandbox" "$plain" "$*"
	ip netns exec "$id-$sandbox" "$@"
}

# inside NAME COMMAND… runs a command in a namespace of the example, in silence.
inside() {
	local name=$1
	shift
	nsenter --net="/run/netns/$id-$name" -- "$@"
}

# show prints a command that needs no host to be typed on, and runs it.
show() {
	printf '%s#%s %s\n' "$bold" "$plain" "$1"
	$1
}

# refused COMMAND… expects a command to fail.
refused() {
	if "$@"; then fail "this should not have worked"; fi
	return 0
}

# ------------------------------------------------------------ beginning and end

# begin removes what killed runs left and takes the lowest free id.
begin() {
	local n
	[[ $(id -u) == 0 ]] || fail "making network namespaces needs root"
	[[ -x $bin/agentd ]] || fail "no $bin/agentd: run make build"
	mkdir -p "$all"
	exec 9>"$all/lock"
	flock 9
	for dir in "$all/$example"*; do
		id=${dir##*/}
		[[ ! -d $dir || -e $dir/kept ]] || alive || erase
	done
	for n in {1..99}; do
		id=$example$n dir=$all/$example$n
		[[ ! -e $dir ]] || continue
		mkdir "$dir"
		process $$ >"$dir/owner"
		exec 9>&-
		return
	done
	fail "99 of them run or are kept: remove some"
}

# process identifies a process for ever: its number and when it started. One
# that has ended is none, also when nobody asks for its exit code, as in a
# container whose first process does not.
process() { awk '$3 != "Z" {print $1, $22}' "/proc/$1/stat" 2>/dev/null; }

# alive tells whether the script that owns this directory is still running.
alive() {
	local owner
	owner=$(cat "$dir/owner" 2>/dev/null) && [[ -n $owner && $(process "${owner% *}") == "$owner" ]]
}

# namespaces lists those of this run.
namespaces() { ip netns list | awk -v id="$id-" 'index($1, id) == 1 {print $1}'; }

# erase ends every process of this run and removes all that it made. A script
# that has more to remove defines the function release.
erase() {
	local name pids
	! declare -F release >/dev/null || release
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

# finish STATUS removes everything, after a failure with the end of every log.
finish() {
	local status=${1:-$?} log
	trap - EXIT
	if ((status != 0)); then
		for log in "$dir"/host*/*.log; do
			[[ ! -e $log ]] || { printf '\nend of %s:\n' "$log" && tail -n 15 "$log"; } >&2
		done
	fi
	erase
	exit "$status"
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

# ------------------------------------------------------- hosts out of namespaces

# namespace NAME makes one of this run, with its loopback up.
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

# machines COUNT makes the switch, the internet and the hosts, without agents.
machines() {
	local n
	namespace switch
	ip -n "$id-switch" link add br0 type bridge
	ip -n "$id-switch" link set br0 up
	namespace internet
	plug internet 192.0.2.254
	ip -n "$id-internet" addr add 198.51.100.1/32 dev lo
	for ((n = 1; n <= $1; n++)); do
		namespace "host$n"
		plug "host$n" "192.0.2.$n"
		ip -n "$id-host$n" route add default via 192.0.2.254
		mkdir -p "$dir/host$n"
	done
}

# agent NUMBER FLAGS… starts the agent of a host. Several agents on one machine
# share a store, and each has directories and a fabric of its own.
agent() {
	# nsenter itself and not the function, whose number would be a shell's.
	nsenter --net="/run/netns/$id-host$1" -- "$bin/agentd" --name "host$1" --advertise "192.0.2.$1" \
		--run-dir "$dir/host$1/run" --data-dir "$dir/host$1/data" --fabric "$id-fabric$1" \
		"${@:2}" >>"$dir/host$1/agentd.log" 2>&1 </dev/null &
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

# sandbox NAME NUMBER makes the network namespace of a "container" on a host.
sandbox() {
	printf '%shost%s#%s ip netns add %s\n' "$bold" "$2" "$plain" "$id-$1"
	namespace "$1"
}

# page NAME TEXT serves a text over HTTP in a namespace, by a real server.
page() {
	mkdir -p "$dir/www-$1"
	echo "$2" >"$dir/www-$1/index.html"
	inside "$1" busybox httpd -f -p 80 -h "$dir/www-$1" >/dev/null 2>&1 </dev/null &
	disown
}

known() { ctl "$1" network inspect "$2" >/dev/null 2>&1; }
resolves() { ip netns exec "$id-$1" getent hosts "$2" >/dev/null; }
forgotten() { ! resolves "$1" "$2"; }
ended() { ! kill -0 "$1" 2>/dev/null; }
