package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
)

// Init implements api.Service: this host becomes the first of a new cluster.
// The store is written last, so that a failure leaves no trace there.
func (a service) Init(ctx context.Context, r api.InitRequest, progress func(string)) (api.InitResult, error) {
	done, err := a.exclusively("init")
	if err != nil {
		return api.InitResult{}, err
	}
	defer done()
	if m := a.member(); m != nil {
		return api.InitResult{}, api.Errorf(api.KindConflict, "init: %s is a member of cluster %s already", m.host.Host().Name, m.host.Cluster().ID).
			WithHint("agentctl members\nagentctl leave # to start anew")
	}
	cluster, err := membership.NewCluster(r, a.config())
	if err != nil {
		return api.InitResult{}, err
	}
	finished, err := a.finishInit(ctx)
	if p, ok := a.pendingInit(); err != nil && ok && r.Consul != "" && cluster.Consul != p.Cluster.Consul {
		progress("giving up an earlier init, whose store" + config.Store{Consul: p.Cluster.Consul}.String() + " does not answer")
		err = a.dir.Remove(datadir.PendingFile)
	}
	if err != nil {
		return api.InitResult{}, api.Errorf(api.KindFailed, "init: %v", err).
			WithHint("agentctl init # when the store answers\nagentctl leave # gives the earlier one up")
	}
	if finished {
		progress("finishing an earlier init")
		return a.resumeInit()
	}
	if cluster.Consul == "" {
		progress("warning: init without --consul: hosts of other machines cannot join; for those type instead: " + initWithConsul)
	}
	store := a.cfg.Store
	store.Consul, store.Prefix = cluster.Consul, cluster.Prefix
	progress("opening the store" + store.String())
	m, err := a.openFresh(ctx, cluster)
	if err != nil {
		return api.InitResult{}, diagnose.Explain("init", err)
	}
	defer a.abandon(m)
	// A store that does not answer has been given nothing: there is nothing to finish.
	if _, err := m.pool.Records.Meta(ctx); err != nil && !errors.Is(err, pool.ErrNoCluster) {
		return api.InitResult{}, m.initFailed(cluster, err)
	}
	progress("writing the cluster's record")
	if err := m.host.Begin(); err != nil {
		return api.InitResult{}, diagnose.Explain("init", err)
	}
	if r.Adopt {
		return a.adopt(ctx, m)
	}
	if err := m.pool.Init(ctx, m.host.Meta(), m.host.Record()); err != nil {
		m.host.NotBegun(err)
		return api.InitResult{}, m.initFailed(cluster, err)
	}
	if err := a.commit(m); err != nil {
		return api.InitResult{}, errors.Join(diagnose.Explain("init", err), m.host.Unregister(ctx))
	}
	tellMember(ctx, m, event.MemberJoined, "made the cluster")
	return initResult(m)
}

// initFailed explains why the store did not take the cluster.
func (m *member) initFailed(cluster datadir.Cluster, err error) error {
	if cluster.Consul != "" && (errors.Is(err, pool.ErrUnavailable) || errors.Is(err, pool.ErrNotConsul)) {
		return api.Errorf(api.KindFailed, "init: %v", err).
			WithHint("%s # ADDRESS: where a Consul answers; at %s none does", initWithConsul, cluster.Consul)
	}
	return m.explain("init", err)
}

// pendingInit is an init that has not ended.
func (a *Agent) pendingInit() (p datadir.Pending, ok bool) {
	return p, a.dir.Read(datadir.PendingFile, &p) == nil
}

// giveUpInit ends an init that has not ended: what it wrote into the store is taken
// back, if that answers, and then nothing here says that it was begun.
func (a service) giveUpInit(ctx context.Context, p datadir.Pending, r api.LeaveRequest, progress func(string)) error {
	done, err := a.exclusively("leave")
	if err != nil {
		return err
	}
	finished, err := a.finishInit(ctx)
	if finished {
		_, err = a.resumeInit()
	}
	done()
	if finished && err == nil {
		return a.Leave(ctx, r, progress)
	}
	progress("giving up the init whose store is" + config.Store{Consul: p.Cluster.Consul}.String())
	return diagnose.Explain("leave", a.dir.Forget())
}

