package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery/strict"
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

// stamp is what is known of meta, read now if nothing is. Its error is
// ErrNewerSchema for a store that may only be read.
func (s *store) stamp(ctx context.Context) (*stamp, error) {
	s.mu.Lock()
	m := s.known
	s.mu.Unlock()
	if m == nil {
		var err error
		if m, err = s.checkMeta(ctx); err != nil {
			return nil, err
		}
	}
	return m, m.newer()
}

// newer is an ErrNewerSchema when this program may not write the store.
func (m *stamp) newer() error {
	if m.meta.Schema > schema {
		return fmt.Errorf("schema %d, this program writes %d: %w", m.meta.Schema, schema, ErrNewerSchema)
	}
	return nil
}

// checkMeta reads meta now and says whether this is our cluster's store. A newer
// schema is no error here: such a store can be read.
func (s *store) checkMeta(ctx context.Context) (*stamp, error) {
	m, err := s.readMeta(ctx)
	if _, refused := errors.AsType[strict.Refused](err); refused {
		return nil, s.noteMeta(err)
	}
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, s.noteMeta(s.mayWrite(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == "" {
		s.cluster = m.meta.ClusterID
	}
	if s.cluster != m.meta.ClusterID {
		s.metaErr = fmt.Errorf("%w: found %s, expected %s", ErrOtherCluster, m.meta.ClusterID, s.cluster)
		return nil, s.metaErr
	}
	s.known, s.metaErr = m, m.newer()
	return m, nil
}

// readMeta reads meta whoever's it is; nil when it is missing. What is no record of a
// cluster is a strict.Refused.
func (s *store) readMeta(ctx context.Context) (*stamp, error) {
	kv, err := s.get(ctx, keyMeta)
	if err != nil || kv == nil {
		return nil, err
	}
	m := &stamp{index: kv.ModifyIndex, raw: kv.Value}
	if m.meta, err = parseMeta(kv); err != nil {
		s.mu.Lock()
		expected := cmp.Or(s.cluster, "this one")
		s.mu.Unlock()
		return nil, s.refusals.of(keyMeta, fmt.Errorf("%w; expected the record of cluster %s", err, expected))
	}
	return m, nil
}

// mayWrite is what a missing meta means: ErrNoCluster, or ErrPermission when
// the store would not let us write either. It writes nothing: the key that it
// asks to delete does not exist.
func (s *store) mayWrite(ctx context.Context) error {
	if _, err := s.txn(ctx, ops(drop(keyMeta+"-probe", 1))); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster != "" {
		return fmt.Errorf("%w: found none below %s, expected %s", ErrNoCluster, s.prefix, s.cluster)
	}
	return ErrNoCluster
}

// expect sets the cluster whose store this is.
func (s *store) expect(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cluster, s.known = cluster, nil
}
