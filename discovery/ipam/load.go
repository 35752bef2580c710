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

// loader fills the networks from the disk, before anybody else knows them.
type loader struct {
	self   discovery.HostID
	now    time.Time
	nets   map[discovery.NetworkID]*network
	number uint64 // of the newest return
}

// load makes the buckets and reads them.
func (l *loader) load(db *bbolt.DB) error {
	if err := db.Update(prepare); err != nil {
		return fmt.Errorf("prepare buckets: %w", err)
	}
	return db.View(func(tx *bbolt.Tx) error {
		// In this order: a block needs its network, an address its block.
		if err := tx.Bucket(bucketBlocks).ForEach(l.network); err != nil {
			return err
		}
		if err := tx.Bucket(bucketBlocks).ForEach(l.block); err != nil {
			return err
		}
		if err := tx.Bucket(bucketAddresses).ForEach(l.address); err != nil {
			return err
		}
		l.number = tx.Bucket(bucketReturns).Sequence()
		return tx.Bucket(bucketReturns).ForEach(l.pendingReturn)
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

func (l *loader) network(k, v []byte) error {
	if len(k) != 16 {
		return nil
	}
	var n discovery.Network
	if err := json.Unmarshal(v, &n); err != nil {
		return fmt.Errorf("network %x: %w", k, err)
	}
	nw := newNetwork(n)
	nw.begin()
	l.nets[n.ID] = nw
	return nil
}

func (l *loader) block(k, v []byte) error {
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
	nw := l.nets[id]
	if nw == nil {
		return fmt.Errorf("block %x: network %s has no record", k, id)
	}
	p := netip.PrefixFrom(addr, int(k[len(k)-1]))
	subnet, ok := nw.spec().Covering(addr)
	if !ok {
		return fmt.Errorf("block %s of network %s: %w", p, nw.spec().Name, ErrOutside)
	}
	b := discovery.Block{Network: id, Prefix: p, Host: l.self, State: r.State, Seq: r.Seq, Index: r.Index}
	nw.blocks = append(nw.blocks, newBlock(b, subnet, l.now))
	return nil
}

func (l *loader) address(k, v []byte) error {
	id, addr, err := splitAddressKey(k)
	if err != nil {
		return err
	}
	var r addressRecord
	if err := json.Unmarshal(v, &r); err != nil {
		return fmt.Errorf("address %x: %w", k, err)
	}
	nw := l.nets[id]
	if nw == nil {
		return fmt.Errorf("address %s: network %s has no record", addr, id)
	}
	b := nw.blockOf(addr)
	if b != nil {
		b.takeThis(addr)
	}
	if r.State == stateResting {
		// How long it was in quarantine is not known: clocks do not survive the restart.
		if b != nil {
			b.put(addr, l.now, true)
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

func (l *loader) pendingReturn(k, v []byte) error {
	if len(k) != 8 {
		return fmt.Errorf("return %x: %w", k, discovery.ErrMalformed)
	}
	g := &pendingReturn{number: binary.BigEndian.Uint64(k), tried: true}
	if err := json.Unmarshal(v, &g.what); err != nil {
		return fmt.Errorf("return %x: %w", k, err)
	}
	l.number = max(l.number, g.number)
	nw := l.nets[g.what.Network]
	if nw == nil { // it was dropped
		nw = newNetwork(discovery.Network{ID: g.what.Network})
		l.nets[nw.id] = nw
	}
	nw.returns[g.number] = g
	if g.what.Addr.IsValid() {
		nw.holdBack(g)
	}
	return nil
}
