package endpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/overlay"
)

// strays are the interfaces that the journal does not know.
type strays struct{ *parts }

// takeUp puts the endpoints into the journal whose interface is there and that the
// journal does not know: its file is older than they are, was damaged or lost. The
// kernel counts for more than the file. Interfaces are not taken up of an endpoint that
// was removed, of an attach that did not end, which got as far as its lease, and of an
// earlier membership.
func (m strays) takeUp(ctx context.Context) error {
	found, err := m.Kernel.Found(ctx)
	if err != nil {
		return err
	}
	var up []journal.Local
	for _, e := range found {
		id, ok := m.unknown(e)
		if !ok || m.Journal.Ended(id) {
			continue
		}
		if m.Past.Fresh || m.Past.Leased[id] && !m.Past.Lost {
			if err := m.Journal.Remove(id); err != nil {
				m.Log.Warn("interface without endpoint stays", "endpoint", id, "err", err)
			}
			continue
		}
		l, err := m.remembered(id, e)
		source := fmt.Sprintf("endpoint %s, %s", id, m.Journal.Path())
		if err != nil {
			m.Past.Refuse(source, err, "agentctl endpoint ls # its interface stays")
			continue
		}
		m.Past.Refuse(source, fmt.Errorf("it runs as %s on %s, and the file does not know it: taken up from the kernel",
			l.Endpoint.Name, l.Addrs[0].Addr()), "agentctl endpoint inspect "+id.String())
		up = append(up, l)
		m.tell(ctx, event.EndpointAttached, l, "taken up from the kernel")
	}
	m.giveWay(ctx, found, up)
	for _, l := range m.Past.Backup {
		have, there := m.Journal.Get(l.Endpoint.ID)
		if there && l.Rev > have.Rev || !there && m.Past.Lost && l.OfHost() {
			up = append(up, l)
		}
	}
	return m.Journal.Adopt(up)
}

// giveWay removes what the journal has under an address of an endpoint that runs: it
// was detached after the copy was made that the journal is.
func (m strays) giveWay(ctx context.Context, found []overlay.Endpoint, up []journal.Local) {
	for _, l := range m.Journal.All() {
		id := l.Endpoint.ID
		if slices.ContainsFunc(found, func(e overlay.Endpoint) bool { return e.ID == id.String() }) {
			continue
		}
		if !slices.ContainsFunc(up, func(o journal.Local) bool {
			return o.Endpoint.Network == l.Endpoint.Network && slices.Contains(l.Addrs, o.Addrs[0])
		}) {
			continue
		}
		m.Past.Refuse(fmt.Sprintf("endpoint %s, %s", id, m.Journal.Path()), errors.New("another endpoint runs with its address"), "")
		if err := m.Journal.Remove(id); err != nil {
			m.Log.Warn("endpoint whose address another one has not removed", "endpoint", id, "err", err)
			continue
		}
		m.tell(ctx, event.EndpointDetached, l, "another endpoint runs with its address")
	}
}

// unknown reports whether the interface is of an endpoint of this membership that the
// journal does not know.
func (p strays) unknown(e overlay.Endpoint) (id discovery.EndpointID, ok bool) {
	if e.Cluster != p.Host.Cluster || id.UnmarshalText([]byte(e.ID)) != nil {
		return id, false
	}
	_, there := p.Journal.Get(id)
	return id, !there
}

// errUnguarded: without an address in the packet filter nothing passes an interface.
var errUnguarded = errors.New("its interface is there, and nothing says which address it has")

// remembered is an endpoint as the backup has it, else as the kernel has it: without
// its names, its sandbox and its ports. It ends with its interface then.
func (p strays) remembered(id discovery.EndpointID, e overlay.Endpoint) (journal.Local, error) {
	if l, ok := p.Past.Backup[id]; ok {
		return l, nil
	}
	var network discovery.NetworkID
	if err := network.UnmarshalText([]byte(e.Network)); err != nil || len(e.Addrs) == 0 {
		return journal.Local{}, errUnguarded
	}
	l := journal.Local{
		Endpoint: discovery.Endpoint{ID: id, Network: network, MAC: discovery.MAC(e.MAC), Name: "endpoint-" + id.String()[:8],
			Runtime: discovery.RuntimeNetns},
		Cookie: binary.BigEndian.Uint64(id[:8]), Boot: p.Host.Boot(), NoDefault: true, Created: time.Now().UTC(),
	}
	n, _ := p.Cluster.Network(network)
	for _, a := range e.Addrs {
		l.Addrs = append(l.Addrs, withSubnet(n, a.Addr()))
		if a.Addr().Is4() {
			l.Endpoint.IPv4 = a.Addr()
		} else {
			l.Endpoint.IPv6 = a.Addr()
		}
	}
	return l, nil
}

// withSubnet is an address with the length of its subnet; its own length when the
// network is not known yet.
func withSubnet(n discovery.Network, a netip.Addr) netip.Prefix {
	if s, ok := n.Covering(a); ok {
		return netip.PrefixFrom(a, s.CIDR.Bits())
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// bury ends what is left of removed endpoints: it removes the interfaces that are
// still there, and forgets those that are gone. What no request works on and nobody
// removed stays: an older file has forgotten it.
func (m strays) bury(ctx context.Context, there []string) {
	unknown := false
	for _, text := range there {
		var id discovery.EndpointID
		if id.UnmarshalText([]byte(text)) != nil {
			continue
		}
		// In this order: attach writes the journal before its work ends, and detach notes
		// that the interface goes before it removes the entry.
		if m.busy.has(id) {
			continue
		}
		if _, ok := m.Journal.Get(id); ok || m.unplugs.removing(id) {
			continue
		}
		if !m.Journal.Ended(id) {
			unknown = true
			continue
		}
		m.unplugStray(ctx, text)
	}
	if unknown {
		m.unplugForeign(ctx)
	}
	err := m.Journal.Bury(func(id discovery.EndpointID) bool {
		return slices.Contains(there, id.String()) || m.busy.has(id) || m.unplugs.removing(id)
	})
	if err != nil {
		m.Log.Debug("removed endpoints are still written down", "err", err)
	}
}

// unplugForeign removes what a membership in another cluster left.
func (m strays) unplugForeign(ctx context.Context) {
	found, err := m.Kernel.Found(ctx)
	if err != nil {
		m.Log.Warn("cannot list the endpoints' interfaces", "err", err)
		return
	}
	for _, e := range found {
		if e.Cluster != "" && e.Cluster != m.Host.Cluster {
			m.unplugStray(ctx, e.ID)
		}
	}
}

// unplugStray removes an interface that belongs to no endpoint.
func (m strays) unplugStray(ctx context.Context, id string) {
	if err := m.Kernel.Detach(ctx, id); err != nil {
		m.Log.Warn("interface without endpoint not removed", "endpoint", id, "err", err)
		return
	}
	m.Log.Info("interface without endpoint removed", "endpoint", id)
}
