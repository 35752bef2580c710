package ipam

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
)

// load makes the buckets and fills the manager from them.
func (m *Manager) load(now time.Time) error {
	if err := m.disk.db.Update(prepare); err != nil {
		return fmt.Errorf("prepare buckets: %w", err)
	}
	return m.disk.db.View(func(tx *bbolt.Tx) error {
		// In this order: a block needs its network, an address its block.
		if err := tx.Bucket(bucketBlocks).ForEach(m.loadNetwork); err != nil {
			return err
		}
		if err := tx.Bucket(bucketBlocks).ForEach(func(k, v []byte) error { return m.loadBlock(k, v, now) }); err != nil {
			return err
		}
		if err := tx.Bucket(bucketAddresses).ForEach(func(k, v []byte) error { return m.loadAddress(k, v, now) }); err != nil {
			return err
		}
		m.number = tx.Bucket(bucketReturns).Sequence()
		return tx.Bucket(bucketReturns).ForEach(m.loadReturn)
	})
}

func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketBlocks, bucketAddresses, bucketReturns} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
	}
	b := tx.Bucket(bucketBlocks)
	if raw := b.Get(keySchema); raw != nil {
		if v, err := strconv.Atoi(string(raw)); err != nil || v > schema {
			return fmt.Errorf("schema %q was written by a newer agent, this one reads up to %d", raw, schema)
		}
	}
	return b.Put(keySchema, strconv.AppendInt(nil, schema, 10))
}

func (m *Manager) loadNetwork(k, v []byte) error {
	if len(k) != 16 {
		return nil
	}
	var n discovery.Network
	if err := json.Unmarshal(v, &n); err != nil {
		return fmt.Errorf("network %x: %w", k, err)
	}
	m.nets[n.ID] = newNetwork(n)
	return nil
}

func (m *Manager) loadBlock(k, v []byte, now time.Time) error {
	if len(k) <= 16 {
		return nil
	}
	id, addr, err := splitAddressKey(k[:len(k)-1])
	if err != nil {
		return err
	}
	var r blockRecord
	if err := json.Unmarshal(v, &r); err != nil {
		return fmt.Errorf("block %x: %w", k, err)
	}
	nw := m.nets[id]
	if nw == nil {
		return fmt.Errorf("block %x: network %s has no record", k, id)
	}
	p := netip.PrefixFrom(addr, int(k[len(k)-1]))
	s, ok := nw.spec().Covering(addr)
	if !ok {
		return fmt.Errorf("block %s of network %s: %w", p, nw.spec().Name, ErrOutside)
	}
	b := discovery.Block{Network: id, Prefix: p, Host: m.cfg.Self, State: r.State, Seq: r.Seq, Index: r.Index}
	nw.blocks = append(nw.blocks, newBlock(b, s, now))
	return nil
}

func (m *Manager) loadAddress(k, v []byte, now time.Time) error {
	id, addr, err := splitAddressKey(k)
	if err != nil {
		return err
	}
	var r addressRecord
	if err := json.Unmarshal(v, &r); err != nil {
		return fmt.Errorf("address %x: %w", k, err)
	}
	nw := m.nets[id]
	if nw == nil {
		return fmt.Errorf("address %s: network %s has no record", addr, id)
	}
	b := nw.blockOf(addr)
	if b != nil {
		b.takeThis(addr)
	}
	if r.State == stateResting {
		// How long it rested is not known: clocks do not survive the restart.
		if b != nil {
			b.put(addr, now, true)
		}
		return nil
	}
	h := &holding{addr: addr, state: r.State, owner: r.Owner, host: r.Host, reserved: r.Reserved, seq: r.Seq, loan: r.Loan}
	nw.held[addr] = h
	if h.state == stateLeased {
		nw.owners[ownerKey{h.owner, addr.Is6()}] = h
	}
	return nil
}

func (m *Manager) loadReturn(k, v []byte) error {
	if len(k) != 8 {
		return fmt.Errorf("return %x: %w", k, discovery.ErrMalformed)
	}
	g := &pendingReturn{number: binary.BigEndian.Uint64(k), tried: true}
	if err := json.Unmarshal(v, &g.what); err != nil {
		return fmt.Errorf("return %x: %w", k, err)
	}
	m.number = max(m.number, g.number)
	m.returns[g.number] = g
	if nw := m.nets[g.what.Network]; nw != nil && g.what.Addr.IsValid() {
		nw.holdBack(g)
	}
	return nil
}
