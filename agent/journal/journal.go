// Package journal keeps this host's own endpoints: in memory for its readers, on
// the disk for the next start of the agent. It decides nothing.
package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/ipam"
)

// Journal is the table of own endpoints. It is safe for concurrent use.
type Journal struct {
	disk *ipam.Disk

	mu      sync.Mutex
	locals  map[discovery.EndpointID]Local
	ended   map[discovery.EndpointID]bool // whose interface may still be there
	changes uint64                        // counts those of locals
}

var (
	localsBucket = []byte("locals") // endpoint id → Local
	endedBucket  = []byte("ended")  // endpoint id → nothing
)

// Open reads what an earlier start left. It calls refuse for each entry that is not
// whole, and deletes it.
func Open(disk *ipam.Disk, refuse func(source string, why error)) (*Journal, error) {
	j := &Journal{disk: disk, locals: map[discovery.EndpointID]Local{}, ended: map[discovery.EndpointID]bool{}}
	var torn []ipam.Change
	err := disk.Prepare(func(tx *bbolt.Tx) bool { return tx.Bucket(localsBucket) != nil && tx.Bucket(endedBucket) != nil }, prepare)
	if err == nil {
		err = disk.DB().View(func(tx *bbolt.Tx) error {
			torn = j.read(tx, refuse)
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", disk.DB().Path(), err)
	}
	if len(torn) > 0 {
		if err := disk.Commit(torn...); err != nil {
			refuse(disk.DB().Path(), err) // it is the same at the next start
		}
	}
	return j, nil
}

func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{localsBucket, endedBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// read fills the table, and returns how to delete what is not whole.
func (j *Journal) read(tx *bbolt.Tx, refuse func(source string, why error)) (torn []ipam.Change) {
	_ = tx.Bucket(localsBucket).ForEach(func(k, v []byte) error {
		l, err := decode(k, v)
		if err != nil {
			refuse(fmt.Sprintf("%s, endpoint %x", tx.DB().Path(), k), err)
			key := bytes.Clone(k)
			torn = append(torn, func(tx *bbolt.Tx) error { return tx.Bucket(localsBucket).Delete(key) })
			return nil
		}
		j.locals[l.Endpoint.ID] = l
		return nil
	})
	_ = tx.Bucket(endedBucket).ForEach(func(k, _ []byte) error {
		if len(k) == len(discovery.EndpointID{}) {
			j.ended[discovery.EndpointID(k)] = true
		}
		return nil
	})
	return torn
}

// decode reads what Change wrote.
func decode(k, v []byte) (l Local, err error) {
	raw, err := boltfile.Unseal(k, v)
	if err == nil {
		err = json.Unmarshal(raw, &l)
	}
	if err == nil {
		err = l.check()
	}
	if err == nil && !bytes.Equal(k, l.Endpoint.ID[:]) {
		err = fmt.Errorf("it says that it is %s: %w", l.Endpoint.ID, discovery.ErrMalformed)
	}
	return l, err
}

// Path is the file.
func (j *Journal) Path() string { return j.disk.DB().Path() }

// Adopt takes endpoints into the table that run whatever the disk says: an error means
// that they are only here.
func (j *Journal) Adopt(all []Local) error {
	if len(all) == 0 {
		return nil
	}
	err := j.Change(all)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range all {
		j.locals[l.Endpoint.ID] = l
	}
	return err
}

// Put writes one endpoint; it is on the disk when Put returns nil.
func (j *Journal) Put(l Local) error { return j.Change([]Local{l}) }

// Remove forgets one endpoint; an unknown one is no error.
func (j *Journal) Remove(id discovery.EndpointID) error { return j.Change(nil, id) }

// Change writes endpoints and forgets others, all of it or nothing.
func (j *Journal) Change(put []Local, remove ...discovery.EndpointID) error {
	var changes []ipam.Change
	put = j.numbered(put)
	for _, l := range put {
		v, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		v = boltfile.Seal(l.Endpoint.ID[:], v)
		changes = append(changes, func(tx *bbolt.Tx) error { return tx.Bucket(localsBucket).Put(l.Endpoint.ID[:], v) })
	}
	for _, id := range remove {
		changes = append(changes, func(tx *bbolt.Tx) error {
			if err := tx.Bucket(endedBucket).Put(id[:], []byte{1}); err != nil {
				return err
			}
			return tx.Bucket(localsBucket).Delete(id[:])
		})
	}
	if err := j.disk.Commit(changes...); err != nil {
		return fmt.Errorf("journal %s: %w", j.disk.DB().Path(), err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range put {
		j.locals[l.Endpoint.ID] = l
	}
	for _, id := range remove {
		delete(j.locals, id)
		j.ended[id] = true
	}
	j.changes++
	return nil
}

// numbered returns entries that count one write more than what is there.
func (j *Journal) numbered(all []Local) []Local {
	j.mu.Lock()
	defer j.mu.Unlock()
	all = slices.Clone(all)
	for i, l := range all {
		all[i].Rev = max(l.Rev, j.locals[l.Endpoint.ID].Rev) + 1
	}
	return all
}

// Changes counts the changes since the journal was opened.
func (j *Journal) Changes() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changes
}

// Ended reports whether an endpoint was removed, and its interface may still be there.
// An interface that is neither here nor in the table is of an endpoint that a damaged
// or older file has forgotten.
func (j *Journal) Ended(id discovery.EndpointID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ended[id]
}

// Bury forgets the ended endpoints that are not plugged.
func (j *Journal) Bury(plugged func(discovery.EndpointID) bool) error {
	j.mu.Lock()
	var gone []discovery.EndpointID
	for id := range j.ended {
		if !plugged(id) {
			gone = append(gone, id)
		}
	}
	j.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	err := j.disk.Commit(func(tx *bbolt.Tx) error {
		for _, id := range gone {
			if err := tx.Bucket(endedBucket).Delete(id[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.disk.DB().Path(), err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range gone {
		delete(j.ended, id)
	}
	return nil
}

// Get returns one endpoint; false: this host has none of that id.
func (j *Journal) Get(id discovery.EndpointID) (Local, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l, ok := j.locals[id]
	return l, ok
}

// All returns the endpoints sorted by id.
func (j *Journal) All() []Local {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Local, 0, len(j.locals))
	for _, l := range j.locals {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Local) int { return bytes.Compare(a.Endpoint.ID[:], b.Endpoint.ID[:]) })
	return out
}

// Find returns the endpoint in a sandbox's interface, so that attaching the
// same again returns the same.
func (j *Journal) Find(n discovery.NetworkID, cookie uint64, ifname string) (Local, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.locals {
		if l.Endpoint.Network == n && l.Cookie == cookie && l.Ifname == ifname {
			return l, true
		}
	}
	return Local{}, false
}

// OfDocker finds an endpoint by Docker's id.
func (j *Journal) OfDocker(id string) (Local, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.locals {
		if l.Docker != nil && l.Docker.EndpointID == id {
			return l, true
		}
	}
	return Local{}, false
}
