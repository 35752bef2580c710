// Package environment says whether what surrounds the agent on its host lets it work:
// limits, devices, ports, clocks, resolvers. It is pure: what a survey found is handed
// in. It is apart from agent/diagnose so that the command can use it while no agent runs.
package environment

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// Bounds of the checks.
const (
	nearlyFull = 0.8
	full       = 0.95
	smallMTU   = 1330            // less leaves IPv6 no 1280 bytes in the tunnel
	clockSkew  = 2 * time.Second // more confuses who reads the events of several hosts
	slowName   = 500 * time.Millisecond
	slowStore  = 500 * time.Millisecond
)

// Checks judges all that was looked at.
func Checks(f Facts) (all []api.Finding) {
	add := func(c api.Finding) { all = append(all, c) }
	if f.Conntrack != nil {
		add(conntrack(*f.Conntrack))
	}
	if f.Uplink != nil {
		add(uplink(*f.Uplink))
		add(forwarding(*f.Uplink, f.Carried))
		if len(f.Ways) > 0 {
			add(ways(*f.Uplink, f.Ways))
		}
	}
	for _, s := range f.Space {
		add(space(s))
	}
	for _, p := range f.Ports {
		add(port(p))
	}
	if f.Firewall != nil {
		add(firewall(*f.Firewall))
	}
	for _, p := range f.Programs {
		add(program(p))
	}
	if len(f.Clocks) > 0 {
		add(clocks(f.Clocks))
	}
	if len(f.Resolvers) > 0 {
		add(resolvers(f.Resolvers))
	}
	if f.Store != nil {
		add(store(*f.Store))
	}
	if len(f.Releases) > 1 {
		add(releases(f.Releases))
	}
	return all
}

// ok begins a finding that is well so far.
func ok(id, subject, format string, args ...any) api.Finding {
	return api.Finding{ID: id, State: api.CheckOK, Subject: subject, Evidence: fmt.Sprintf(format, args...)}
}

// worse is a finding in a worse state, with what to type.
func worse(c api.Finding, state, hint string, args ...any) api.Finding {
	c.State, c.Hint = state, fmt.Sprintf(hint, args...)
	return c
}

func conntrack(t Conntrack) api.Finding {
	switch {
	case t.None:
		return ok("conntrack", "nf_conntrack", "the kernel tracks no connections here")
	case t.Err != nil:
		return worse(ok("conntrack", "nf_conntrack", "the table of tracked connections cannot be read: %v", t.Err), api.CheckWarn, "sysctl net.netfilter.nf_conntrack_count")
	}
	c := ok("conntrack", "nf_conntrack", "%d connections are tracked, at most %d", t.Count, t.Most)
	hint := fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d # in the machine's first network namespace; conntrack -S counts what was dropped", 4*t.Most)
	switch share := float64(t.Count) / float64(max(t.Most, 1)); {
	case share >= full:
		c.Evidence += ": new ones are dropped"
		return worse(c, api.CheckFail, "%s", hint)
	case share >= nearlyFull:
		return worse(c, api.CheckWarn, "%s", hint)
	}
	return c
}

func uplink(u Uplink) api.Finding {
	if u.Dev == "" {
		return worse(ok("uplink", u.Addr.String(), "no device of this host has its address %v", u.Addr), api.CheckFail, "ip addr")
	}
	c := ok("uplink", u.Dev, "%s has %v and carries packets of %d bytes", u.Dev, u.Addr, u.MTU)
	if u.Driver != "" {
		c.Evidence += "; driver " + u.Driver
	}
	if len(u.Offloads) > 0 {
		c.Evidence += ", it works for tunnels by itself: " + strings.Join(u.Offloads, ", ")
	} else if u.Driver != "" {
		c.Evidence += ", the processor does its work for tunnels"
	}
	if u.MTU < smallMTU {
		return worse(c, api.CheckWarn, "ip link set %s mtu 1500 # less than %d leaves no 1280 bytes for IPv6 in a tunnel", u.Dev, smallMTU)
	}
	return c
}

func forwarding(u Uplink, carried int) api.Finding {
	if u.Dev == "" || u.Forwarding == "" {
		return ok("forwarding", "ip_forward", "no device to look at")
	}
	name := "net.ipv4.conf." + u.Dev + ".forwarding"
	c := ok("forwarding", name, "%s=%s, %d networks are carried here", name, u.Forwarding, carried)
	if carried > 0 && u.Forwarding != "1" {
		c.Evidence += ": what endpoints send elsewhere does not come back"
		return worse(c, api.CheckFail, "sysctl -w %s=1 # agentctl events --kind drift-repaired says whether another program undoes it", name)
	}
	return c
}

