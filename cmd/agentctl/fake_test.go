package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// cluster is a Service of host1 that keeps what a dialogue makes.
type cluster struct {
	mu        sync.Mutex
	state     string // of Status
	fabric    string
	pid       int
	networks  []api.Network
	endpoints []api.Endpoint
	members   []api.Member
	slow      chan struct{} // when not nil, calls wait for it
}

func newCluster() *cluster {
	c := &cluster{state: "ok", fabric: "/run/netns/weft", pid: 42}
	c.members = []api.Member{
		{Name: "host2", ID: "22222222222222222222222222222222", Address: "192.0.2.2", Status: "dead", Version: "0.1.0", RTT: 0.3125},
		{Name: "host1", ID: "11111111111111111111111111111111", Address: "192.0.2.1", Status: "alive", Version: "0.1.0", Tunnel: "ok", TunnelAge: 3.25},
	}
	c.networks = []api.Network{c.network("red", "cd34cd34cd34cd34", "10.64.16.0/20"), c.network("blue", "ab12ab12ab12ab12", "10.64.0.0/20")}
	c.networks[1].Labels = map[string]string{"team": "shop"}
	c.endpoints = []api.Endpoint{
		{ID: "e2e2e2e2e2e2e2e2", Name: "web", Network: "blue", Address: "10.64.0.6/20", MAC: "0e:00:0a:40:00:06", Host: "host2", Status: "suspended", Runtime: "docker"},
		{ID: "e1e1e1e1e1e1e1e1", Name: "db", Aliases: []string{"postgres"}, Network: "blue", Address: "10.64.0.5/20", MAC: "0e:00:0a:40:00:05",
			Host: "host1", Status: "live", Runtime: "netns", Sandbox: "/run/netns/db", Interface: "eth0", Labels: map[string]string{"team": "shop", "x": ""},
			Local: true, Detailed: true, Ports: []string{"0.0.0.0:5432->5432/tcp"}},
	}
	return c
}

func (c *cluster) network(name, id, subnet string) api.Network {
	gw := netip.MustParsePrefix(subnet).Addr().Next().String()
	return api.Network{Name: name, ID: id, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Scope: "global", Driver: "weft",
		Labels: map[string]string{}, Options: map[string]string{}, IPAM: api.IPAM{Driver: "weft", Config: []api.IPAMConfig{{Subnet: subnet, Gateway: gw}}},
		VNI: 4096 + uint32(len(c.networks)), MTU: 1450, State: "up", Containers: map[string]api.Container{}}
}

// enter begins a call: it waits while the agent is slow.
func (c *cluster) enter(ctx context.Context) (unlock func(), err error) {
	c.mu.Lock()
	slow := c.slow
	c.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.mu.Lock()
	return c.mu.Unlock, nil
}

func (c *cluster) Status(ctx context.Context) (api.Status, error) {
	unlock, err := c.enter(ctx)
	if err != nil {
		return api.Status{}, err
	}
	defer unlock()
	s := api.Status{State: c.state, Name: "host1", Cluster: "0a1b2c3d", Version: "0.1.0", Address: "192.0.2.1", Fabric: c.fabric, PID: c.pid,
		Checks: []api.Check{{Name: "gossip", State: api.CheckOK, Detail: "2 members"}}}
	switch c.state {
	case "degraded":
		s.Checks = append(s.Checks, api.Check{Name: "store", State: api.CheckWarn, Detail: "away for 12s", Hint: "systemctl start consul"})
	case "down":
		s.Checks = append(s.Checks, api.Check{Name: "kernel", State: api.CheckFail, Detail: "module vxlan: not found", Hint: "modprobe vxlan"},
			api.Check{Name: "store", State: api.CheckWarn, Detail: "away for 12s", Hint: "systemctl start consul"})
	case "not-a-member":
		s.Cluster, s.Checks = "", []api.Check{{Name: "membership", State: api.CheckFail, Detail: "this host is in no cluster",
			Hint: "agentctl init\nagentctl join ADDRESS --token-file FILE"}}
	case "docker":
		s.State = "ok"
		s.Docker = &api.Docker{Socket: "/run/docker.sock", Engine: "20.10.24", ResolvConf: []string{"192.0.2.53"}}
		s.Checks = append(s.Checks, api.Check{Name: "docker-dns", State: api.CheckOK, Detail: "what containers ask the host's resolvers is redirected"})
	case "docker-deaf":
		s.State = "ok"
		s.Docker = &api.Docker{Socket: "/run/docker.sock", Engine: "28.5.2"}
		s.Checks = append(s.Checks, api.Check{Name: "docker-dns", State: api.CheckWarn, Detail: "names of other hosts do not resolve", Hint: "agentctl docker setup"})
	case "forgotten":
		s.Checks = nil
	}
	return s, nil
}

