package ipam

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
)

// loader fills the networks from the disk, before anybody else knows them. A record
// that is not whole is refused and deleted: what it said is found again in the pool,
// or in the list of endpoints that run here.
type loader struct {
	self   discovery.HostID
	now    time.Time
	refuse func(source string, why error)
	nets   map[discovery.NetworkID]*network
	number uint64 // of the newest return
	ended  []Change
}

// load makes the buckets and reads them.
func (l *loader) load(disk *Disk, running []Owned) error {
	if err := disk.Prepare(prepared, prepare); err != nil {
		return fmt.Errorf("prepare buckets: %w", err)
	}
	err := disk.db.View(func(tx *bbolt.Tx) error {
		if err := checkSchema(tx.Bucket(bucketBlocks)); err != nil {
			return err
		}
		// In this order: a block needs its network, an address its block.
		l.each(tx, bucketBlocks, l.network)
		l.each(tx, bucketBlocks, l.block)
		l.each(tx, bucketAddresses, l.address)
		l.number = tx.Bucket(bucketReturns).Sequence()
		l.each(tx, bucketReturns, l.pendingReturn)
		return nil
	})
	if err != nil {
		return err
	}
	l.running(running)
	if len(l.ended) == 0 {
		return nil
	}
	if err := disk.Commit(l.ended...); err != nil {
		// It is the same at the next start.
		l.refuse(disk.db.Path(), fmt.Errorf("cannot be brought up to date: %w", err))
	}
	return nil
}

// each hands the records of a bucket to a reader, and deletes those that it refuses.
func (l *loader) each(tx *bbolt.Tx, bucket []byte, read func(k, v []byte) error) {
	_ = tx.Bucket(bucket).ForEach(func(k, v []byte) error {
		if err := read(k, v); err != nil {
			l.refuse(fmt.Sprintf("%s, %s %x", tx.DB().Path(), bucket, k), err)
			l.ended = append(l.ended, del(bucket, bytes.Clone(k)))
		}
		return nil
	})
}

// Owners reads which endpoints have a lease, without a Manager.
func Owners(d *Disk) map[discovery.EndpointID]bool {
	out := map[discovery.EndpointID]bool{}
	_ = d.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketAddresses)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			var r addressRecord
			if decode(k, v, &r) == nil && r.State == stateLeased {
				out[r.Owner] = true
			}
			return nil
		})
	})
	return out
}

// prepared reports whether the buckets are there.
func prepared(tx *bbolt.Tx) bool {
	for _, name := range [][]byte{bucketBlocks, bucketAddresses, bucketReturns} {
		if tx.Bucket(name) == nil {
			return false
		}
	}
	return bytes.Equal(tx.Bucket(bucketBlocks).Get(keySchemaSum), boltfile.Sum(keySchema, ownSchema))
}

func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketBlocks, bucketAddresses, bucketReturns} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
	}
	b := tx.Bucket(bucketBlocks)
	if err := checkSchema(b); err != nil {
		return err
	}
	if err := b.Put(keySchemaSum, boltfile.Sum(keySchema, ownSchema)); err != nil {
		return err
	}
	return b.Put(keySchema, ownSchema)
}

// ownSchema is the schema as it is written.
var ownSchema = strconv.AppendInt(nil, schema, 10)

// ErrNewer: the file was written by a newer agent.
var ErrNewer = errors.New("written by a newer agent")

// checkSchema refuses a file of a newer agent. A number whose checksum is wrong is
// damage, and says nothing.
func checkSchema(b *bbolt.Bucket) error {
	raw, sum := b.Get(keySchema), b.Get(keySchemaSum)
	if v, err := strconv.Atoi(string(raw)); err != nil || v <= schema {
		return nil
	}
	if sum != nil && !bytes.Equal(sum, boltfile.Sum(keySchema, raw)) {
		return nil
	}
	return fmt.Errorf("schema %q, this agent knows %d: %w", raw, schema, ErrNewer)
}

// decode reads a value that put wrote.
func decode(k, v []byte, into any) error {
	raw, err := boltfile.Unseal(k, v)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	return err
}

func (l *loader) network(k, v []byte) error {
	if len(k) != 16 {
		return nil
	}
	var n discovery.Network
	if err := decode(k, v, &n); err != nil {
		return err
	}
	if n.ID != discovery.NetworkID(k) {
		return fmt.Errorf("network %s: %w", n.ID, discovery.ErrMalformed)
	}
	nw := newNetwork(n)
	nw.begin()
	l.nets[n.ID] = nw
	return nil
}

// unknown returns a network, also one whose record is lost: a request that names it
// makes it known.
func (l *loader) unknown(id discovery.NetworkID) *network {
	if l.nets[id] == nil {
		l.nets[id] = newNetwork(discovery.Network{ID: id})
	}
	return l.nets[id]
}

// running takes the addresses of endpoints that run here and have no lease: the file
// is older than they are, or damaged. One that does not run loses its lease to them;
// what is lent stays lent.
func (l *loader) running(all []Owned) {
	runs := map[discovery.EndpointID]bool{}
	for _, o := range all {
		runs[o.Owner] = true
	}
	for _, o := range all {
		nw, a := l.unknown(o.Network), o.Addr.Addr()
		key := ownerKey{o.Owner, a.Is6()}
		if nw.owners[key] != nil {
			continue
		}
		if h := nw.held[a]; h != nil && (h.state != stateLeased || runs[h.owner]) {
			l.refuse(fmt.Sprintf("address %s", a), fmt.Errorf("endpoint %s runs with it, and it is not leased to it", o.Owner))
			continue
		} else if h != nil {
			delete(nw.owners, ownerKey{h.owner, a.Is6()})
		}
		if b := nw.blockOf(a); b != nil {
			b.takeThis(a)
		}
		h := &holding{addr: a, state: stateLeased, owner: o.Owner, seq: o.Seq}
		nw.held[a], nw.owners[key] = h, h
		l.ended = append(l.ended, putAddress(o.Network, a, h.record()))
		l.refuse(fmt.Sprintf("address %s", a), fmt.Errorf("endpoint %s runs with it, and its lease was lost: it is leased again", o.Owner))
	}
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
	if err := decode(k, v, &r); err != nil {
		return err
	}
	nw := l.nets[id]
	if nw == nil {
		return fmt.Errorf("network %s has no record", id)
	}
	p := netip.PrefixFrom(addr, int(k[len(k)-1]))
	subnet, ok := nw.spec().Covering(addr)
	if !ok || subnet.BlockOf(addr) != p {
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
	if err := decode(k, v, &r); err != nil {
		return err
	}
	if !slices.Contains([]addressState{stateLeased, stateLent, stateResting}, r.State) {
		return fmt.Errorf("state %q: %w", r.State, discovery.ErrMalformed)
	}
	nw := l.unknown(id)
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
		return discovery.ErrMalformed
	}
	g := &pendingReturn{number: binary.BigEndian.Uint64(k), tried: true}
	if err := decode(k, v, &g.what); err != nil {
		return err
	}
	l.number = max(l.number, g.number)
	nw := l.unknown(g.what.Network) // it may be dropped
	nw.returns[g.number] = g
	if g.what.Addr.IsValid() {
		nw.holdBack(g)
	}
	return nil
}
