package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery/boltfile"
)

// View is view.db: the last networks, peers and endpoint table. From it a restarted
// agent programs the kernel before a member or the store answers. It is a cache: what
// is not whole is as if it were not there.
type View struct {
	DB     *boltfile.DB                   // nil: it cannot be opened, and nothing is kept
	Refuse func(source string, why error) // of a value that is not whole
}

// The keys of view.db.
var (
	ViewGossip   = []byte("gossip")
	ViewNetworks = []byte("networks")
	ViewOwn      = []byte("own")     // the journal, should leases.db be lost
	ViewHosts    = []byte("hosts")   // that the pool registers
	ViewHolders  = []byte("holders") // of disputed addresses
)

var errNoView = errors.New(ViewDB + " could not be opened when the agent started")

var (
	viewBucket = []byte("view")
	sumsBucket = []byte("sums") // key → checksum of its value
)

// Load returns what was saved under a key; nil when nothing was.
func (v View) Load(key []byte) (out []byte) {
	if v.DB == nil {
		return nil
	}
	_ = v.DB.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(viewBucket); b != nil {
			out = slices.Clone(b.Get(key))
		}
		if b := tx.Bucket(sumsBucket); out != nil && b != nil {
			if sum := b.Get(key); sum != nil && !bytes.Equal(sum, boltfile.Sum(key, out)) {
				v.Refuse(fmt.Sprintf("%s, %s", v.DB.Path(), key), boltfile.ErrDamaged)
				out = nil
			}
		}
		return nil
	})
	return out
}

// Save replaces the value of a key. It is on the disk when Save returns nil.
func (v View) Save(key, value []byte) error {
	switch {
	case v.DB == nil:
		return errNoView
	case v.DB.ReadOnly != nil:
		return v.DB.ReadOnly
	}
	err := v.DB.Update(func(tx *bbolt.Tx) error {
		sums, err := tx.CreateBucketIfNotExists(sumsBucket)
		if err != nil {
			return err
		}
		b, err := tx.CreateBucketIfNotExists(viewBucket)
		if err != nil {
			return err
		}
		return errors.Join(b.Put(key, value), sums.Put(key, boltfile.Sum(key, value)))
	})
	if why := boltfile.Unwritable(v.DB.Path(), err); why != nil {
		return why
	}
	return err
}

// lockWait is how long a database may be locked: the directory's own lock says who may
// open it.
const lockWait = 2 * time.Second

// OpenDB opens a database file of the directory (boltfile.Open).
func OpenDB(path string, keep boltfile.Keep) (*boltfile.DB, *boltfile.Damage, error) {
	return boltfile.Open(path, lockWait, keep)
}