func (c *cluster) Version(context.Context) (api.Version, error) {
	return api.Version{Version: "0.1.0", Commit: "abcdef1234567890", Go: "go1.26.7"}, nil
}

func (c *cluster) Init(_ context.Context, r api.InitRequest, progress func(string)) (api.InitResult, error) {
	progress("asking the store")
	progress("making the cluster")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != "not-a-member" && !r.Adopt {
		return api.InitResult{}, api.Errorf(api.KindConflict, "init: this host is a member of cluster 0a1b2c3d").WithHint("agentctl leave")
	}
	return api.InitResult{Cluster: "0a1b2c3d", TokenFile: "/var/lib/weft/join.token", Join: "agentctl join 192.0.2.1 --token-file join.token"}, nil
}

func (c *cluster) Join(_ context.Context, r api.JoinRequest, progress func(string)) (api.JoinResult, error) {
	progress("asking " + strings.Join(r.Addresses, ", "))
	if r.Token != "weft1.good" {
		return api.JoinResult{}, api.Errorf(api.KindPermission, "join %s: wrong key", r.Addresses[0]).WithHint("copy the token file again")
	}
	if r.Addresses[0] == "192.0.2.9" {
		return api.JoinResult{}, api.Errorf(api.KindTimeout, "join 192.0.2.9: port 4798/udp is blocked there")
	}
	if r.Addresses[0] == "192.0.2.7" {
		progress("warning: host3: 4799/udp is blocked there")
	}
	return api.JoinResult{Cluster: "0a1b2c3d", Members: []string{"host2", "host3"}}, nil
}

func (c *cluster) Leave(ctx context.Context, r api.LeaveRequest, progress func(string)) error {
	switch {
	case r.Force && r.Name != "host2":
		return api.Errorf(api.KindNotFound, "leave --force %s: no such host", r.Name).WithHint("agentctl members")
	case r.Force || r.Purge:
		return nil
	case r.Wait:
		progress("waiting for db on blue")
		progress("waiting for db on blue")
		<-ctx.Done()
		return ctx.Err()
	}
	return api.Errorf(api.KindConflict, "leave: 1 endpoint is here: db on blue").WithHint("agentctl leave --purge")
}

func (c *cluster) Proofs(context.Context, bool) ([]api.Proof, error) { return nil, nil }

func (c *cluster) Members(ctx context.Context) ([]api.Member, error) {
	unlock, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return slices.Clone(c.members), nil
}

