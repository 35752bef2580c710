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
	"github.com/weft-net/weft/discovery/ipam"
)

// Journal is the table of own endpoints. It is safe for concurrent use.
type Journal struct {
	disk *ipam.Disk

	mu     sync.Mutex
	locals map[discovery.EndpointID]Local
}

var localsBucket = []byte("locals")

// Open reads what an earlier start left.
func Open(disk *ipam.Disk) (*Journal, error) {
	j := &Journal{disk: disk, locals: map[discovery.EndpointID]Local{}}
	err := disk.DB().Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(localsBucket)
		if err != nil {
			return err
		}
		return b.ForEach(func(k, v []byte) error {
			var l Local
			if err := json.Unmarshal(v, &l); err != nil {
				return fmt.Errorf("endpoint %x: %w", k, err)
			}
			j.locals[l.Endpoint.ID] = l
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", disk.DB().Path(), err)
	}
	return j, nil
}

// Put writes one endpoint; it is on the disk when Put returns nil.
func (j *Journal) Put(l Local) error { return j.Change([]Local{l}) }

// Remove forgets one endpoint; an unknown one is no error.
func (j *Journal) Remove(id discovery.EndpointID) error { return j.Change(nil, id) }

// Change writes endpoints and forgets others, all of it or nothing.
func (j *Journal) Change(put []Local, remove ...discovery.EndpointID) error {
	var changes []ipam.Change
	for _, l := range put {
		v, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		changes = append(changes, func(tx *bbolt.Tx) error { return tx.Bucket(localsBucket).Put(l.Endpoint.ID[:], v) })
	}
	for _, id := range remove {
		changes = append(changes, func(tx *bbolt.Tx) error { return tx.Bucket(localsBucket).Delete(id[:]) })
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
