package agent

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/overlay"
)

// Local is what only this host needs to know of one of its own endpoints. It is
// written to the journal before the endpoint is announced, so that a restarted
// agent announces what really runs here.
type Local struct {
	Endpoint  discovery.Endpoint `json:"endpoint"`
	Container string             `json:"container,omitempty"` // the runtime's id of the container; empty for a bare namespace
	Docker    *DockerLocal       `json:"docker,omitempty"`    // of a container of Docker's
	Sandbox   string             `json:"sandbox,omitempty"`   // path of the network namespace; empty: the host itself, or Docker's business
	Cookie    uint64             `json:"cookie,omitempty"`    // the namespace's, SO_NETNS_COOKIE: a namespace made again under one path is another
	Boot      string             `json:"boot,omitempty"`      // of the machine when the cookie was read: another boot counts cookies anew
	Ifname    string             `json:"ifname,omitempty"`
	Addrs     []netip.Prefix     `json:"addrs"` // with the length of the subnet
	NoDefault bool               `json:"no_default,omitempty"`
	NoRoute   bool               `json:"no_route,omitempty"` // the user wants no default route through it, also when it could have it
	Labels    map[string]string  `json:"labels,omitempty"`
	Resolv    string             `json:"resolv,omitempty"` // name of the namespace whose resolv.conf we wrote
	Created   time.Time          `json:"created"`
	Ports     []overlay.Publish  `json:"ports,omitempty"` // of this host, that lead to the endpoint
}

// DockerLocal is what Docker calls an endpoint. Its sandbox may not be visible
// to the agent, and whether it lives is Docker's to say.
type DockerLocal struct {
	EndpointID string `json:"endpoint_id"`           // 64 hex digits
	NetworkID  string `json:"network_id"`            // of the Docker network, 64 hex digits
	SandboxKey string `json:"sandbox_key,omitempty"` // the same for all endpoints of a container; empty: it has not joined, or has left
}

// ofHost reports whether the endpoint is this host itself, not something that
// runs on it.
func (l Local) ofHost() bool { return l.Endpoint.Runtime == runtimeHost }

// sandboxKey is the same for all endpoints of one sandbox and for no others.
func (l Local) sandboxKey() string {
	switch {
	case l.Docker == nil:
		return strconv.FormatUint(l.Cookie, 16)
	case l.Docker.SandboxKey == "":
		return l.Docker.EndpointID
	}
	return l.Docker.SandboxKey
}

// lockKey is what requests for the endpoint wait for each other by.
func (l Local) lockKey() uint64 {
	if l.Docker != nil {
		return dockerLock(l.Docker.EndpointID)
	}
	return l.Cookie
}

// journal is the table of own endpoints: in memory for every reader, in
// leases.db for the next start.
type journal struct {
	disk *ipam.Disk

	mu     sync.Mutex
	locals map[discovery.EndpointID]Local
}

var localsBucket = []byte("locals")

// openJournal reads what an earlier start left.
func openJournal(disk *ipam.Disk) (*journal, error) {
	j := &journal{disk: disk, locals: map[discovery.EndpointID]Local{}}
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

// put writes one endpoint; it is on the disk when put returns nil.
func (j *journal) put(l Local) error { return j.change([]Local{l}) }

// remove forgets one endpoint; an unknown one is no error.
func (j *journal) remove(id discovery.EndpointID) error { return j.change(nil, id) }

// change writes endpoints and forgets others, all of it or nothing.
func (j *journal) change(put []Local, remove ...discovery.EndpointID) error {
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

func (j *journal) get(id discovery.EndpointID) (Local, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l, ok := j.locals[id]
	return l, ok
}

// all returns the endpoints sorted by id.
func (j *journal) all() []Local {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Local, 0, len(j.locals))
	for _, l := range j.locals {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Local) int { return strings.Compare(a.Endpoint.ID.String(), b.Endpoint.ID.String()) })
	return out
}

// find returns the endpoint in a sandbox's interface, so that attaching the
// same again returns the same.
func (j *journal) find(n discovery.NetworkID, cookie uint64, ifname string) (Local, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.locals {
		if l.Endpoint.Network == n && l.Cookie == cookie && l.Ifname == ifname {
			return l, true
		}
	}
	return Local{}, false
}

// ofDocker finds an endpoint by Docker's id.
func (j *journal) ofDocker(id string) (Local, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.locals {
		if l.Docker != nil && l.Docker.EndpointID == id {
			return l, true
		}
	}
	return Local{}, false
}

// viewDB is view.db: the last networks, peers and endpoint table, from which a
// restarted agent programs the kernel before anybody answers.
type viewDB struct{ db *bbolt.DB }

var (
	viewBucket  = []byte("view")
	viewGossip  = []byte("gossip")
	viewNetwork = []byte("networks")
)

func (v viewDB) load(key []byte) (out []byte) {
	_ = v.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(viewBucket); b != nil {
			out = slices.Clone(b.Get(key))
		}
		return nil
	})
	return out
}

func (v viewDB) save(key, value []byte) error {
	return v.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(viewBucket)
		if err != nil {
			return err
		}
		return b.Put(key, value)
	})
}

// openBolt opens a database file of the data directory. The lock is never
// waited for long: the data directory's own lock says who may open it.
func openBolt(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}