func (c *cluster) NetworkCreate(_ context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range r.Options {
		if k != "mtu" && k != "host_access" {
			return api.NetworkCreateResult{}, api.Errorf(api.KindMisuse, "network create %s: -o %s: this release has no such option", r.Name, k)
		}
	}
	if c.find(r.Name) >= 0 {
		return api.NetworkCreateResult{}, api.Errorf(api.KindConflict, "network create %s: it exists", r.Name).WithHint("agentctl network inspect %s", r.Name)
	}
	subnet := "10.64.32.0/20"
	if len(r.Subnets) > 0 {
		subnet = r.Subnets[0]
	}
	n := c.network(r.Name, "0123456789abcdef", subnet)
	n.Internal, n.Labels, n.Options = r.Internal, r.Labels, r.Options
	if len(r.Gateways) > 0 {
		n.IPAM.Config[0].Gateway = r.Gateways[0]
	}
	if len(r.IPRanges) > 0 {
		n.IPAM.Config[0].IPRange = r.IPRanges[0]
	}
	n.IPAM.Config[0].AuxiliaryAddresses = r.AuxAddresses
	c.networks = append(c.networks, n)
	res := api.NetworkCreateResult{Network: n}
	if p := netip.MustParsePrefix(subnet).Addr(); !p.IsPrivate() {
		res.Warnings = []string{fmt.Sprintf("subnet %s is neither private nor for documentation", subnet)}
	}
	return res, nil
}

func (c *cluster) find(name string) int {
	return slices.IndexFunc(c.networks, func(n api.Network) bool { return n.Name == name || n.ID == name })
}

func (c *cluster) Networks(ctx context.Context) ([]api.Network, error) {
	unlock, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return slices.Clone(c.networks), nil
}

func (c *cluster) Network(_ context.Context, name string) (api.Network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(name)
	if i < 0 {
		return api.Network{}, api.Errorf(api.KindNotFound, "network %s: not found", name).WithHint("agentctl network ls")
	}
	n := c.networks[i]
	n.Containers = map[string]api.Container{}
	for _, e := range c.endpoints {
		if e.Network == n.Name {
			n.Containers[e.ID] = api.Container{Name: e.Name, EndpointID: e.ID, MacAddress: e.MAC, IPv4Address: e.Address, Host: e.Host}
		}
	}
	return n, nil
}

func (c *cluster) NetworkRemove(_ context.Context, name string, force bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.find(name)
	switch {
	case i < 0:
		return api.Errorf(api.KindNotFound, "network %s: not found", name)
	case name == "blue":
		return api.Errorf(api.KindConflict, "network rm blue: in use by db on host1").WithHint("agentctl endpoint ls --network blue")
	}
	c.networks = slices.Delete(c.networks, i, i+1)
	return nil
}

func (c *cluster) NetworkPrune(_ context.Context, r api.PruneRequest) (api.PruneResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Until == "never" {
		return api.PruneResult{}, api.Errorf(api.KindMisuse, "network prune: until=never is no time")
	}
	res := api.PruneResult{Deleted: []string{}}
	c.networks = slices.DeleteFunc(c.networks, func(n api.Network) bool {
		wanted := !slices.ContainsFunc(c.endpoints, func(e api.Endpoint) bool { return e.Network == n.Name })
		for _, l := range r.Labels {
			_, has := n.Labels[l]
			wanted = wanted && has
		}
		for _, l := range r.NotLabels {
			_, has := n.Labels[l]
			wanted = wanted && !has
		}
		if wanted && n.Name == "stuck" {
			res.Failures = append(res.Failures, api.Error{Kind: api.KindTimeout, Message: "network prune: network rm stuck: a host still holds addresses of it", Hint: "agentctl members"})
			return false
		}
		if wanted {
			res.Deleted = append(res.Deleted, n.Name)
		}
		return wanted
	})
	return res, nil
}

func (c *cluster) Ping(_ context.Context, r api.PingRequest) (api.Ping, error) {
	p := api.Ping{From: cmp.Or(r.From, "host1"), To: r.To, Address: "10.64.0.6", Host: "host2", Way: "tunnel to host2", Sent: 2, Received: 1, Loss: 50, Least: 310, Mean: 310, Most: 310,
		Replies: []api.PingReply{{Seq: 1, State: "answered", RTT: 310}, {Seq: 2, State: "no answer"}}}
	switch r.To {
	case "nobody":
		return api.Ping{}, api.Errorf(api.KindNotFound, "ping: there is no name nobody (NXDOMAIN)").WithHint("agentctl endpoint ls")
	case "dead":
		p.Received, p.Loss, p.Least, p.Mean, p.Most, p.Replies = 0, 100, 0, 0, 0, p.Replies[1:]
		p.Why, p.Hint = "db cannot reach dead: eth0 in dead is down", "ip link set eth0 up # on host2"
	}
	return p, nil
}

