package datadir

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// View is view.db: the last networks, peers and endpoint table. From it a restarted
// agent programs the kernel before a member or the store answers.
type View struct{ DB *bbolt.DB }

// The keys of view.db.
var (
	ViewGossip   = []byte("gossip")
	ViewNetworks = []byte("networks")
)

var viewBucket = []byte("view")

// Load returns what was saved under a key; nil when nothing was.
func (v View) Load(key []byte) (out []byte) {
	_ = v.DB.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(viewBucket); b != nil {
			out = slices.Clone(b.Get(key))
		}
		return nil
	})
	return out
}

// Save replaces the value of a key. It is on the disk when Save returns nil.
func (v View) Save(key, value []byte) error {
	return v.DB.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(viewBucket)
		if err != nil {
			return err
		}
		return b.Put(key, value)
	})
}

// OpenDB opens a database file of the directory. The lock is never waited for
// long: the directory's own lock says who may open it.
func OpenDB(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}
