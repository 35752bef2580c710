package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/hostport"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/overlay"
)

// Join implements api.Service. It returns when a member shows that it knows
// this host; a failure takes back what was registered.
func (a service) Join(ctx context.Context, r api.JoinRequest, progress func(string)) (api.JoinResult, error) {
	done, err := a.exclusively("join")
	if err != nil {
		return api.JoinResult{}, err
	}
	defer done()
	t, peers, err := membership.CheckJoin(&r)
	if err != nil {
		return api.JoinResult{}, err
	}
	cluster := membership.TokenCluster(t, r, peers, a.config())
	if m := a.member(); m != nil {
		if m.host.ForgottenBy() == "" || !r.Replace {
			return a.joinedAlready(ctx, m, t, r.Consul)
		}
		if err := m.mayReplace(ctx, t, progress); err != nil {
			return api.JoinResult{}, m.explain("join --replace", err)
		}
		if err := a.dismiss(ctx, m, progress); err != nil {
			return api.JoinResult{}, m.explain("join --replace", err)
		}
	}
	progress("opening the store" + config.Store{Consul: cluster.ConsulFor(a.config().Store.Consul)}.String())
	if err := membership.CheckMachine(cluster, a.cfg); err != nil {
		return api.JoinResult{}, diagnose.Explain("join", err)
	}
	m, err := a.openFresh(ctx, cluster)
	if err != nil {
		return api.JoinResult{}, diagnose.Explain("join", err)
	}
	defer a.abandon(m)
	if r.Replace {
		m.runDirectory() // the members are asked whether the host is dead
	}
	if err := m.host.Enter(ctx, r.Replace, peers, progress); err != nil {
		return api.JoinResult{}, m.explain("join", err)
	}
	out := api.JoinResult{Cluster: cluster.ID}
	_ = m.machine.neighbours.look(time.Now())
	out.Members, err = m.meet(ctx, peers, progress)
	err = m.blame(err)
	if err == nil {
		err = a.commit(m)
	}
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return api.JoinResult{}, errors.Join(m.explain("join", err), m.host.Unregister(clean))
	}
	tellMember(ctx, m, event.MemberJoined, "joined the cluster")
	m.host.FreeReplaced(ctx, progress)
	if _, err := m.host.WriteToken(); err != nil {
		m.log.Warn("the token is not kept here", "err", err)
	}
	return out, nil
}

// mayReplace says why a host that was taken out cannot come back under its name. It is
// asked before its membership is given up: when it refuses, nothing has changed.
func (m *member) mayReplace(ctx context.Context, t datadir.Token, progress func(string)) error {
	progress("asking whether the name is free")
	if t.Cluster != m.host.Cluster().ID {
		return nil
	}
	return membership.MayReplace(ctx, m.host)
}

// meet joins the gossip, finds out whether the tunnel works, and returns the
// names of the members that show that they know us.
func (m *member) meet(ctx context.Context, peers []netip.AddrPort, progress func(string)) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	m.runDirectory()
	members, err := m.directory.Join(ctx, peers, progress)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(m.networks.Refresh(ctx), m.awaitHeaders(ctx)); err != nil {
		return nil, err
	}
	m.runTunnel()
	m.runLoop()
	err = m.Settle(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, err
	case errors.Is(err, overlay.ErrPortTaken):
		return nil, hostport.Held(err, "for the tunnel", m.cfg.Ports.Tunnel, "udp")
	} // what else is wrong with the kernel, the probes show
	if err := m.tunnel.Check(ctx, progress); err != nil {
		return nil, err
	}
	hosts, err := m.pool.Records.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, h := range hosts {
		if h.ID != m.host.Host().ID && slices.ContainsFunc(members, func(o discovery.Member) bool { return o.ID == h.ID }) {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// errNoHeaders: the members that gossip knows have not said yet where they
// take packets.
var errNoHeaders = errors.New("no member has sent its tunnel address yet")

// awaitHeaders waits until every alive member's tunnel address is known. It looks
// again and again: the changes of gossip are told to the loop.
func (m *member) awaitHeaders(ctx context.Context) error {
	for {
		ready := true
		for _, o := range m.directory.View().Members {
			ready = ready && (o.Status != discovery.StatusAlive || o.Header.VTEP.IsValid())
		}
		if ready {
			return nil
		}
		if !pace.Sleep(ctx, 5*time.Millisecond) {
			return fmt.Errorf("%w: %w", errNoHeaders, ctx.Err())
		}
	}
}