// ways says whether answers leave by the device that questions come in at: a strict
// reverse path filter drops the questions otherwise.
func ways(u Uplink, all []Way) api.Finding {
	c := ok("ways", u.Dev, "packets to %d members leave by %s; rp_filter=%s", len(all), u.Dev, u.RPFilter)
	var other []string
	for _, w := range all {
		switch {
		case w.Err != nil:
			other = append(other, fmt.Sprintf("to %s: %v", w.Host, w.Err))
		case w.Dev != u.Dev:
			other = append(other, fmt.Sprintf("to %s by %s", w.Host, w.Dev))
		}
	}
	if len(other) == 0 {
		return c
	}
	c.Evidence = fmt.Sprintf("packets leave by another device than %s, which has this host's address: %s; rp_filter=%s", u.Dev, few(other), u.RPFilter)
	if u.RPFilter == "1" {
		c.Evidence += ": what those members send to " + u.Dev + " is dropped"
		return worse(c, api.CheckFail, "sysctl -w net.ipv4.conf.%s.rp_filter=2 # and of all, if that is 1; or ip route get the member's address, and mend the route", u.Dev)
	}
	return worse(c, api.CheckWarn, "ip route # one to the members, by another device")
}

func space(s Space) api.Finding {
	if s.Err != nil {
		return worse(ok("space", s.Dir, "the file system of %s cannot be asked: %v", s.Dir, s.Err), api.CheckWarn, "df -h %s", s.Dir)
	}
	c := ok("space", s.Dir, "%s for %s takes %s and %d files more", s.Dir, s.What, size(s.Free), s.Files)
	state := api.CheckOK
	switch {
	case s.Free < s.Dangered || s.Files < 16:
		state = api.CheckFail
	case s.Free < s.NeedFree || s.Files < 256:
		state = api.CheckWarn
	default:
		return c
	}
	return worse(c, state, "df -h %[1]s; df -i %[1]s # and make room", s.Dir)
}

func port(p Port) api.Finding {
	subject := fmt.Sprintf("%d/%s", p.Number, p.Proto)
	c := ok("port", subject, "%s, %s, is the agent's", subject, p.What)
	switch {
	case p.Own:
	case len(p.Holders) > 0:
		c.Evidence = fmt.Sprintf("%s, %s, is held by %s", subject, p.What, strings.Join(p.Holders, ", "))
		return worse(c, api.CheckFail, "ss -lntup sport = :%d # and stop that program, or give agentd another port", p.Number)
	case p.Wanted:
		c.Evidence = fmt.Sprintf("nobody listens on %s, %s", subject, p.What)
		return worse(c, api.CheckFail, "journalctl -u agentd # why the agent does not have it")
	default:
		c.Evidence = fmt.Sprintf("%s, %s, is free", subject, p.What)
	}
	return c
}

func firewall(f Firewall) api.Finding {
	c := ok("firewall", "nftables", "rules of others: in no table")
	if f.Err != nil {
		c.Evidence = fmt.Sprintf("nftables cannot be read: %v", f.Err)
		return worse(c, api.CheckWarn, "nft list tables # as root")
	}
	if len(f.NFT) > 0 {
		c.Evidence = "rules of others, in nftables: " + few(f.NFT)
	}
	if len(f.Legacy) > 0 {
		c.Subject = "iptables-legacy"
		c.Evidence += "; in the old iptables: " + few(f.Legacy)
		if len(f.NFT) > 0 {
			c.Evidence += ": both filter, and each program shows its own rules only"
			return worse(c, api.CheckWarn, "iptables-legacy-save; nft list ruleset # and keep one of the two: update-alternatives --config iptables")
		}
	}
	return c
}

func program(p Program) api.Finding {
	if p.Err != nil {
		return worse(ok("program", p.Name, "%s, for %s: %v", p.Name, p.For, p.Err), api.CheckWarn, "apt-get install %s # or the package of that name", p.Name)
	}
	return ok("program", p.Name, "%s, for %s: %s", p.Name, p.For, p.Version)
}