func (c *cluster) Test(_ context.Context, r api.TestRequest, progress func(string)) (api.Test, error) {
	progress("run 0a1b2c3d: checks from 2 hosts")
	t := api.Test{ID: "0a1b2c3d", Passed: 1, Took: 12300, Hosts: []string{"host1", "host2"}, Checks: []api.TestCheck{{Name: "pair/tcp/host1-host2", State: "passed", Host: "host1", Took: 3}}}
	switch {
	case slices.Contains(r.Hosts, "host9"):
		return api.Test{}, api.Errorf(api.KindNotFound, "test: no host host9").WithHint("agentctl members")
	case r.Run == "busy":
		return api.Test{}, api.Errorf(api.KindConflict, "test: a run of alice (uid 1000) on host2, since 10:00:00Z is under way on host1").WithHint("agentctl test")
	case c.state == "degraded":
		t.Failed, t.Skipped, t.Unasked = 1, 1, []api.Unasked{{Host: "host3", Why: "it is dead"}}
		t.Checks = append(t.Checks, api.TestCheck{Name: "size/full/host1-host2", State: "failed", Host: "host1", Took: 5000, Why: "no answer; a packet of 1500 bytes does not get through", Hint: "ip link show # on host2"},
			api.TestCheck{Name: "host/host4", State: "skipped", Host: "host4", Why: "test_peers: false in agentd.yaml of host4"})
	}
	if r.Perf {
		t.Perf = []api.TestPerf{{From: "host1", To: "host2", Rate: 940.4, RTT: 310, Underlay: 990}}
	}
	return t, nil
}

func (c *cluster) Mesh(context.Context, bool) (api.Mesh, error) {
	m := api.Mesh{Hosts: []string{"host1", "host2"}, Ways: []api.MeshWay{
		{From: "host1", State: "ok", Proof: api.Proof{Peer: "host2", Out: "ok", In: "ok", Size: "ok", Bulk: "ok", MTU: 1500, Median: 420}},
		{From: "host2", State: "ok", Proof: api.Proof{Peer: "host1", Out: "ok", In: "ok", Size: "ok", Bulk: "ok", MTU: 1500, Median: 430}}}}
	if c.state == "degraded" {
		m.Ways[1].State, m.Ways[1].Proof.Out = "failing", "failing"
		m.Ways[1].Proof.Why, m.Ways[1].Proof.Hint = "host1 drops what host2 sends to it on udp port 4799", "nft list ruleset # on host1"
		m.Unasked = []api.Unasked{{Host: "host3", Why: "it is dead"}}
	}
	return m, nil
}

func (c *cluster) Why(_ context.Context, r api.WhyRequest) (api.Why, error) {
	steps := []api.WhyStep{{Step: "network", Host: "host1", State: "ok", Evidence: "both are on blue"}}
	switch {
	case r.From != "db":
		return api.Why{}, api.Errorf(api.KindNotFound, "why: no endpoint %s", r.From).WithHint("agentctl endpoint ls")
	case r.Port == 81:
		return api.Why{Sentence: "db cannot reach web port 81/tcp: nothing listens on 81/tcp in web; open there: 80", Hint: "ss -lnp # on host2",
			Steps: append(steps, api.WhyStep{Step: "sandbox of web", Host: "host2", State: "broken", Evidence: "nothing listens on 81/tcp in web; open there: 80"})}, nil
	}
	return api.Why{Works: true, Sentence: fmt.Sprintf("db reaches %s: answered in 0.4 ms by %d/%s", r.To, r.Port, r.Proto), Steps: steps}, nil
}

