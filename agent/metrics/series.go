package metrics

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

func series(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weft_"+name, help, labels, nil)
}

// The series of a host. Labels are bounded by hosts and networks: no label is of an
// endpoint or a container.
var (
	build  = series("build_info", "The release that runs, always 1.", "version", "commit", "go")
	status = series("status", "1 for the state that agentctl status says, 0 for the others.", "state")
	check  = series("check", "A line of agentctl status: 0 ok, 1 warn, 2 fail.", "check")

	members   = series("members", "Members by what gossip believes of them.", "state")
	peerRTT   = series("peer_rtt_seconds", "Round trip of gossip to a member that is alive.", "peer")
	complete  = series("table_complete", "1 once every member was read since the agent started.")
	endpoints = series("endpoints", "Endpoints on this host.", "network", "runtime")
	remotes   = series("network_endpoints", "Endpoints of all hosts that are on a network.", "network")
	size      = series("network_addresses", "Addresses that a network has for endpoints of all hosts.", "network")
	addresses = series("addresses", "Addresses of this host's blocks.", "network", "state")
	blocks    = series("blocks", "Blocks of addresses that hosts hold.", "network", "holder")
	active    = series("networks_active", "Networks that have devices on this host.")

	gossipMessages = series("gossip_messages_total", "Messages of gossip.", "direction")
	gossipBytes    = series("gossip_bytes_total", "Bytes of those messages, before they are sealed.", "direction")
	gossipErrors   = series("gossip_errors_total", "Messages of gossip that were lost here.", "reason")
	gossipRepairs  = series("gossip_repairs_total", "What keeps the table equal beside deltas.", "kind")
	gossipRejoins  = series("gossip_rejoins_total", "Contacts with a member that was missing.")

	poolRequests = series("pool_requests_total", "Requests to the store.")
	poolErrors   = series("pool_errors_total", "Requests that the store did not answer as it should.")
	poolTook     = series("pool_request_seconds", "Time until the store answers, without what waits for a change.")
	poolAnswered = series("pool_last_answer_timestamp_seconds", "When the store last answered.")

	passes       = series("reconcile_seconds", "Comparisons of the kernel with what is wanted.")
	passesFailed = series("reconcile_failed_total", "Comparisons that left something undone.")
	objects      = series("kernel_objects_total", "Objects of the kernel that were changed.", "kind", "change")
	repairs      = series("repairs_total", "Objects of the kernel that something else had changed.", "kind")
	dropped      = series("dropped_packets_total", "Packets that weft's rules dropped.", "reason")
	droppedBytes = series("dropped_bytes_total", "Bytes that weft's rules dropped.", "reason")

	attached       = series("attach_seconds", "Requests that attached an endpoint.", "runtime")
	attachesFailed = series("attach_failed_total", "Requests that did not attach an endpoint.", "runtime")
	detached       = series("detach_seconds", "Requests that detached an endpoint.", "runtime")
	detachesFailed = series("detach_failed_total", "Requests that did not detach an endpoint as they should.", "runtime")

	queries      = series("dns_queries_total", "Questions for names that came.")
	replies      = series("dns_replies_total", "Answers by the network of who asked; the host itself has none.", "network", "type", "rcode")
	troubles     = series("dns_trouble_total", "Questions that were not answered as asked.", "reason")
	forwarded    = series("dns_forwarded_total", "Questions that were asked upstream.")
	conns        = series("dns_tcp_connections_total", "Connections of DNS over TCP.", "result")
	upstreamTook = series("dns_upstream_seconds", "Questions that an upstream resolver answered.", "upstream")
	upstreamLost = series("dns_upstream_errors_total", "Questions that an upstream resolver left without an answer.", "upstream")
	upstreamUp   = series("dns_upstream_up", "1 while an upstream resolver is of use.", "upstream")
)

// states are all that a status can be in.
var states = []string{"ok", "starting", "degraded", "down", "not-a-member", "forgotten"}

