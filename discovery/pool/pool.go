// Package pool keeps what the cluster must agree on in Consul's KV store: which
// networks, VNIs, address blocks and reserved addresses exist, and whose they
// are. It holds no state of its own beyond what it last read, and never learns
// who is alive.
package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// DefaultPrefix is where the cluster's keys stand unless told otherwise.
const DefaultPrefix = "weft/v1/"

// callLimit bounds every method but Watch: a server without a quorum holds a
// request for 7 s before it fails.
const callLimit = 5 * time.Second

// Config says where the store is. The usual CONSUL_HTTP_* variables of the
// environment stand for what is empty.
type Config struct {
	Address    string       // URL of Consul; "unix:///path" too
	HTTPClient *http.Client // of the embedded store; nil: the network
	Prefix     string       // of all keys; empty: DefaultPrefix
	Token      string       // for Consul's ACLs
	TokenFile  string       // read before each call, so that it can be replaced; wins over Token
	CAFile     string       // for https; empty: the system's
	Cluster    string       // the cluster's id; empty: that of the first meta read or written
	UserAgent  string       // named to the store; empty: Go's own
	Log        *slog.Logger // nil: slog.Default
}

// Pool is the cluster's store. All its methods may be called at once; each but
// Watch returns within 5 s. Errors wrap ErrUnavailable, ErrPermission,
// ErrOtherCluster, ErrNoCluster or ErrNewerSchema when the store is at fault,
// and what the method's comment names otherwise.
type Pool struct {
	client    *api.Client
	transport *http.Client
	where     string // for people
	prefix    string
	tokenFile string
	log       *slog.Logger

	mu      sync.Mutex
	cluster string // expected
	known   *stamp // meta as last read; nil: never
	callErr error  // outcome of the last call
	metaErr error  // of the last look at meta
}

// New returns a pool; it makes no call yet.
func New(cfg Config) (*Pool, error) {
	conf := api.DefaultConfig()
	if cfg.Address != "" {
		conf.Address = cfg.Address
	}
	if cfg.CAFile != "" {
		conf.TLSConfig.CAFile = cfg.CAFile
	}
	if cfg.Token != "" {
		conf.Token = cfg.Token
	}
	tokenFile := cfg.TokenFile
	if tokenFile == "" && cfg.Token == "" {
		tokenFile = os.Getenv(api.HTTPTokenFileEnvName)
	}
	at := where(cfg, conf.Address)
	hc, err := httpClient(cfg, conf)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", conf.Address, err)
	}
	conf.HttpClient = hc
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", conf.Address, err)
	}
	if cfg.UserAgent != "" {
		client.AddHeader("User-Agent", cfg.UserAgent)
	}
	p := &Pool{client: client, transport: hc, where: at, prefix: cfg.Prefix, tokenFile: tokenFile, cluster: cfg.Cluster, log: cfg.Log}
	if p.prefix == "" {
		p.prefix = DefaultPrefix
	}
	if p.log == nil {
		p.log = slog.Default()
	}
	return p, nil
}

// where names the store in errors.
func where(cfg Config, address string) string {
	if cfg.HTTPClient != nil {
		return "built-in store"
	}
	if u, err := url.Parse(address); err == nil {
		address = u.Redacted()
	}
	return "Consul at " + address
}

// httpClient is the client that conf asks for, with every answer judged once.
func httpClient(cfg Config, conf *api.Config) (*http.Client, error) {
	hc := cfg.HTTPClient
	if path, ok := strings.CutPrefix(conf.Address, "unix://"); ok && hc == nil {
		conf.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		conf.Address = "localhost"
	}
	if hc == nil {
		var err error
		if hc, err = api.NewHttpClient(conf.Transport, conf.TLSConfig); err != nil {
			return nil, err
		}
	}
	judged := *hc
	if judged.Transport == nil {
		judged.Transport = http.DefaultTransport
	}
	judged.Transport = judge{judged.Transport}
	return &judged, nil
}

// Close drops idle connections.
func (p *Pool) Close() { p.transport.CloseIdleConnections() }

// Healthy returns the outcome of the last call: nil, or an error that wraps
// ErrUnavailable, ErrPermission, ErrOtherCluster, ErrNoCluster or
// ErrNewerSchema.
func (p *Pool) Healthy() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.callErr != nil {
		return p.callErr
	}
	return p.metaErr
}

// note records whether the store answered a call, and passes err on, with the
// store's address in the place of the request's. An operation that lost a race
// has been answered.
func (p *Pool) note(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = fmt.Errorf("%s: %w", p.where, e.Err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, context.Canceled) {
		return err // our caller's doing
	}
	p.callErr = err
	return err
}

// noteMeta records what the last look at meta showed, and passes err on.
func (p *Pool) noteMeta(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.metaErr = err
	return err
}

// bound is the deadline of one method.
func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callLimit)
}