func (c *cluster) Doctor(ctx context.Context) ([]api.Finding, error) {
	st, err := c.Status(ctx)
	return append(api.Findings(st), api.Finding{ID: "space", State: api.CheckOK, Subject: "/var/lib/weft", Evidence: "/var/lib/weft takes 3 GiB and 4711 files more"}), err
}

func (c *cluster) Bundle(_ context.Context, all bool) ([]byte, error) {
	if all {
		return []byte("archive of all"), nil
	}
	return []byte("archive"), nil
}

func (c *cluster) Metrics(context.Context) ([]byte, error) { return nil, nil }

func (c *cluster) Verify(_ context.Context, r api.VerifyRequest) (api.Verification, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := api.Verification{Checked: 41, Drift: []api.Drift{}}
	if c.state == "ok" {
		return v, nil
	}
	v.Drift = append(v.Drift,
		api.Drift{Object: "bridge -n weft fdb del 0e:00:0a:40:00:09 dev v00002a dst 192.0.2.2 self", Kind: "extra", Network: "blue", Host: "host1", Repaired: r.Repair},
		api.Drift{Object: "sysctl -w net.ipv4.ip_forward=1", Kind: "different", Host: "host1", Repaired: r.Repair})
	if r.All {
		v.Drift = append(v.Drift, api.Drift{Object: "ip -n weft link set v00002a up", Kind: "different", Network: "blue", Host: "host3"})
		v.Unasked = []api.Unasked{{Host: "host2", Why: "it is dead"}}
	}
	return v, nil
}

func (c *cluster) Connect(_ context.Context, r api.ConnectRequest) (api.Attachment, error) {
	if r.Container != "db" {
		return api.Attachment{}, api.Errorf(api.KindNotFound, "network connect %s %s: no container %[2]s on the networks of this host", r.Network, r.Container).
			WithHint("agentctl ps")
	}
	return api.Attachment{ID: "e4e4e4e4e4e4e4e4", Name: r.Container, Network: r.Network, Address: cmp.Or(r.IP, "10.64.16.5") + "/20", DNS: []string{"10.64.16.1"},
		Search: append([]string{"red.weft.internal"}, r.Aliases...), MAC: cmp.Or(r.MAC, "0e:01:0a:40:10:05"), MTU: 1450, Interface: "eth1",
		Notices: []string{"another member has not seen it yet"}}, nil
}

func (c *cluster) Disconnect(_ context.Context, r api.DisconnectRequest) error {
	if r.Network != "blue" && !r.Force {
		return api.Errorf(api.KindNotFound, "network disconnect %s %s: %[2]s is not on that network", r.Network, r.Container)
	}
	return nil
}

func (c *cluster) Attach(_ context.Context, r api.AttachRequest) (api.Attachment, error) {
	switch {
	case r.IP == "10.64.0.6":
		return api.Attachment{}, api.Errorf(api.KindConflict, "attach %s: 10.64.0.6 is held by web on host2", r.Name)
	case r.Netns == "gone":
		return api.Attachment{}, api.Errorf(api.KindNotFound, "attach %s: namespace gone: no such file or directory", r.Name).WithHint("ip netns add gone")
	}
	return api.Attachment{ID: "e3e3e3e3e3e3e3e3", Name: r.Name, Network: r.Network, Address: "10.64.0.7/20", Gateway: "10.64.0.1", DNS: []string{"10.64.0.1"},
		Search: []string{"blue.weft.internal", "weft.internal"}, MAC: "0e:00:0a:40:00:07", MTU: 1450, Interface: "eth0", Ports: r.Ports,
		Notices: []string{"another member has not seen it yet"}}, nil
}

func (c *cluster) Detach(context.Context, string, string) error { return nil }

func (c *cluster) DetachContainer(context.Context, api.ContainerRef) error { return nil }

