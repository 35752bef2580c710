package ipam

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
)

// schema is the layout of our buckets. A file with a higher one was written by
// a newer agent and is refused: to guess at it could hand an address out twice.
const schema = 1

var (
	bucketBlocks    = []byte("blocks")    // network id → network; network id, prefix → block
	bucketAddresses = []byte("addresses") // network id, address → addressRecord
	bucketReturns   = []byte("returns")   // number → returnRecord
	keySchema       = []byte("schema")    // in bucketBlocks
	keySchemaSum    = []byte("schema_sum")
)

// addressRecord is what is written down of an address: it is ours to give, or
// we hold it of somebody else.
type addressRecord struct {
	State    addressState         `json:"state"`
	Owner    discovery.EndpointID `json:"owner,omitzero"`
	Host     discovery.HostID     `json:"host,omitzero"`     // lent: to whom; leased and reserved: the lender
	Reserved bool                 `json:"reserved,omitzero"` // the pool has a reservation of it under our id
	Seq      uint64               `json:"seq,omitzero"`
	Loan     uint64               `json:"loan,omitzero"`
}

type addressState string

const (
	stateLeased  addressState = "leased"
	stateLent    addressState = "lent"
	stateResting addressState = "resting"
)

// blockRecord is a block of ours; its network and prefix are its key.
type blockRecord struct {
	Seq   uint64 `json:"seq"`
	Index uint64 `json:"index"`
	State string `json:"state"`
}

// returnRecord is something to be given back: a block, or a reservation and
// the loan behind it.
type returnRecord struct {
	Network discovery.NetworkID `json:"network"`
	Block   netip.Prefix        `json:"block,omitzero"`
	Index   uint64              `json:"index,omitzero"`
	Seq     uint64              `json:"seq,omitzero"`
	Addr    netip.Addr          `json:"addr,omitzero"`
	V6      bool                `json:"v6,omitzero"`
	Lender  discovery.HostID    `json:"lender,omitzero"`
	Loan    uint64              `json:"loan,omitzero"`
}

// Change is one part of a transaction; it may run more than once.
type Change = func(*bbolt.Tx) error

// Disk commits changes to a file, for all who write to it. Those that come while a
// transaction is being synced share the next one, so a hundred parallel leases cost
// a handful of syncs, and one alone waits for nobody.
//
// A file system that takes no writes is a *boltfile.WriteError, here and for as long as
// the file is open. Nothing of the commit that failed is kept: what was promised to
// nobody needs no undoing at the next start.
type Disk struct {
	db     *boltfile.DB
	mu     sync.Mutex
	next   *batch               // waits for the file's write lock; nil: the next caller begins one
	failed *boltfile.WriteError // of the last commit; nil: it was taken
}

// NewDisk returns the Disk of an open file, which stays the caller's.
func NewDisk(db *boltfile.DB) *Disk { return &Disk{db: db, failed: db.ReadOnly} }

// DB is the file, for who reads it.
func (d *Disk) DB() *bbolt.DB { return d.db.DB }

// Failing is why the file takes no commits; nil: the last one was taken. After one that
// was not, another is tried with nothing in it.
func (d *Disk) Failing() *boltfile.WriteError {
	if d.failure() != nil && d.db.ReadOnly == nil {
		_ = d.Commit()
	}
	return d.failure()
}

