package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/discovery/pool"
)

// pendingFile is pending.json: the membership that init is about to write into
// the pool. Its keys are nowhere else until cluster.json is there, so without it
// an init that is killed in between would leave a cluster that nobody can enter.
type pendingFile struct {
	Schema  int         `json:"schema"`
	Cluster clusterFile `json:"cluster"`
	Host    hostFile    `json:"host"`
}

const pendingName = "pending.json"

// begun writes down what init is about to put into the pool.
func (a *Agent) begun(s *session) error {
	return a.dir.write(pendingName, pendingFile{schema, s.cluster, s.host})
}

// notBegun forgets it after a failure, unless the store may have taken it all the
// same: then the next init or start looks.
func (a *Agent) notBegun(err error) {
	for _, unsure := range []error{pool.ErrUnavailable, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, unsure) {
			return
		}
	}
	if err := a.dir.remove(pendingName); err != nil {
		a.log.Warn("cannot forget an init that failed", "err", err)
	}
}

// finishInit ends an init that was killed before it reached the disk: what the
// pool has of it becomes this host's membership, what it has not is forgotten.
// done: cluster.json is there now. After an error nothing is known, and it can be
// called again.
func (a *Agent) finishInit(ctx context.Context) (done bool, err error) {
	var p pendingFile
	if err := a.dir.read(pendingName, &p); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	cfg := a.config()
	p.Cluster.overrule(&cfg, a.log)
	meta, registered, err := a.registeredIn(ctx, cfg.Store, p.Host)
	if err != nil {
		return false, fmt.Errorf("an earlier init was not finished: %w", err)
	}
	if !registered {
		return false, a.dir.remove(pendingName)
	}
	p.Cluster.take(meta)
	return true, a.keep(p.Host, p.Cluster)
}

// registeredIn asks a store, without becoming a member, whether it holds a host.
func (a *Agent) registeredIn(ctx context.Context, c config.Store, h hostFile) (m pool.Meta, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p, store, err := a.parts.OpenPool(c, a.storeFile(), "")
	if err != nil {
		return m, false, err
	}
	if store != nil {
		ended := make(chan error, 1)
		running, stop := context.WithCancel(ctx)
		go func() { ended <- store.Run(running) }()
		defer func() { stop(); err = errors.Join(err, <-ended) }()
	}
	m, err = p.Meta(ctx)
	if errors.Is(err, pool.ErrNoCluster) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	hosts, err := p.Hosts(ctx)
	return m, slices.ContainsFunc(hosts, func(o pool.Host) bool { return o.ID == h.ID }), err
}

// keep puts a membership on the disk: from here on a restart resumes it.
func (a *Agent) keep(h hostFile, c clusterFile) error {
	if err := a.dir.write("host.json", h); err != nil {
		return err
	}
	if err := a.dir.write("cluster.json", c); err != nil {
		return err
	}
	return a.dir.remove(pendingName)
}
