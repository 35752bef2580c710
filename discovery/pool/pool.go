// Package pool keeps what the cluster must agree on in Consul's KV store: which
// hosts, networks, VNIs, address blocks and reserved addresses exist, and whose
// they are. It holds no state of its own beyond what it last read, and never
// learns who is alive.
package pool

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/weft-net/weft/discovery/strict"
)

// defaultPrefix is where the cluster's keys stand unless told otherwise.
const defaultPrefix = "weft/v1/"

// Config says where the store is. The usual CONSUL_HTTP_* variables of the
// environment stand for what is empty.
type Config struct {
	Address    string         // URL of Consul, "unix:///path" too; of several, with commas between, one is asked until it does not answer
	HTTPClient *http.Client   // of the embedded store; nil: the network
	Prefix     string         // of all keys; empty: "weft/v1/"
	Token      string         // for Consul's ACLs
	TokenFile  string         // read before each call, so that it can be replaced; wins over Token
	CAFile     string         // for https; empty: the system's
	Cluster    string         // the cluster's id; empty: that of the first meta read or written
	UserAgent  string         // named to the store; empty: Go's own
	Socket     string         // of the embedded store, for people; empty: it has none
	Refused    *strict.Ledger // of keys that are not ours; nil: nobody is told
	Log        *slog.Logger   // nil: slog.Default
}

// Pool is the cluster's store. Each part has one subject and can be used by
// itself; all share one client, one look at the cluster's meta and one health.
// All methods may be called at once; each but Watch returns within 5 s. Errors
// wrap ErrUnavailable, ErrPermission, ErrOtherCluster, ErrNoCluster or
// ErrNewerSchema when the store is at fault, and what the method's comment
// names otherwise.
type Pool struct {
	*ClusterRecords
	*NetworkRecords
	*BlockRecords
	*WriteBack
	store *store
}

// New returns a pool; it makes no call yet.
func New(cfg Config) (*Pool, error) {
	s, err := newStore(cfg)
	if err != nil {
		return nil, err
	}
	cluster, networks := &ClusterRecords{store: s}, &NetworkRecords{store: s}
	blocks := &BlockRecords{store: s, cluster: cluster}
	return &Pool{
		ClusterRecords: cluster,
		NetworkRecords: networks,
		BlockRecords:   blocks,
		WriteBack:      &WriteBack{store: s, cluster: cluster, networks: networks, blocks: blocks},
		store:          s,
	}, nil
}

// Close drops idle connections.
func (p *Pool) Close() { p.store.transport.CloseIdleConnections() }

// UseAddress has another Consul asked from now on, or several, as Config.Address. It
// must be the same store; nothing of another cluster is ever read or written.
func (p *Pool) UseAddress(address string) error {
	if p.store.servers == nil {
		return fmt.Errorf("the built-in store has no address: %w", ErrInvalid)
	}
	return p.store.servers.use(address)
}

// Address is where the store is asked, as Config.Address; empty: it is the built-in
// one.
func (p *Pool) Address() string {
	if p.store.servers == nil {
		return ""
	}
	return p.store.servers.addresses()
}

// Healthy returns the outcome of the last call: nil, or an error that wraps
// ErrUnavailable, ErrPermission, ErrOtherCluster, ErrNoCluster or
// ErrNewerSchema.
func (p *Pool) Healthy() error { return p.store.healthy() }