func (d *Disk) failure() *boltfile.WriteError {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// errAborted is about changes of which nobody knows whether they are on the disk.
var errAborted = errors.New("the write was given up")

// Prepare makes what a part of the file needs, unless done says that it is there: a
// disk that takes nothing can be read all the same.
func (d *Disk) Prepare(done func(*bbolt.Tx) bool, prepare Change) error {
	there := false
	err := d.db.View(func(tx *bbolt.Tx) error { there = done(tx); return nil })
	if err == nil && !there {
		err = d.db.Update(prepare)
	}
	return err
}

type batch struct {
	changes []Change
	done    chan struct{}
	err     error
}

// Commit returns when the changes are on disk, all of them or none: with one that
// fails those that share its transaction fail too.
func (d *Disk) Commit(changes ...Change) error {
	if d.db.ReadOnly != nil {
		return d.db.ReadOnly
	}
	d.mu.Lock()
	b := d.next
	first := b == nil
	if first {
		b = &batch{done: make(chan struct{})}
		d.next = b
	}
	b.changes = append(b.changes, changes...)
	d.mu.Unlock()
	if first {
		d.write(b)
	}
	<-b.done
	return b.err
}

func (d *Disk) write(b *batch) {
	defer close(b.done)
	defer d.close(b)
	defer func() { // bbolt panics when a page is not as it was written
		if p := recover(); p != nil {
			b.err = fmt.Errorf("%w: %v", errAborted, p)
		}
	}()
	b.err = d.db.Update(func(tx *bbolt.Tx) error {
		d.close(b)
		for _, c := range b.changes {
			if err := c(tx); err != nil {
				return err
			}
		}
		return nil
	})
	d.note(b)
}

// note keeps why a batch was not taken.
func (d *Disk) note(b *batch) {
	failed := boltfile.Unwritable(d.db.Path(), b.err)
	if failed != nil {
		b.err = failed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = failed
}

// close lets nobody else join b.
func (d *Disk) close(b *batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next == b {
		d.next = nil
	}
}

func putAddress(n discovery.NetworkID, a netip.Addr, r addressRecord) Change {
	return put(bucketAddresses, addressKey(n, a), r)
}

func deleteAddress(n discovery.NetworkID, a netip.Addr) Change {
	return del(bucketAddresses, addressKey(n, a))
}

// forgetRest deletes the record of an address that has rested, unless it was
// leased in the meantime.
func forgetRest(n discovery.NetworkID, a netip.Addr) Change {
	return func(tx *bbolt.Tx) error {
		b, key := tx.Bucket(bucketAddresses), addressKey(n, a)
		var r addressRecord
		if raw := b.Get(key); raw == nil || decode(key, raw, &r) != nil || r.State != stateResting {
			return nil
		}
		return b.Delete(key)
	}
}

func putBlock(b discovery.Block) Change {
	return put(bucketBlocks, blockKey(b.Network, b.Prefix), blockRecord{Seq: b.Seq, Index: b.Index, State: b.State})
}

func deleteBlock(n discovery.NetworkID, p netip.Prefix) Change {
	return del(bucketBlocks, blockKey(n, p))
}

func putNetwork(n discovery.Network) Change { return put(bucketBlocks, n.ID[:], n) }

// putReturn also raises the bucket's sequence, so that a number is never used
// twice, not even after its record is gone.
func putReturn(number uint64, r returnRecord) Change {
	write := put(bucketReturns, returnKey(number), r)
	return func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucketReturns); b.Sequence() < number {
			if err := b.SetSequence(number); err != nil {
				return fmt.Errorf("number return %d: %w", number, err)
			}
		}
		return write(tx)
	}
}

func deleteReturn(number uint64) Change { return del(bucketReturns, returnKey(number)) }

// deleteNetwork removes the network, its blocks and its addresses.
func deleteNetwork(n discovery.NetworkID) Change {
	return func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketBlocks, bucketAddresses} {
			c := tx.Bucket(name).Cursor()
			for k, _ := c.Seek(n[:]); len(k) >= len(n) && discovery.NetworkID(k[:16]) == n; k, _ = c.Seek(n[:]) {
				if err := tx.Bucket(name).Delete(k); err != nil {
					return fmt.Errorf("delete %s of network %s: %w", name, n, err)
				}
			}
		}
		return nil
	}
}

func put(bucket, key []byte, value any) Change {
	return func(tx *bbolt.Tx) error {
		raw, err := json.Marshal(value)
		if err == nil {
			err = tx.Bucket(bucket).Put(key, boltfile.Seal(key, raw))
		}
		if err != nil {
			return fmt.Errorf("write %s/%x: %w", bucket, key, err)
		}
		return nil
	}
}

func del(bucket, key []byte) Change {
	return func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bucket).Delete(key); err != nil {
			return fmt.Errorf("delete %s/%x: %w", bucket, key, err)
		}
		return nil
	}
}

func addressKey(n discovery.NetworkID, a netip.Addr) []byte {
	return append(n[:len(n):len(n)], a.AsSlice()...)
}

func blockKey(n discovery.NetworkID, p netip.Prefix) []byte {
	return append(addressKey(n, p.Addr()), byte(p.Bits()))
}

func returnKey(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// splitAddressKey is the inverse of addressKey.
func splitAddressKey(k []byte) (n discovery.NetworkID, a netip.Addr, err error) {
	if len(k) < 16 {
		return n, a, fmt.Errorf("key %x: %w", k, discovery.ErrMalformed)
	}
	a, ok := netip.AddrFromSlice(k[16:])
	if !ok {
		return n, a, fmt.Errorf("key %x: %w", k, discovery.ErrMalformed)
	}
	return discovery.NetworkID(k[:16]), a, nil
}
