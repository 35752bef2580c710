// Package book answers a Docker engine for this host: it knows which network each
// Docker network stands for, which addresses Docker asked for and did not take up
// yet, and which endpoints it no longer lists. Package endpoint makes and removes
// the endpoints.
package book

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/journal"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/ipam"
)

// Config is what a Book is made of.
type Config struct {
	Disk      *ipam.Disk
	Journal   *journal.Journal
	Networks  *networks.Registry
	Maker     *networks.Maker
	Endpoints *endpoint.Manager
	Leases    endpoint.Leases
	Resolvers endpoint.Resolvers
	// Explain turns an error of the parts into the one that people read.
	Explain func(what string, err error) error
	Log     *slog.Logger
}

// Book is what Docker has of one membership of this host. Which network each Docker
// network stands for is in leases.db: Docker says it once, when the network is
// made. The rest is in memory only: it is about things that Docker leaves half
// done.
type Book struct {
	Config
	steps    *endpoint.Steps
	claiming sync.Mutex // held from the look at a lease to what becomes of it

	mu        sync.Mutex
	objects   map[string]discovery.NetworkID     // networks by Docker's id
	declared  map[string]string                  // subnets of the Docker networks that the cluster gets from here, by Docker's id
	unclaimed map[discovery.EndpointID]time.Time // leases without endpoint, since when
	missing   map[discovery.EndpointID]time.Time // endpoints that Docker did not list, since when
	given     map[place]bool                     // addresses that containers have by --ip, running or not; nil: not heard yet
}

// The buckets of leases.db: what each Docker network stands for with a checksum of that,
// and the subnet with which Docker was told to make it, if the cluster did not have it.
var (
	objectsBucket  = []byte("docker_networks")
	sumsBucket     = []byte("docker_networks_sum")
	declaredBucket = []byte("docker_declared")
)

// Open reads what an earlier start left. Before Use only Serves and Objects may be
// called. It calls refuse for what is not whole: Docker's list says it again.
func Open(disk *ipam.Disk, refuse func(source string, why error)) (*Book, error) {
	b := &Book{objects: map[string]discovery.NetworkID{}, declared: map[string]string{},
		unclaimed: map[discovery.EndpointID]time.Time{}, missing: map[discovery.EndpointID]time.Time{}}
	b.Disk = disk
	err := disk.Prepare(prepared, prepare)
	if err == nil {
		err = disk.DB().View(func(tx *bbolt.Tx) error { return b.read(tx, refuse) })
	}
	if err != nil {
		return nil, fmt.Errorf("docker networks %s: %w", disk.DB().Path(), err)
	}
	return b, nil
}

func (b *Book) read(tx *bbolt.Tx, refuse func(source string, why error)) error {
	err := tx.Bucket(declaredBucket).ForEach(func(k, v []byte) error {
		if _, err := netip.ParsePrefix(string(v)); err != nil {
			refuse(fmt.Sprintf("%s, subnet of docker network %q", tx.DB().Path(), k), err)
			return nil
		}
		b.declared[string(k)] = string(v)
		return nil
	})
	if err != nil {
		return err
	}
	sums := tx.Bucket(sumsBucket)
	return tx.Bucket(objectsBucket).ForEach(func(k, v []byte) error {
		id, err := decode(k, v, sums.Get(k))
		if err != nil {
			refuse(fmt.Sprintf("%s, docker network %q", tx.DB().Path(), k), err)
			return nil
		}
		b.objects[string(k)] = id
		return nil
	})
}

var buckets = [][]byte{objectsBucket, sumsBucket, declaredBucket}

// prepared reports whether the buckets are there.
func prepared(tx *bbolt.Tx) bool {
	return !slices.ContainsFunc(buckets, func(name []byte) bool { return tx.Bucket(name) == nil })
}

func prepare(tx *bbolt.Tx) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a network id. An earlier agent wrote no checksum.
func decode(k, v, sum []byte) (id discovery.NetworkID, err error) {
	if sum != nil && !bytes.Equal(sum, boltfile.Sum(k, v)) {
		return id, boltfile.ErrDamaged
	}
	return id, id.UnmarshalText(v)
}

// Use gives the Book the rest of the membership. cfg.Disk is that of Open.
func (b *Book) Use(cfg Config) {
	b.Config, b.steps = cfg, cfg.Endpoints.Steps()
}

// adopt is on the disk when it returns nil.
func (b *Book) adopt(dockerID string, id discovery.NetworkID) error {
	err := b.Disk.Commit(func(tx *bbolt.Tx) error {
		k, v := []byte(dockerID), []byte(id.String())
		return errors.Join(tx.Bucket(objectsBucket).Put(k, v), tx.Bucket(sumsBucket).Put(k, boltfile.Sum(k, v)))
	})
	if err != nil {
		return fmt.Errorf("docker networks %s: %w", b.Disk.DB().Path(), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[dockerID] = id
	return nil
}

// declare is on the disk when it returns nil.
func (b *Book) declare(dockerID, subnet string) error {
	err := b.Disk.Commit(func(tx *bbolt.Tx) error { return tx.Bucket(declaredBucket).Put([]byte(dockerID), []byte(subnet)) })
	if err != nil {
		return fmt.Errorf("docker networks %s: %w", b.Disk.DB().Path(), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.declared[dockerID] = subnet
	return nil
}

// drop forgets a Docker network; an unknown one is no error.
func (b *Book) drop(dockerID string) error {
	err := b.Disk.Commit(func(tx *bbolt.Tx) error {
		k := []byte(dockerID)
		return errors.Join(tx.Bucket(objectsBucket).Delete(k), tx.Bucket(sumsBucket).Delete(k), tx.Bucket(declaredBucket).Delete(k))
	})
	if err != nil {
		return fmt.Errorf("docker networks %s: %w", b.Disk.DB().Path(), err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, dockerID)
	delete(b.declared, dockerID)
	return nil
}

// ofPool is the network of a pool of Docker's: its id is the network's, or the subnet
// of the Docker network that the cluster got from here.
func (b *Book) ofPool(pool string) (id discovery.NetworkID, ok bool) {
	if id.UnmarshalText([]byte(pool)) == nil {
		return id, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for dockerID, subnet := range b.declared {
		if subnet != pool {
			continue
		}
		if id, ok = b.objects[dockerID]; ok {
			return id, true
		}
	}
	return discovery.NetworkID{}, false
}

// Objects returns the Docker networks and what they stand for.
func (b *Book) Objects() map[string]discovery.NetworkID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.objects)
}

// Serves reports whether Docker has a network of that id.
func (b *Book) Serves(id discovery.NetworkID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.objects {
		if n == id {
			return true
		}
	}
	return false
}
