package ipam

import (
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
)

// A record that is not whole stops nothing, and is gone at the next start.
func FuzzRecords(f *testing.F) {
	db, err := bbolt.Open(filepath.Join(f.TempDir(), "leases.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	disk := NewDisk(&boltfile.DB{DB: db})
	id := discovery.NetworkID{1}
	f.Add(id[:], []byte(`{"id":"01000000000000000000000000000000","subnets":[{"cidr":"10.64.0.0/20"}]}`), byte(0))
	f.Add(append(id[:], 10, 64, 0, 0, 24), []byte(`{"seq":1,"index":2,"state":"active"}`), byte(0))
	f.Add(append(id[:], 10, 64, 0, 2), []byte(`{"state":"leased","owner":"0000000000000001"}`), byte(1))
	f.Add(returnKey(1), []byte(`{"network":"01000000000000000000000000000000","addr":"10.64.0.9"}`), byte(2))
	f.Fuzz(func(t *testing.T, key, value []byte, bucket byte) {
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, name := range [][]byte{bucketBlocks, bucketAddresses, bucketReturns} {
				if tx.Bucket(name) != nil {
					if err := tx.DeleteBucket(name); err != nil {
						return err
					}
				}
			}
			if err := prepare(tx); err != nil {
				return err
			}
			return tx.Bucket([][]byte{bucketBlocks, bucketAddresses, bucketReturns}[bucket%3]).Put(key, value)
		})
		if err != nil {
			t.Skip()
		}
		refused := 0
		open := func() error {
			_, err := New(Config{Self: hostID(1), Disk: disk, View: func() discovery.View { return discovery.View{} },
				Refuse: func(string, error) { refused++ }})
			return err
		}
		if open() != nil {
			return // of a newer agent
		}
		refused = 0
		if err := open(); err != nil || refused > 0 {
			t.Errorf("again: %v, %d refused", err, refused)
		}
	})
}
