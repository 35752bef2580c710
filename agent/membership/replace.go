package membership

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// Enter registers this host in the pool: its name is its own from then on. With
// replace it takes the name of a dead host; peers are then asked about that.
func (m *Membership) Enter(ctx context.Context, replace bool, peers []netip.AddrPort, progress func(string)) error {
	meta, err := m.records.Meta(ctx)
	if err != nil {
		return err
	}
	if own := m.Cluster().ID; meta.ClusterID != own {
		return api.Errorf(api.KindConflict, "the token is of cluster %s, the store holds cluster %s", own, meta.ClusterID)
	}
	if err := m.takeMeta(meta); err != nil {
		return err
	}
	if replace {
		if err := m.replace(ctx, peers, progress); err != nil {
			return err
		}
	}
	progress("registering " + m.cfg.Host.Name)
	return m.records.Register(ctx, m.Record())
}

// replace fences the dead host whose name this one takes.
func (m *Membership) replace(ctx context.Context, peers []netip.AddrPort, progress func(string)) error {
	hosts, err := m.records.Hosts(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(hosts, func(h pool.Host) bool { return h.Name == m.cfg.Host.Name })
	if i < 0 {
		return nil
	}
	old := hosts[i]
	if err := m.checkDead(ctx, old, peers, progress); err != nil {
		return err
	}
	progress("fencing the host that had the name " + old.Name)
	if err := m.owe(func(all []discovery.HostID) []discovery.HostID { return append(all, old.ID) }); err != nil {
		return err
	}
	return m.records.FenceLost(ctx, old.ID, old.Name, m.cfg.Host.Name)
}

// checkDead refuses to replace a host that may still run: what it has would be
// given away under it. The members are asked first, since a firewall may hide
// from here what they see; then the host's own kernel.
func (m *Membership) checkDead(ctx context.Context, old pool.Host, peers []netip.AddrPort, progress func(string)) error {
	if old.VTEP == m.cfg.Advertise {
		return nil // at our own address only the host that we replace can have been
	}
	if _, err := m.directory.Join(ctx, peers, progress); err != nil {
		return err
	}
	return stillThere(m.directory.View(), old)
}

// stillThere refuses to replace a host that the members do not call dead, or whose
// kernel answers.
func stillThere(v discovery.View, old pool.Host) error {
	taken := api.Errorf(api.KindConflict, "host %s is not dead, it is at %s: its name cannot be taken", old.Name, old.Gossip.Addr())
	if st := v.Member(old.ID).Status; st != discovery.StatusDead && st != discovery.StatusLeft {
		return taken.WithHint("agentctl members # on a member: wait until it is dead\nagentd --name NAME # another one")
	}
	if gossipAnswers(old.Gossip) {
		return taken.WithHint("agentd --name NAME # another one, or stop that one")
	}
	return nil
}

// MayReplace refuses when another host that may run has the name of m's, without
// changing anything. The host of m was taken out and is still in the gossip.
func MayReplace(ctx context.Context, m *Membership) error {
	meta, err := m.records.Meta(ctx)
	if err != nil {
		return err
	}
	if own := m.Cluster().ID; meta.ClusterID != own {
		return api.Errorf(api.KindConflict, "the token is of cluster %s, the store holds cluster %s", own, meta.ClusterID)
	}
	hosts, err := m.records.Hosts(ctx)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if h.Name == m.cfg.Host.Name && h.ID != m.cfg.Host.ID && h.VTEP != m.cfg.Advertise {
			return stillThere(m.directory.View(), h)
		}
	}
	return nil
}

// gossipAnswers reports whether a kernel answers on a gossip address: with an
// agent, or without one by refusing. Its containers may run in either case.
func gossipAnswers(a netip.AddrPort) bool {
	c, err := net.DialTimeout("tcp", a.String(), 2*time.Second)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = c.Close()
	return true
}

// owe keeps the list of hosts whose blocks are to be freed, on the disk first.
func (m *Membership) owe(change func([]discovery.HostID) []discovery.HostID) error {
	m.owing.Lock()
	defer m.owing.Unlock()
	next := change(slices.Clone(m.unfreed))
	err := m.cfg.Dir.SetUnfreed(next)
	if err == nil {
		m.unfreed = next
	}
	return err
}

func (m *Membership) owed() []discovery.HostID {
	m.owing.Lock()
	defer m.owing.Unlock()
	return slices.Clone(m.unfreed)
}

// FreeReplaced gives back what hosts held whose name this one took, once every
// member knows that they are gone.
func (m *Membership) FreeReplaced(ctx context.Context, progress func(string)) {
	ids := m.owed()
	if len(ids) == 0 {
		return
	}
	progress("freeing what the replaced host held")
	m.directory.Forget(ids)
	m.awaitFence(ctx, ids)
	m.FreeOwed(ctx)
}

// FreeOwed frees what replaced hosts held; what fails is tried again at the next
// call.
func (m *Membership) FreeOwed(ctx context.Context) {
	for _, id := range m.owed() {
		// One that was never fenced was not replaced: the join was killed before.
		if _, _, err := m.records.FreeHeld(ctx, id); err != nil && !errors.Is(err, pool.ErrNotFenced) {
			m.cfg.Log.Warn("what the replaced host held is not free yet, tried again every minute", discovery.LogMember(m.cfg.Host.Name, id), "err", err)
			continue
		}
		done := func(all []discovery.HostID) []discovery.HostID {
			return slices.DeleteFunc(all, func(o discovery.HostID) bool { return o == id })
		}
		if err := m.owe(done); err != nil {
			m.cfg.Log.Warn("cannot note that the replaced host's blocks are free", discovery.LogMember(m.cfg.Host.Name, id), "err", err)
		}
	}
}