// initWithConsul is the line that makes a cluster of several machines.
const initWithConsul = "agentctl init --consul http://ADDRESS:8500"

// adopt takes over a cluster that every host has left. Its id is known only now,
// and gossip was opened under another one: the membership is begun anew.
func (a *Agent) adopt(ctx context.Context, m *member) (api.InitResult, error) {
	meta, err := m.pool.Adopt(ctx, m.host.Meta(), m.host.Record())
	if err != nil {
		m.host.NotBegun(err)
		return api.InitResult{}, m.explain("init --adopt", err)
	}
	if err := a.dir.Keep(m.host.Host(), membership.WithMeta(m.host.Cluster(), meta)); err != nil {
		return api.InitResult{}, errors.Join(diagnose.Explain("init --adopt", err), m.host.Unregister(ctx))
	}
	a.abandon(m)
	m.host.NoteKept() // the one that is resumed
	return a.resumeInit()
}

// resumeInit begins the membership that an init has put on the disk.
func (a *Agent) resumeInit() (api.InitResult, error) {
	if err := a.resumeMember(); err != nil {
		return api.InitResult{}, diagnose.Explain("init", err)
	}
	return initResult(a.member())
}

// finishInit ends an init that was killed before it reached the disk.
func (a *Agent) finishInit(ctx context.Context) (done bool, err error) {
	return membership.Resume(ctx, a.dir, func(ctx context.Context, c datadir.Cluster) (membership.Records, func() error, error) {
		cfg := membership.Overrule(a.config(), c, func(string, any, any) {})
		p, store, err := a.parts.OpenPool(cfg.Store, a.storeFile(), "", nil)
		if err != nil || store == nil {
			return p.Records, func() error { return nil }, err
		}
		ended := make(chan error, 1)
		running, stop := context.WithTimeout(ctx, 5*time.Second)
		go func() { ended <- store.Run(running) }()
		return p.Records, func() error { stop(); return <-ended }, nil
	})
}

// openFresh opens a member for a host that is none yet, with the embedded store
// running when it is the cluster's.
func (a *Agent) openFresh(ctx context.Context, cluster datadir.Cluster) (*member, error) {
	// What an earlier membership left must not be taken for this one's.
	if err := a.dir.Remove(datadir.LeasesDB, datadir.ViewDB); err != nil {
		return nil, err
	}
	m, err := a.open(cluster, membership.NewHost(a.cfg.Called()), true)
	if err != nil {
		return nil, errors.Join(err, a.forgetFresh())
	}
	if m.store == nil {
		return m, nil
	}
	id, err := m.awaitStore(ctx)
	if err == nil && cluster.Store != "" && cluster.Store != id {
		err = membership.ErrOtherMachine
	}
	if err == nil {
		err = m.host.SetStore(id)
	}
	if err != nil {
		a.abandon(m)
		return nil, err
	}
	return m, nil
}

// abandon closes a membership that did not become the agent's; after it was kept
// it does nothing.
func (a *Agent) abandon(m *member) {
	if m.host.Kept() {
		return
	}
	m.abandon()
	a.refused.Set(strict.Pool, nil)
	if err := a.forgetFresh(); err != nil {
		a.log.Warn("the data directory is not as before", "err", err)
	}
}

// forgetFresh removes what a membership that came to nothing wrote.
func (a *Agent) forgetFresh() error {
	return a.dir.Remove(datadir.LeasesDB, datadir.ViewDB, datadir.CAFile)
}

// commit makes the membership last: from here on a restart resumes it.
func (a *Agent) commit(m *member) error {
	if err := m.host.Keep(); err != nil {
		return err
	}
	a.begin(m)
	return nil
}

func initResult(m *member) (api.InitResult, error) {
	path, err := m.host.WriteToken()
	if err != nil {
		return api.InitResult{}, fmt.Errorf("init: the cluster is made, but its token is not written: %w", err)
	}
	return api.InitResult{
		Cluster: m.host.Cluster().ID, TokenFile: path,
		Join: fmt.Sprintf("agentctl join %s --token-file %s", m.cfg.Advertise, path),
	}, nil
}
