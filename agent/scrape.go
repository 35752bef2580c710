package agent

import (
	"bytes"
	"context"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/metrics"
)

// Metrics implements api.Service.
func (a service) Metrics(context.Context) ([]byte, error) {
	st, err := statusOf(a.Agent, lastAltered)
	if err != nil {
		return nil, err
	}
	f := metrics.Facts{Build: api.OwnVersion(), Status: st, Names: a.parts.Names.Stats(), Upstreams: a.parts.Names.Upstreams().Servers}
	if m := a.settled(); m != nil {
		f.Member = measured(m)
	}
	var text bytes.Buffer
	if err := metrics.Write(&text, f); err != nil {
		return nil, api.Errorf(api.KindFailed, "metrics: %v", err)
	}
	return text.Bytes(), nil
}

// measured are the counters of a member's parts.
func measured(m *member) *metrics.Member {
	drops, err := m.overlay.Drops()
	if err != nil {
		m.log.Debug("dropped packets are not counted", "err", err)
	}
	return &metrics.Member{
		View: m.directory.View(), Tunnels: m.tunnel.Proofs(), Networks: m.networks.ByName(), Active: len(m.endpoints.Active()), Blocks: m.leases.Blocks(), Leases: m.leases.Leases(),
		Gossip: m.directory.Stats(), Pool: m.pool.Stats(), Overlay: m.overlay.Stats(), Drops: drops, Endpoints: m.endpoints.Stats(),
	}
}
