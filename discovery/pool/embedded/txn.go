package embedded

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// op is one operation of a transaction, in the JSON shape of Consul.
type op struct {
	Verb    verb
	Key     string
	Value   []byte
	Flags   uint64
	Index   uint64
	Session string
}

type verb string

// The verbs that are served. Single writes and deletes are transactions of one.
const (
	verbGet            verb = "get"
	verbSet            verb = "set"
	verbCAS            verb = "cas"
	verbCheckIndex     verb = "check-index"
	verbCheckNotExists verb = "check-not-exists"
	verbDelete         verb = "delete"
	verbDeleteCAS      verb = "delete-cas"
	verbDeleteTree     verb = "delete-tree" // of DELETE ?recurse only
)

// served says whether a transaction may hold the verb.
func (v verb) served() bool {
	switch v {
	case verbGet, verbSet, verbCAS, verbCheckIndex, verbCheckNotExists, verbDelete, verbDeleteCAS:
		return true
	}
	return false
}

// opError is an operation that did not hold.
type opError struct {
	OpIndex int
	What    string
}

// draft is what one transaction has changed so far. Nothing of it reaches the
// file unless every operation of the transaction holds.
type draft struct {
	kv      *bbolt.Bucket
	index   uint64            // of its writes
	changed map[string]*entry // nil: deleted
}

// run does the operations in order. Like Consul it goes on after one that does
// not hold, so that the caller learns of all of them.
func (d *draft) run(ops []op) (results []*entry, failed []opError) {
	for i, o := range ops {
		switch e, err := d.do(o); {
		case err != nil:
			failed = append(failed, opError{i, err.Error()})
		case e != nil:
			results = append(results, e)
		}
	}
	if failed != nil {
		return nil, failed
	}
	return results, nil
}

func (d *draft) do(o op) (*entry, error) {
	if o.Key == "" && o.Verb != verbDeleteTree {
		return nil, errors.New("must provide key")
	}
	old := d.get(o.Key)
	switch o.Verb {
	case verbGet:
		if old == nil {
			return nil, fmt.Errorf("key %q doesn't exist", o.Key)
		}
		return old, nil
	case verbCheckIndex:
		if old == nil || old.ModifyIndex != o.Index {
			return nil, fmt.Errorf("failed index check for key %q: %s", o.Key, at(old))
		}
		return old.bare(), nil
	case verbCheckNotExists:
		if old != nil {
			return nil, fmt.Errorf("key %q exists", o.Key)
		}
		return nil, nil
	case verbSet, verbCAS:
		return d.set(o, old)
	case verbDelete, verbDeleteCAS:
		return nil, d.delete(o, old)
	case verbDeleteTree:
		d.deleteTree(o.Key)
		return nil, nil
	}
	return nil, fmt.Errorf("unknown verb %q", o.Verb)
}

func (d *draft) get(key string) *entry {
	if e, ok := d.changed[key]; ok {
		return e
	}
	return decode([]byte(key), d.kv.Get([]byte(key)))
}

// set writes a key. Equal contents keep their index: nobody is woken for them.
func (d *draft) set(o op, old *entry) (*entry, error) {
	if o.Verb == verbCAS && o.Index != old.index() {
		return nil, fmt.Errorf("failed to set key %q, index is stale: %s", o.Key, at(old))
	}
	if old != nil && old.Flags == o.Flags && bytes.Equal(old.Value, o.Value) {
		return old.bare(), nil
	}
	e := &entry{Key: o.Key, Flags: o.Flags, Value: o.Value, CreateIndex: d.index, ModifyIndex: d.index}
	if old != nil {
		e.CreateIndex = old.CreateIndex
	}
	d.changed[o.Key] = e
	return e.bare(), nil
}

// delete removes a key. A key that is missing is deleted already, whatever the
// index: Consul answers the same.
func (d *draft) delete(o op, old *entry) error {
	if old == nil {
		return nil
	}
	if o.Verb == verbDeleteCAS && o.Index != old.ModifyIndex {
		return fmt.Errorf("failed to delete key %q, index is stale: %s", o.Key, at(old))
	}
	d.changed[o.Key] = nil
	return nil
}

func (d *draft) deleteTree(prefix string) {
	each(d.kv, prefix, func(k, _ []byte) { d.changed[string(k)] = nil })
}

// index is 0 for a missing entry: cas with 0 creates only.
func (e *entry) index() uint64 {
	if e == nil {
		return 0
	}
	return e.ModifyIndex
}

// bare is the entry without its value, which is what writes and checks answer.
func (e *entry) bare() *entry {
	b := *e
	b.Value = nil
	return &b
}

// at says where a key stands, for errors.
func at(e *entry) string {
	if e == nil {
		return "key doesn't exist"
	}
	return fmt.Sprintf("current modify index %d", e.ModifyIndex)
}

// save writes the draft into the file's open transaction, and returns by how
// many the tombstones grew.
func (d *draft) save(tx *bbolt.Tx) (grown int, err error) {
	tombs, sums := tx.Bucket(bucketTombs), tx.Bucket(bucketSums)
	for key, e := range d.changed {
		k := []byte(key)
		if tombs.Get(k) != nil {
			grown--
		}
		if e == nil {
			grown++
			err = errors.Join(d.kv.Delete(k), sums.Delete(k), putUint(tombs, k, d.index))
		} else {
			// Its own index is newer than that of any deletion before.
			err = errors.Join(d.kv.Put(k, e.encode()), sums.Put(k, e.sum()), tombs.Delete(k))
		}
		if err != nil {
			return grown, fmt.Errorf("write %q: %w", key, err)
		}
	}
	return grown, putUint(tx.Bucket(bucketStore), keyIndex, d.index)
}

// reap drops all tombstones. From then on no list is answered with an index
// below that of this moment, so none goes back.
func reap(tx *bbolt.Tx, index uint64) error {
	if err := tx.DeleteBucket(bucketTombs); err != nil {
		return err
	}
	if _, err := tx.CreateBucket(bucketTombs); err != nil {
		return err
	}
	return putUint(tx.Bucket(bucketStore), keyFloor, index)
}
