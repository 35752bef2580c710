package pool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ClusterRecords are what the store knows of the cluster: the settings that all
// hosts share, the registered hosts, and those that were removed.
type ClusterRecords struct{ store *store }

// Meta reads the cluster's shared settings. ErrNoCluster means that the store
// can be read and written and holds none.
func (r *ClusterRecords) Meta(ctx context.Context) (Meta, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	s, err := r.store.checkMeta(ctx)
	if err != nil && !errors.Is(err, ErrNewerSchema) {
		return Meta{}, fmt.Errorf("read cluster: %w", err)
	}
	return s.meta, nil
}

// Init makes a cluster with its first host. An *ExistsError names the cluster
// that is there already.
func (r *ClusterRecords) Init(ctx context.Context, m Meta, h Host) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	m.Schema = schema
	out, err := r.store.txn(ctx, ops(
		cas(keyMeta, 0, encode(m)),
		absent(hostKey(h.ID)), set(hostKey(h.ID), encode(h.value())),
		absent(nameKey(h.Name)), set(nameKey(h.Name), []byte(h.ID.String())),
	))
	if err != nil {
		return fmt.Errorf("make cluster: %w", err)
	}
	if out.ok() {
		r.store.expect(m.ClusterID)
		_, err := r.store.checkMeta(ctx)
		return err
	}
	return r.initLost(ctx, m, out)
}

// initLost says why the first transaction did not hold.
func (r *ClusterRecords) initLost(ctx context.Context, m Meta, out outcome) error {
	s, err := r.store.readMeta(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("make cluster: %w", err)
	case s == nil:
		return fmt.Errorf("make cluster: hosts without a cluster below %s: %w", r.store.prefix, ErrConflict)
	case out.inDoubt && s.meta.ClusterID == m.ClusterID:
		r.store.expect(m.ClusterID) // an earlier try did it
		return nil
	}
	return r.exists(ctx, s.meta)
}

// exists is the error of a store that is in use.
func (r *ClusterRecords) exists(ctx context.Context, m Meta) error {
	r.store.expect(m.ClusterID)
	hosts, err := r.hosts(ctx)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", m.ClusterID, errors.Join(ErrExists, err))
	}
	return &ExistsError{Meta: m, Hosts: hosts}
}

// adoption is written into meta by Adopt, so that of two who adopt at once one
// wins.
type adoption struct {
	Adopted time.Time `json:"adopted"`
	By      string    `json:"adopted_by"`
}

// Adopt takes over a cluster that every host has left: its id, networks and
// settings stay, and are returned; those of m count for nothing. It is an
// *ExistsError while a host is registered, and ErrNoCluster when there is
// nothing to adopt.
func (r *ClusterRecords) Adopt(ctx context.Context, m Meta, h Host) (Meta, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	r.store.expect("")
	s, err := r.store.checkMeta(ctx)
	if err != nil {
		return Meta{}, fmt.Errorf("adopt cluster: %w", err)
	}
	hosts, err := r.hosts(ctx)
	if err != nil {
		return Meta{}, fmt.Errorf("adopt cluster: %w", err)
	}
	if len(hosts) > 0 {
		return Meta{}, &ExistsError{Meta: s.meta, Hosts: hosts}
	}
	note := adoption{Adopted: m.Created, By: h.Name + " " + h.ID.String()}
	out, err := r.store.txn(ctx, ops(
		cas(keyMeta, s.index, rewrite(s.raw, note)), absent(goneKey(h.ID)),
		cas(hostKey(h.ID), 0, encode(h.value())), set(nameKey(h.Name), []byte(h.ID.String())),
	))
	if err != nil {
		return Meta{}, fmt.Errorf("adopt cluster: %w", err)
	}
	if !out.ok() && !(out.inDoubt && r.registered(ctx, h)) {
		return Meta{}, r.exists(ctx, s.meta)
	}
	s, err = r.store.checkMeta(ctx)
	if err != nil {
		return Meta{}, fmt.Errorf("adopt cluster: %w", err)
	}
	return s.meta, nil
}