func (s sink) status(st api.Status) {
	for _, state := range states {
		s.gauge(status, truth(st.State == state), state)
	}
	worst := map[string]float64{} // two lines of one name are as bad as the worse one
	for _, c := range st.Checks {
		worst[c.Name] = max(worst[c.Name], map[string]float64{api.CheckWarn: 1, api.CheckFail: 2}[c.State])
	}
	for name, value := range worst {
		s.gauge(check, value, name)
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (s sink) members(v discovery.View) {
	count := map[discovery.MemberStatus]int{discovery.StatusAlive: 0, discovery.StatusSuspect: 0, discovery.StatusDead: 0,
		discovery.StatusAgentDown: 0, discovery.StatusLeft: 0}
	told := map[string]bool{}
	for _, m := range v.Members {
		count[m.Status]++
		if m.ID != v.Self && m.Status == discovery.StatusAlive && !told[m.Name] {
			told[m.Name] = true
			s.gauge(peerRTT, m.RTT.Seconds(), m.Name)
		}
	}
	for state, n := range count {
		s.gauge(members, float64(n), state.String())
	}
	s.gauge(complete, truth(v.Complete))
}

// perNetwork is what is counted of one network.
type perNetwork struct {
	used, remotes        int
	here, others, inHere int // blocks, and addresses in those here
	runtimes             map[string]int
}

func (s sink) networks(m *Member) {
	all := map[discovery.NetworkID]*perNetwork{}
	for _, n := range m.Networks {
		all[n.ID] = &perNetwork{runtimes: map[string]int{}}
	}
	for i := range m.View.Endpoints {
		r := &m.View.Endpoints[i]
		n := all[r.Network]
		if n == nil {
			continue // of a network that is deleted, or not known yet
		}
		n.remotes++
		if r.Host == m.View.Self {
			n.runtimes[cmp.Or(r.Runtime, discovery.RuntimeNetns)]++
		}
	}
	for _, l := range m.Leases {
		if n := all[l.Network]; n != nil {
			n.used++
		}
	}
	countBlocks(all, m)
	for _, n := range m.Networks {
		s.network(n, all[n.ID])
	}
	s.gauge(active, float64(m.Active))
}

func countBlocks(all map[discovery.NetworkID]*perNetwork, m *Member) {
	for _, h := range m.Blocks {
		if n := all[h.ID]; n != nil {
			n.here += len(h.Blocks)
			for _, b := range h.Blocks {
				n.inHere += 1 << (b.Addr().BitLen() - b.Bits())
			}
		}
	}
	for _, o := range m.View.Members {
		for _, h := range o.Header.Networks {
			if n := all[h.ID]; n != nil && o.ID != m.View.Self {
				n.others += len(h.Blocks)
			}
		}
	}
}

func (s sink) network(n discovery.Network, c *perNetwork) {
	for runtime, count := range c.runtimes {
		s.gauge(endpoints, float64(count), n.Name, runtime)
	}
	s.gauge(remotes, float64(c.remotes), n.Name)
	total := 0.0
	for _, sub := range n.Subnets {
		if sub.CIDR.Addr().Is4() {
			total += float64(sub.Room())
		}
	}
	s.gauge(size, total, n.Name)
	s.gauge(addresses, float64(c.used), n.Name, "used")
	s.gauge(addresses, float64(max(c.inHere-c.used, 0)), n.Name, "free")
	s.gauge(blocks, float64(c.here), n.Name, "here")
	s.gauge(blocks, float64(c.others), n.Name, "others")
}

func (s sink) gossip(g gossip.Stats) {
	s.counter(gossipMessages, g.Received, "received")
	s.counter(gossipMessages, g.Sent, "sent")
	s.counter(gossipBytes, g.ReceivedBytes, "received")
	s.counter(gossipBytes, g.SentBytes, "sent")
	for reason, n := range map[string]uint64{"send": g.SendErrors, "queue_full": g.Overflow, "no_member": g.NoMember, "junk": g.Junk,
		"malformed": g.Malformed, "refused": g.Refused, "save": g.SaveErrors} {
		s.counter(gossipErrors, n, reason)
	}
	for kind, n := range map[string]uint64{"gap": g.Gaps, "pull": g.Pulls, "digest": g.Digests, "refute": g.Refutes} {
		s.counter(gossipRepairs, n, kind)
	}
	s.counter(gossipRejoins, g.Rejoins)
}

func (s sink) store(p pool.Stats) {
	s.counter(poolRequests, p.Requests)
	s.counter(poolErrors, p.Errors)
	s.took(poolTook, p.Timed, p.Took)
	if !p.Answered.IsZero() {
		s.gauge(poolAnswered, float64(p.Answered.UnixMilli())/1000)
	}
}

func (s sink) kernel(o overlay.Stats, drops []overlay.Drop) {
	s.took(passes, o.Passes, o.Took)
	s.counter(passesFailed, o.Failed)
	for _, c := range o.Changes {
		s.counter(objects, c.Put, c.Kind, "put")
		s.counter(objects, c.Deleted, c.Kind, "delete")
	}
	for _, c := range o.Changes {
		s.counter(repairs, c.Repaired, c.Kind)
	}
	for _, d := range drops {
		s.counter(dropped, d.Packets, d.Reason)
		s.counter(droppedBytes, d.Bytes, d.Reason)
	}
}

func (s sink) requests(e endpoint.Stats) {
	for _, d := range e.Attached {
		s.durations(attached, d)
		s.counter(attachesFailed, d.Failed, d.Runtime)
	}
	for _, d := range e.Detached {
		s.durations(detached, d)
		s.counter(detachesFailed, d.Failed, d.Runtime)
	}
}

// durations are a histogram; Prometheus wants each range with those before it.
func (s sink) durations(d *prometheus.Desc, of endpoint.Durations) {
	within, sum := map[float64]uint64{}, uint64(0)
	for i, bound := range endpoint.Bounds {
		sum += of.Ranges[i]
		within[bound] = sum
	}
	s <- prometheus.MustNewConstHistogram(d, of.Count, of.Sum.Seconds(), within, of.Runtime)
}

func (s sink) names(n dns.Stats, upstreams []dns.Upstream) {
	s.counter(queries, n.Queries)
	s.counter(forwarded, n.Forwarded)
	for _, r := range n.Replies {
		s.counter(replies, r.Count, r.Network, r.Type, r.Rcode)
	}
	for reason, count := range map[string]uint64{"dropped": n.Dropped, "malformed": n.Malformed, "refused": n.Refused, "overload": n.Overload,
		"upstream": n.Failed, "truncated": n.Truncated} {
		s.counter(troubles, count, reason)
	}
	s.counter(conns, n.Conns, "taken")
	s.counter(conns, n.ConnsOver, "refused")
	for _, u := range upstreams {
		s.took(upstreamTook, u.Answers, u.Took, u.Addr.String())
		s.counter(upstreamLost, u.Errors, u.Addr.String())
		s.gauge(upstreamUp, truth(u.Err == nil), u.Addr.String())
	}
}