func (c *cluster) Endpoints(ctx context.Context, f api.EndpointFilter) ([]api.Endpoint, error) {
	unlock, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return slices.DeleteFunc(slices.Clone(c.endpoints), func(e api.Endpoint) bool {
		return f.Network != "" && e.Network != f.Network || f.Host != "" && e.Host != f.Host || !f.All && e.Status == "suspended"
	}), nil
}

func (c *cluster) Endpoint(_ context.Context, name string) (api.Endpoint, error) {
	for _, e := range c.endpoints {
		if e.Name == name || e.ID == name {
			return e, nil
		}
	}
	return api.Endpoint{}, api.Errorf(api.KindNotFound, "endpoint %s: not found", name).WithHint("agentctl endpoint ls")
}

func (c *cluster) EndpointHistory(_ context.Context, word, at string) (api.EndpointHistory, error) {
	if word == "nobody" {
		return api.EndpointHistory{}, api.Errorf(api.KindNotFound, "no endpoint was ever nobody, as far as is written down").WithHint("agentctl endpoint ls --all")
	}
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := api.EndpointHistory{Spans: []api.EndpointSpan{
		{Name: "db", ID: "e0e0e0e0e0e0e0e0", Network: "blue", Address: "10.64.0.5", Host: "host2", From: from, To: from.Add(time.Hour), By: "docker", EndedBy: "docker", Why: "db detached from blue"},
		{Name: "db", ID: "e1e1e1e1e1e1e1e1", Network: "blue", Address: "10.64.0.5", Host: "host1", From: from.Add(2 * time.Hour), By: "root (uid 0)"},
	}, Unasked: []api.Unasked{{Host: "host2", Why: "it is dead"}}}
	if at != "" {
		h.Spans = h.Spans[1:]
	}
	return h, nil
}

func (c *cluster) Events(ctx context.Context, q api.EventQuery, each func(api.EventItem) error) error {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, i := range []api.EventItem{
		{},
		{Unasked: &api.Unasked{Host: "host2", Why: "it is dead"}},
		{Event: &api.Event{At: at, Host: "host1", Kind: "endpoint-attached", Subject: "db", Network: "blue", Endpoint: "e1e1e1e1e1e1e1e1", Addr: "10.64.0.5", By: "root (uid 0)", Text: "db attached to blue"}},
		{Event: &api.Event{At: at.Add(time.Minute), Host: "host1", Kind: "drift-repaired", Subject: "host1", By: "host1", Text: "objects of the kernel put back: 1", Detail: map[string]any{"commands": []any{"ip -n weft link set v00002a up"}}}},
	} {
		if i.Event != nil && len(q.Kinds) > 0 && !slices.Contains(q.Kinds, i.Event.Kind) || i.Unasked != nil && !q.All {
			continue
		}
		if err := each(i); err != nil {
			return err
		}
	}
	if q.Follow {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (c *cluster) Query(_ context.Context, q api.DNSQuery) (api.DNSAnswer, error) {
	switch {
	case q.Name == "10.64.0.6" && q.Type == "PTR":
		return api.DNSAnswer{Rcode: "NOERROR", Answer: []string{"6.0.64.10.in-addr.arpa.\t5\tIN\tPTR\tweb.blue.weft.internal."}, Values: []string{"web.blue.weft.internal."}}, nil
	case q.Name == "web" && q.Type == "A":
		return api.DNSAnswer{Rcode: "NOERROR", Answer: []string{"web.blue.weft.internal.\t5\tIN\tA\t10.64.0.6"}, Values: []string{"10.64.0.6"}, Took: 0.02}, nil
	case q.Name == "web":
		return api.DNSAnswer{Rcode: "NOERROR", Authority: []string{"weft.internal.\t5\tIN\tSOA\tns.weft.internal. root.weft.internal. 1 1 1 1 5"}}, nil
	case q.Name == "broken":
		return api.DNSAnswer{Rcode: "SERVFAIL"}, nil
	}
	return api.DNSAnswer{Rcode: "NXDOMAIN"}, nil
}
