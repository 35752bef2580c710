package agent

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
)

// dockerBook is which network each Docker network of this host stands for, in
// leases.db: Docker says it once, when the network is made. The rest is for
// things that Docker leaves half done, and is begun anew at each start.
type dockerBook struct {
	disk *ipam.Disk

	claiming sync.Mutex // held from the look at a lease to what becomes of it

	mu        sync.Mutex
	networks  map[string]discovery.NetworkID     // by Docker's id
	unclaimed map[discovery.EndpointID]time.Time // leases without endpoint, since when
	missing   map[discovery.EndpointID]time.Time // endpoints that Docker did not list, since when
}

var dockerBucket = []byte("docker_networks")

func openDockerBook(disk *ipam.Disk) (*dockerBook, error) {
	b := &dockerBook{disk: disk, networks: map[string]discovery.NetworkID{},
		unclaimed: map[discovery.EndpointID]time.Time{}, missing: map[discovery.EndpointID]time.Time{}}
	err := disk.DB().Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(dockerBucket)
		if err != nil {
			return err
		}
		return bucket.ForEach(func(k, v []byte) error {
			var id discovery.NetworkID
			if err := id.UnmarshalText(v); err != nil {
				return fmt.Errorf("docker network %s: %w", k, err)
			}
			b.networks[string(k)] = id
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("docker networks %s: %w", disk.DB().Path(), err)
	}
	return b, nil
}

// adopt is on the disk when it returns nil.
func (b *dockerBook) adopt(dockerID string, id discovery.NetworkID) error {
	err := b.disk.Commit(func(tx *bbolt.Tx) error { return tx.Bucket(dockerBucket).Put([]byte(dockerID), []byte(id.String())) })
	if err != nil {
		return fmt.Errorf("docker networks %s: %w", b.disk.DB().Path(), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.networks[dockerID] = id
	return nil
}

// drop forgets a Docker network; an unknown one is no error.
func (b *dockerBook) drop(dockerID string) error {
	err := b.disk.Commit(func(tx *bbolt.Tx) error { return tx.Bucket(dockerBucket).Delete([]byte(dockerID)) })
	if err != nil {
		return fmt.Errorf("docker networks %s: %w", b.disk.DB().Path(), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.networks, dockerID)
	return nil
}

// all returns the Docker networks and what they stand for.
func (b *dockerBook) all() map[string]discovery.NetworkID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.networks)
}

// serves reports whether Docker has a network of that id.
func (b *dockerBook) serves(id discovery.NetworkID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.networks {
		if n == id {
			return true
		}
	}
	return false
}
