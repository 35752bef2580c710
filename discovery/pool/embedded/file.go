package embedded

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery/boltfile"
)

const schema = 1

// Buckets of the file, and the keys of the first.
var (
	bucketStore = []byte("store") // what is known of the file as a whole
	bucketKV    = []byte("kv")    // key -> entry
	bucketTombs = []byte("tombs") // deleted key -> index of its deletion
	bucketSums  = []byte("sums")  // key -> index of the write, checksum of the entry

	keySchema = []byte("schema")
	keyID     = []byte("id")
	keyIndex  = []byte("index") // of the last write; never goes back
	keyFloor  = []byte("floor") // of the last write when tombstones were dropped
)

// tombLimit bounds the tombstones in the file.
const tombLimit = 4096

// file is the open database. Whoever has it has its lock.
type file struct {
	*boltfile.DB
	id     string
	damage *boltfile.Damage // of the file that was here before; nil: none
}

// onlyID keeps of a damaged file which store it is. Half of its keys would be worse
// than none: the members notice that a store was wiped, and write back what they have.
// A file that is no database may be somebody else's: its path is given by the user.
func onlyID(c boltfile.Contents) (out boltfile.Contents, err error) {
	if c.Foreign {
		return out, boltfile.ErrForeign
	}
	for _, r := range c.Records {
		if _, err := hex.DecodeString(string(r.Value)); r.Bucket == string(bucketStore) && bytes.Equal(r.Key, keyID) && err == nil && len(r.Value) == 32 {
			out.Records = append(out.Records, r)
		}
	}
	return out, nil
}

// checkSums finds an entry that is not what was written. An earlier program writes no
// checksums: one that was made for another write than the entry's says nothing.
func checkSums(c boltfile.Contents) error {
	sums := map[string][]byte{}
	for _, r := range c.Records {
		if r.Bucket == string(bucketSums) {
			sums[string(r.Key)] = r.Value
		}
	}
	for _, r := range c.Records {
		if r.Bucket != string(bucketKV) {
			continue
		}
		e := decode(r.Key, r.Value)
		if e == nil {
			return fmt.Errorf("key %q: %w", r.Key, boltfile.ErrDamaged)
		}
		sum := sums[string(r.Key)]
		if len(sum) > 8 && binary.BigEndian.Uint64(sum) == e.ModifyIndex && !bytes.Equal(sum, e.sum()) {
			return fmt.Errorf("key %q: %w", r.Key, boltfile.ErrDamaged)
		}
	}
	return nil
}

// sum is what bucketSums has of an entry.
func (e entry) sum() []byte {
	return append(binary.BigEndian.AppendUint64(nil, e.ModifyIndex), boltfile.Sum([]byte(e.Key), e.encode())...)
}

// entry is one key, in the JSON shape of Consul.
type entry struct {
	LockIndex   uint64 // always 0: there are no sessions here
	Key         string
	Flags       uint64
	Value       []byte
	CreateIndex uint64
	ModifyIndex uint64
}

// openFile opens and locks the database, which is made if it is missing. The
// error is bbolt's ErrTimeout when another process has the lock. A whole file that
// cannot be written is served all the same, for who reads.
func openFile(name string) (*file, error) {
	// With a time that is shorter than bbolt's poll the lock is tried once.
	db, damage, err := boltfile.OpenChecked(name, time.Millisecond, checkSums, onlyID)
	if err != nil {
		return nil, err
	}
	f := &file{DB: db, damage: damage}
	if db.ReadOnly != nil && !f.made() {
		db.Close()
		return nil, db.ReadOnly
	}
	if err := db.Update(f.prepare); err != nil {
		db.Close()
		return nil, err
	}
	return f, nil
}

// made reports whether the file has all that prepare makes. What is left of a damaged
// store is none, and an empty one in memory would be taken for a wiped one.
func (f *file) made() (whole bool) {
	_ = f.View(func(tx *bbolt.Tx) error {
		store := tx.Bucket(bucketStore)
		whole = store != nil && store.Get(keySchema) != nil
		return nil
	})
	return whole
}

