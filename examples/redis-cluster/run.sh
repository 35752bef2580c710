#!/usr/bin/env bash
# A Redis Cluster on three hosts: six real instances with addresses that stay,
# found by name; a host is cut off, and its key is read on another.
#
# The hosts are network namespaces: ../hosts.sh says how. Several runs go side
# by side, and each removes everything in the end.
set -euo pipefail
example=redis
source "$(dirname "$0")/../hosts.sh"

# start INSTANCE HOST makes the instance redisINSTANCE on a host and waits until
# it answers.
start() {
	local name=redis$1 address=10.42.0.1$1 data=$dir/host$2/redis$1
	sandbox "$name" "$2"
	on "host$2" agentctl attach redis --netns "$id-$name" --name "$name" --ip "$address"
	mkdir "$data"
	printf '%s%s$%s %s\n' "$bold" "$name" "$plain" "redis-server ${settings[*]} --bind $address &"
	inside "$name" redis-server "${settings[@]}" --bind "$address" --dir "$data" >"$data.log" 2>&1 </dev/null &
	disown
	await 10 replies "$name" "$address"
}

# A node is taken for failed after two seconds; the data lives in memory.
settings=(--cluster-enabled yes --cluster-node-timeout 2000 --repl-diskless-sync-delay 0 --protected-mode no --save '""')

exec 3>&1

replies() { [[ $(inside "$1" redis-cli -h "$2" ping 2>/dev/null) == PONG ]]; }

# agreed INSTANCE… : each of them serves all slots, and a replica has its data.
agreed() {
	local n info
	for n; do
		info=$(inside "redis$n" redis-cli -h "10.42.0.1$n" cluster info)
		[[ $info == *cluster_state:ok* && $info == *cluster_slots_ok:16384* ]] || return 1
		info=$(inside "redis$n" redis-cli -h "10.42.0.1$n" info replication)
		[[ $info != *role:slave* || $info == *master_link_status:up* ]] || return 1
	done
}

# holder KEY is the address of the master that has it.
holder() { inside redis1 redis-cli -h 10.42.0.11 get "$1" 2>&1 | sed -n 's/^MOVED [0-9]* \(.*\):6379.*/\1/p'; }
moved() { local now && now=$(holder "$1") && [[ -n $now && $now != "$2" ]]; }
lost() { ctl 1 members | grep -q "^host2 .*$1"; }

command -v redis-server redis-cli >/dev/null || fail "no redis-server or no redis-cli: apt-get install redis-server redis-tools"
begin
trap finish EXIT
trap 'exit 130' INT TERM HUP

title "Three hosts, an agent on each, and one network with addresses of our choice"
machines 3
for n in 1 2 3; do agent "$n" --embedded-store "$dir/store.sock"; done
on host1 agentctl init
on host2 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"
on host3 agentctl join 192.0.2.1 --token-file "$dir/host1/data/join.token"
on host1 agentctl network create redis --subnet 10.42.0.0/24
for n in 2 3; do await 2 known "$n" redis; done

title "Six instances, two on each host"
for n in 1 2 3; do start "$n" "$n"; done
for n in 4 5 6; do start "$n" $((n - 3)); done

title "A cluster out of them, by name"
sandbox client 1
on host1 agentctl attach redis --netns "$id-client" --name client
await 2 resolves client redis6
in_ client redis-cli --cluster create redis{1..6}:6379 --cluster-replicas 1 --cluster-yes
await 20 agreed 1 2 3 4 5 6

title "A key, written on host1"
write=$'set motto written-on-host1\nwait 1 5000' # wait: until a replica has it
printf '%sclient$%s redis-cli -c -h redis1 <<END\n%s\nEND\n' "$bold" "$plain" "$write"
[[ $(ip netns exec "$id-client" redis-cli -c -h redis1 <<<"$write" | tee /dev/fd/3 | tail -n 1) == 1 ]] || fail "no replica has the key"
master=$(holder motto)
[[ $master == 10.42.0.12 ]] || fail "motto is at ${master:-no master}, not at redis2"
note "(held by redis2, on host2)"

title "host2 is cut off: its link is down, its agent and its instances are killed"
printf '%s#%s ip -n %s link set host2 down\n' "$bold" "$plain" "$id-switch"
ip -n "$id-switch" link set host2 down
victims="$(<"$dir/host2/pid") $(ip netns pids "$id-redis2") $(ip netns pids "$id-redis5")"
victims=$(echo $victims) # on one line
printf '%shost2#%s kill -9 %s\n' "$bold" "$plain" "$victims"
kill -9 $victims
await 20 moved motto "$master"
await 20 agreed 1 3 4 6
await 30 lost dead

title "Its replica has taken over: the key, read on host3"
sandbox reader 3
on host3 agentctl attach redis --netns "$id-reader" --name reader
await 2 resolves reader redis1
in_ reader redis-cli -c -h redis1 get motto | tee "$dir/answer"
grep -q "written-on-host1" "$dir/answer" || fail "the key is lost"
await 20 forgotten reader redis2.redis.weft.internal.
refused in_ reader getent hosts redis2.redis.weft.internal.
note "(the names of a dead host are hidden)"
in_ reader redis-cli -h redis1 cluster nodes
on host3 agentctl members
