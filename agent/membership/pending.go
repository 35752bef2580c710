package membership

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery/pool"
)

// Begin writes pending.json: what init is about to put into the pool.
func (m *Membership) Begin() error {
	return m.cfg.Dir.Write(datadir.PendingFile, datadir.Pending{Schema: datadir.Schema, Cluster: m.Cluster(), Host: m.cfg.Host})
}

// NotBegun removes pending.json after init failed with err. It keeps the file when
// the store may have done the write without an answer: then the next init or start
// asks the store.
func (m *Membership) NotBegun(err error) {
	for _, inDoubt := range []error{pool.ErrUnavailable, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, inDoubt) {
			return
		}
	}
	if err := m.cfg.Dir.Remove(datadir.PendingFile); err != nil {
		m.cfg.Log.Warn("cannot forget an init that failed", "err", err)
	}
}

// Resume finishes an init that was killed before it wrote cluster.json. If the pool
// has this host, Resume writes cluster.json, and done is true. If not, it removes
// pending.json. After an error it can be called again. open opens the store of a
// cluster, whichever cluster it holds; close ends that.
func Resume(ctx context.Context, d *datadir.Dir, open func(context.Context, datadir.Cluster) (r Records, close func() error, err error)) (done bool, err error) {
	var p datadir.Pending
	if err := d.Read(datadir.PendingFile, &p); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	meta, registered, err := registeredIn(ctx, p, open)
	if err != nil {
		return false, fmt.Errorf("an earlier init was not finished: %w", err)
	}
	if !registered {
		return false, d.Remove(datadir.PendingFile)
	}
	return true, d.Keep(p.Host, WithMeta(p.Cluster, meta))
}

// registeredIn asks a store, without becoming a member, whether it holds a host.
func registeredIn(ctx context.Context, p datadir.Pending, open func(context.Context, datadir.Cluster) (Records, func() error, error)) (m pool.Meta, ok bool, err error) {
	r, end, err := open(ctx, p.Cluster)
	if err != nil {
		return m, false, err
	}
	defer func() { err = errors.Join(err, end()) }()
	m, err = r.Meta(ctx)
	if errors.Is(err, pool.ErrNoCluster) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	hosts, err := r.Hosts(ctx)
	return m, slices.ContainsFunc(hosts, func(o pool.Host) bool { return o.ID == p.Host.ID }), err
}