// prepare makes a new file's buckets and checks the schema of an old one.
func (f *file) prepare(tx *bbolt.Tx) error {
	store, err := tx.CreateBucketIfNotExists(bucketStore)
	if err != nil {
		return err
	}
	if store.Get(keySchema) == nil {
		if err := create(tx, store); err != nil {
			return err
		}
	}
	if _, err := tx.CreateBucketIfNotExists(bucketSums); err != nil {
		return err
	}
	if v := getUint(store, keySchema); v != schema {
		return fmt.Errorf("schema %d, this program knows %d", v, schema)
	}
	f.id = string(store.Get(keyID))
	return nil
}

func create(tx *bbolt.Tx, store *bbolt.Bucket) error {
	for _, name := range [][]byte{bucketKV, bucketTombs} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	if store.Get(keyID) == nil {
		var id [16]byte
		rand.Read(id[:])
		if err := store.Put(keyID, []byte(hex.EncodeToString(id[:]))); err != nil {
			return err
		}
	}
	// Clients take an index below 1 for a fault of the server.
	if err := putUint(store, keyIndex, 1); err != nil {
		return err
	}
	return putUint(store, keySchema, schema)
}

func getUint(b *bbolt.Bucket, key []byte) uint64 {
	if v := b.Get(key); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func putUint(b *bbolt.Bucket, key []byte, v uint64) error {
	return b.Put(key, binary.BigEndian.AppendUint64(nil, v))
}

// encode writes an entry: created, modified, flags, value.
func (e entry) encode() []byte {
	b := make([]byte, 0, 24+len(e.Value))
	b = binary.BigEndian.AppendUint64(b, e.CreateIndex)
	b = binary.BigEndian.AppendUint64(b, e.ModifyIndex)
	b = binary.BigEndian.AppendUint64(b, e.Flags)
	return append(b, e.Value...)
}

// decode reads what encode wrote, and copies it: bbolt's memory ends with its
// transaction. It is nil for the nil of a missing key.
func decode(key, b []byte) *entry {
	if len(b) < 24 {
		return nil
	}
	e := &entry{
		Key:         string(key),
		CreateIndex: binary.BigEndian.Uint64(b),
		ModifyIndex: binary.BigEndian.Uint64(b[8:]),
		Flags:       binary.BigEndian.Uint64(b[16:]),
	}
	if len(b) > 24 {
		e.Value = bytes.Clone(b[24:])
	}
	return e
}

// get reads one key and the index of the answer: the entry's, or the file's
// when there is none.
func (f *file) get(key string) (e *entry, index uint64, err error) {
	err = f.View(func(tx *bbolt.Tx) error {
		if e = decode([]byte(key), tx.Bucket(bucketKV).Get([]byte(key))); e != nil {
			index = e.ModifyIndex
		} else {
			index = getUint(tx.Bucket(bucketStore), keyIndex)
		}
		return nil
	})
	return e, index, err
}

// list reads the keys below a prefix, in order, and the index of the answer:
// the newest of the entries and of the deletions below the prefix, or the
// file's when there never were any.
func (f *file) list(prefix string) (out []*entry, index uint64, err error) {
	err = f.View(func(tx *bbolt.Tx) error {
		store, last := tx.Bucket(bucketStore), uint64(0)
		each(tx.Bucket(bucketKV), prefix, func(k, v []byte) {
			e := decode(k, v)
			out, last = append(out, e), max(last, e.ModifyIndex)
		})
		each(tx.Bucket(bucketTombs), prefix, func(_, v []byte) {
			last = max(last, binary.BigEndian.Uint64(v))
		})
		if last == 0 || prefix == "" {
			index = getUint(store, keyIndex)
		} else {
			index = max(last, getUint(store, keyFloor))
		}
		return nil
	})
	return out, index, err
}

// each calls fn for the keys of b below prefix, in order.
func each(b *bbolt.Bucket, prefix string, fn func(k, v []byte)) {
	p := []byte(prefix)
	c := b.Cursor()
	for k, v := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, v = c.Next() {
		fn(k, v)
	}
}

// tombstones counts them; 0 when the file is closed.
func (f *file) tombstones() (n int) {
	_ = f.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket(bucketTombs).Stats().KeyN
		return nil
	})
	return n
}
