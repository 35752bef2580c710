package pool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// schema is the newest layout of the keys that this package writes.
const schema = 1

// Meta is what all hosts of the cluster share.
type Meta struct {
	Schema     int          `json:"schema"` // of the keys; 1
	ClusterID  string       `json:"cluster_id"`
	CreatedBy  string       `json:"created_by"`
	Domain     string       `json:"domain"`
	Pool       netip.Prefix `json:"pool"` // automatic subnets come from here
	TunnelPort uint16       `json:"tunnel_port"`
	WGPort     uint16       `json:"wg_port"` // reserved for WireGuard between the members, which no release does yet; kept as read
	GossipPort uint16       `json:"gossip_port"`
	Encrypt    bool         `json:"encrypt"`
	Profile    string       `json:"profile"`  // "lan" or "wan"
	StoreID    string       `json:"store_id"` // of an embedded store
	Created    time.Time    `json:"created"`
}

// stamp is meta with the index at which it was read.
type stamp struct {
	meta  Meta
	index uint64
	raw   []byte
}

// Meta reads the cluster's shared settings. ErrNoCluster means that the store
// can be read and written and holds none.
func (p *Pool) Meta(ctx context.Context) (Meta, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	s, err := p.look(ctx)
	if err != nil && !errors.Is(err, ErrNewerSchema) {
		return Meta{}, fmt.Errorf("read cluster: %w", err)
	}
	return s.meta, nil
}

// stamp is what is known of meta, read now if nothing is. Its error is
// ErrNewerSchema for a store that may only be read.
func (p *Pool) stamp(ctx context.Context) (*stamp, error) {
	p.mu.Lock()
	s := p.known
	p.mu.Unlock()
	if s == nil {
		var err error
		if s, err = p.look(ctx); err != nil {
			return nil, err
		}
	}
	if s.meta.Schema > schema {
		return nil, fmt.Errorf("schema %d, this program writes %d: %w", s.meta.Schema, schema, ErrNewerSchema)
	}
	return s, nil
}

// look reads meta now and says whether this is our cluster's store.
func (p *Pool) look(ctx context.Context) (*stamp, error) {
	s, err := p.readMeta(ctx)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, p.noteMeta(p.mayWrite(ctx))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cluster == "" {
		p.cluster = s.meta.ClusterID
	}
	if p.cluster != s.meta.ClusterID {
		p.metaErr = fmt.Errorf("%w: %s, ours is %s", ErrOtherCluster, s.meta.ClusterID, p.cluster)
		return nil, p.metaErr
	}
	p.known, p.metaErr = s, nil
	if s.meta.Schema > schema {
		p.metaErr = fmt.Errorf("schema %d, this program writes %d: %w", s.meta.Schema, schema, ErrNewerSchema)
	}
	return s, nil
}

// readMeta reads meta whoever's it is; nil when it is missing.
func (p *Pool) readMeta(ctx context.Context) (*stamp, error) {
	kv, err := p.get(ctx, keyMeta)
	if err != nil || kv == nil {
		return nil, err
	}
	s := &stamp{index: kv.ModifyIndex, raw: kv.Value}
	return s, decode(kv, &s.meta)
}

// mayWrite is what a missing meta means: ErrNoCluster, or ErrPermission when
// the store would not let us write either. It writes nothing: the key that it
// asks to delete does not exist.
func (p *Pool) mayWrite(ctx context.Context) error {
	if _, err := p.txn(ctx, ops(drop(keyMeta+"-probe", 1))); err != nil {
		return err
	}
	return ErrNoCluster
}

// expect sets the cluster whose store this is.
func (p *Pool) expect(cluster string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cluster, p.known = cluster, nil
}

// Init makes a cluster with its first host. An *ExistsError names the cluster
// that is there already.
func (p *Pool) Init(ctx context.Context, m Meta, h Host) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	m.Schema = schema
	out, err := p.txn(ctx, ops(
		cas(keyMeta, 0, encode(m)),
		absent(hostKey(h.ID)), set(hostKey(h.ID), encode(h.value())),
		absent(nameKey(h.Name)), set(nameKey(h.Name), []byte(h.ID.String())),
	))
	if err != nil {
		return fmt.Errorf("make cluster: %w", err)
	}
	if out.ok() {
		p.expect(m.ClusterID)
		_, err := p.look(ctx)
		return err
	}
	return p.initLost(ctx, m, out)
}

// initLost says why the first transaction did not hold.
func (p *Pool) initLost(ctx context.Context, m Meta, out outcome) error {
	s, err := p.readMeta(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("make cluster: %w", err)
	case s == nil:
		return fmt.Errorf("make cluster: hosts without a cluster below %s: %w", p.prefix, ErrConflict)
	case out.unsure && s.meta.ClusterID == m.ClusterID:
		p.expect(m.ClusterID) // an earlier try did it
		return nil
	}
	return p.exists(ctx, s.meta)
}

// exists is the error of a store that is in use.
func (p *Pool) exists(ctx context.Context, m Meta) error {
	p.expect(m.ClusterID)
	hosts, err := p.hosts(ctx)
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
func (p *Pool) Adopt(ctx context.Context, m Meta, h Host) (Meta, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	p.expect("")
	s, err := p.look(ctx)
	if err != nil {
		return Meta{}, fmt.Errorf("adopt cluster: %w", err)
	}
	hosts, err := p.hosts(ctx)
	if err != nil {
		return Meta{}, fmt.Errorf("adopt cluster: %w", err)
	}
	if len(hosts) > 0 {
		return Meta{}, &ExistsError{Meta: s.meta, Hosts: hosts}
	}
	note := adoption{Adopted: m.Created, By: h.Name + " " + h.ID.String()}
	out, err := p.txn(ctx, ops(
		cas(keyMeta, s.index, rewrite(s.raw, note)), absent(goneKey(h.ID)),
		cas(hostKey(h.ID), 0, encode(h.value())), set(nameKey(h.Name), []byte(h.ID.String())),
	))
	if err != nil {
		return Meta{}, fmt.Errorf("adopt cluster: %w", err)
	}
	if !out.ok() && !(out.unsure && p.registered(ctx, h)) {
		return Meta{}, p.exists(ctx, s.meta)
	}
	s, err = p.look(ctx)
	if err != nil {
		return Meta{}, fmt.Errorf("adopt cluster: %w", err)
	}
	return s.meta, nil
}