func clocks(all []Clock) api.Finding {
	c := ok("clock", "members", "")
	var skewed, unasked []string
	var most time.Duration
	asked := 0
	for _, k := range all {
		if k.Err != nil {
			unasked = append(unasked, fmt.Sprintf("%s was not asked: %v", k.Host, k.Err))
			continue
		}
		asked++
		off := max(k.Ahead.Abs()-k.Within, 0) // at least that much
		most = max(most, off)
		if off > clockSkew {
			word := "ahead of"
			if k.Ahead < 0 {
				word = "behind"
			}
			skewed = append(skewed, fmt.Sprintf("the clock of %s is %v %s this host's", k.Host, k.Ahead.Abs().Round(time.Millisecond), word))
		}
	}
	c.Evidence = fmt.Sprintf("the clocks of %d members agree with this one to %v", asked, most.Round(time.Millisecond))
	if len(unasked) > 0 {
		c.Evidence += "; " + few(unasked)
	}
	if len(skewed) > 0 {
		c.Evidence = few(skewed) + ": events of several hosts are not in their order"
		return worse(c, api.CheckWarn, "timedatectl # on each of them: one of the two does not follow a time server")
	}
	return c
}

func resolvers(all []Resolver) api.Finding {
	c := ok("resolvers", all[0].Addr.Addr().String(), "")
	var answer, not []string
	slow := false
	for _, r := range all {
		if r.Err != nil {
			not = append(not, fmt.Sprintf("%v does not: %v", r.Addr, r.Err))
			if len(not) == 1 {
				c.Subject = r.Addr.Addr().String()
			}
			continue
		}
		answer = append(answer, fmt.Sprintf("%v in %v", r.Addr, r.Took.Round(10*time.Microsecond)))
		slow = slow || r.Took > slowName
	}
	c.Evidence = fmt.Sprintf("%d of %d resolvers for other names answer", len(answer), len(all))
	if said := slices.Concat(answer, not); len(said) > 0 {
		c.Evidence += ": " + few(said)
	}
	hint := "dig @" + c.Subject + " . NS # and name others: dns.upstreams in agentd.yaml, or /etc/resolv.conf"
	switch {
	case len(answer) == 0:
		return worse(c, api.CheckFail, "%s", hint)
	case len(not) > 0 || slow:
		return worse(c, api.CheckWarn, "%s", hint)
	}
	return c
}

func store(s Store) api.Finding {
	c := ok("store-latency", s.Where, "the store%s answered in %v; of %d requests since the start %d failed", lead(s.Where), s.Took.Round(10*time.Microsecond), s.Requests, s.Failed)
	switch {
	case s.Err != nil:
		c.Evidence = fmt.Sprintf("the store%s did not answer: %v; of %d requests since the start %d failed", lead(s.Where), s.Err, s.Requests, s.Failed)
		return worse(c, api.CheckFail, "agentctl status --wait # what is attached goes on; new networks and blocks wait")
	case s.Took > slowStore:
		return worse(c, api.CheckWarn, "consul operator raft list-peers # whether its servers are near, and have a leader")
	}
	return c
}

// lead puts a blank before what is not empty.
func lead(s string) string {
	if s == "" {
		return ""
	}
	return " " + s
}

func releases(all []Release) api.Finding {
	by := map[string][]string{}
	for _, r := range all {
		by[r.Version] = append(by[r.Version], r.Host)
	}
	if len(by) == 1 {
		return ok("releases", "members", "all %d members run agentd %s", len(all), all[0].Version)
	}
	var said []string
	for version, hosts := range by {
		slices.Sort(hosts)
		said = append(said, version+" on "+few(hosts))
	}
	slices.Sort(said)
	return worse(ok("releases", "members", "members run different releases: %s", strings.Join(said, "; ")), api.CheckWarn, "agentctl members # upgrade the older ones, one after the other")
}

// Down is the finding about an agent that does not answer.
func Down(socket string, why error, hint string) api.Finding {
	return api.Finding{ID: "agent", State: api.CheckFail, Subject: socket, Evidence: fmt.Sprintf("%v: what is below was seen without it, and what is in the kernel goes on", why),
		Hint: strings.TrimSpace(hint + "\njournalctl -u agentd # why it ended")}
}

// few names the first of many.
func few(all []string) string {
	const most = 6
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// size is a number of bytes for people.
func size(n uint64) string {
	for i, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024<<(10*i) {
			return fmt.Sprintf("%d %s", n>>(10*i), unit)
		}
	}
	return fmt.Sprintf("%d TiB", n>>40)
}
