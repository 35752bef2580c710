package embedded

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery/boltfile"
)

// writer commits transactions one after the other, but writes those that came
// while the disk was busy together: one fsync serves them all.
type writer struct {
	f       *file
	changed func(keys []string) // called after the commit

	mu    sync.Mutex
	queue []*job

	disk  sync.Mutex // held while a batch is written; guards tombs
	tombs int        // in the file
}

// errAborted is about a transaction of which nobody knows whether it is on the disk.
var errAborted = errors.New("the write was given up")

// job is one transaction on its way to the disk.
type job struct {
	ops     []op
	done    bool
	results []*entry
	failed  []opError
	err     error // of the disk: nothing is known of the outcome
	keys    []string
}

// writes reports whether an operation may change something.
func (j *job) writes() bool {
	return slices.ContainsFunc(j.ops, func(o op) bool {
		return o.Verb != verbGet && o.Verb != verbCheckIndex && o.Verb != verbCheckNotExists
	})
}

func newWriter(f *file, changed func([]string)) *writer {
	return &writer{f: f, changed: changed, tombs: f.tombstones()}
}

// do runs the operations and returns when the outcome is on the disk. All hold,
// or failed names those that do not and nothing was changed. A file system that takes
// no writes is a *boltfile.WriteError.
func (w *writer) do(ops []op) (results []*entry, failed []opError, err error) {
	j := &job{ops: ops}
	if w.f.ReadOnly != nil && j.writes() {
		return nil, nil, w.f.ReadOnly
	}
	w.mu.Lock()
	w.queue = append(w.queue, j)
	w.mu.Unlock()

	w.disk.Lock()
	defer w.disk.Unlock()
	if !j.done { // by whoever had the disk before us
		w.mu.Lock()
		batch := w.queue
		w.queue = nil
		w.mu.Unlock()
		w.write(batch)
	}
	return j.results, j.failed, j.err
}

// write commits a batch and wakes who waits for its keys.
func (w *writer) write(batch []*job) {
	err := w.commitCaught(batch)
	if full := boltfile.Unwritable(w.f.Path(), err); full != nil {
		err = full
	}
	if err != nil {
		w.tombs = w.f.tombstones()
	}
	var keys []string
	for _, j := range batch {
		j.done, j.err = true, err
		keys = append(keys, j.keys...)
	}
	if err == nil && len(keys) > 0 {
		w.changed(keys)
	}
}

// commitCaught makes an error of a panic: bbolt panics when a page is not as it was
// written, and who waits for the batch must not take silence for a success.
func (w *writer) commitCaught(batch []*job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errAborted, p)
		}
	}()
	return w.commit(batch)
}

func (w *writer) commit(batch []*job) error {
	tx, err := w.f.Begin(true)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	wrote := false
	for _, j := range batch {
		if err := w.run(tx, j); err != nil {
			return err
		}
		wrote = wrote || len(j.keys) > 0
	}
	if !wrote {
		return nil // reads, checks and lost races cost no fsync
	}
	return tx.Commit()
}

// run does one job inside the batch's transaction.
func (w *writer) run(tx *bbolt.Tx, j *job) error {
	index := getUint(tx.Bucket(bucketStore), keyIndex) + 1
	d := &draft{kv: tx.Bucket(bucketKV), index: index, changed: map[string]*entry{}}
	if j.results, j.failed = d.run(j.ops); j.failed != nil || len(d.changed) == 0 {
		return nil
	}
	j.keys = slices.Collect(maps.Keys(d.changed))
	grown, err := d.save(tx)
	if err != nil {
		return err
	}
	if w.tombs += grown; w.tombs <= tombLimit {
		return nil
	}
	w.tombs = 0
	return reap(tx, index)
}
