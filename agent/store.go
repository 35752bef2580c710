package agent

import (
	"context"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/membership"
)

// Reload takes over what a running agent can of a configuration that config.Reload
// allows: the address of Consul.
func (a *Agent) Reload(next config.Config) error {
	a.mu.Lock()
	a.cfg.Store.Consul = next.Store.Consul
	a.mu.Unlock()
	a.history.Emit(event.Event{Kind: event.ConfigReloaded, Subject: a.cfg.Name, Text: "the configuration was read again",
		Detail: map[string]any{"log_level": next.LogLevel.String()}})
	m := a.member()
	if m == nil {
		return nil
	}
	return m.askAt(m.host.Cluster().ConsulFor(next.Store.Consul))
}

// askAt has the store asked at another address.
func (m *member) askAt(address string) error {
	if old := m.pool.Address.Address(); address == "" || address == old {
		return nil
	}
	if err := m.pool.Address.UseAddress(address); err != nil {
		return err
	}
	m.log.Info("the store is asked elsewhere", "store", address)
	return nil
}

// joinedAlready answers a join of a host that is a member. An address of Consul in it
// is where this host asks from now on, once it was seen that the cluster is there.
func (a *Agent) joinedAlready(ctx context.Context, m *member, t datadir.Token, consul string) (api.JoinResult, error) {
	out, err := m.host.JoinedAlready(t)
	if err != nil || consul == "" || consul == m.pool.Address.Address() {
		return out, err
	}
	cluster := m.host.Cluster()
	if cluster.Consul == "" {
		return out, api.Errorf(api.KindConflict, "join: %s is a member of cluster %s already, whose store is the built-in one of this machine", m.host.Host().Name, cluster.ID).
			WithHint("agentctl status")
	}
	store := membership.Overrule(a.config(), cluster, func(string, any, any) {}).Store
	store.Consul = consul
	p, _, err := a.parts.OpenPool(store, a.storeFile(), cluster.ID, nil)
	if err == nil {
		defer p.Address.Close()
		_, err = p.Records.Meta(ctx)
	}
	if err != nil {
		return out, diagnose.Explain("join: --consul "+consul, err)
	}
	if err := m.host.SetConsul(consul, a.config().Store.Consul); err != nil {
		return out, diagnose.Explain("join", err)
	}
	out.Store = config.Store{Consul: consul}.String()
	return out, diagnose.Explain("join", m.askAt(consul))
}
