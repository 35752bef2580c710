package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/strict"
)

// callLimit bounds every method but Watch: a server without a quorum holds a
// request for 7 s before it fails.
const callLimit = 5 * time.Second

// store is the one client of all parts of a pool. It knows keys and the guard of
// every write, meta, and nothing of what the other keys mean.
type store struct {
	client    *api.Client
	transport *http.Client
	servers   *servers // of Consul; nil: it is the embedded store
	count     *counters
	prefix    string
	tokenFile string
	log       *slog.Logger
	refusals  *refusals

	mu      sync.Mutex // guards what is below
	cluster string     // expected; empty: that of the first meta read
	known   *stamp     // meta as last read; nil: never
	callErr error      // outcome of the last call
	metaErr error      // of the last look at meta
}

func newStore(cfg Config) (*store, error) {
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
	hc, all, err := httpClient(cfg, conf)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", conf.Address, err)
	}
	count := &counters{}
	hc.Transport = counting{hc.Transport, count}
	conf.HttpClient = hc
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", conf.Address, err)
	}
	if cfg.UserAgent != "" {
		client.AddHeader("User-Agent", cfg.UserAgent)
	}
	s := &store{count: count, client: client, transport: hc, servers: all, prefix: cfg.Prefix, tokenFile: tokenFile, cluster: cfg.Cluster, log: cfg.Log}
	if s.prefix == "" {
		s.prefix = defaultPrefix
	}
	s.refusals = &refusals{ledger: cfg.Refused, prefix: s.prefix, remove: s.deletion(cfg.Socket), all: map[string]strict.Refused{}}
	if s.log == nil {
		s.log = slog.Default()
	}
	return s, nil
}

// healthy is the outcome of the last call.
func (s *store) healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.callErr != nil {
		return s.callErr
	}
	return s.metaErr
}

// note records whether the store answered a call, and passes err on, with the
// store's address in the place of the request's. An operation that lost a race
// has been answered.
func (s *store) note(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if notJSON(err) {
		err = fmt.Errorf("%s answers with something else: %w: %w", s.name(), ErrNotConsul, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, context.Canceled) {
		return err // our caller's doing
	}
	s.callErr = err
	return err
}

// name names the store in errors.
func (s *store) name() string {
	if s.servers == nil {
		return "built-in store"
	}
	now, _ := s.servers.current()
	return now.name
}

// notJSON reports whether an answer could not be decoded.
func notJSON(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	return !errors.Is(err, ErrUnavailable) && (syntax || kind || errors.Is(err, io.ErrUnexpectedEOF))
}

// noteMeta records what the last look at meta showed, and passes err on.
func (s *store) noteMeta(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metaErr = err
	return err
}

// bound is the deadline of one method.
func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callLimit)
}

// token is what TokenFile holds now, or empty for the client's own.
func (s *store) token() (string, error) {
	if s.tokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(s.tokenFile)
	if err != nil {
		return "", fmt.Errorf("%w: read token: %w", ErrPermission, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// try calls fn until the store answers or ctx ends. A leader election is over
// within the deadline, and so is the takeover of the embedded store. tries
// tells whether an earlier one may have been committed without an answer.
func (s *store) try(ctx context.Context, fn func(q *api.QueryOptions) error) (tries int, err error) {
	wait := pace.Backoff{First: 50 * time.Millisecond, Most: time.Second}
	for {
		tries++
		token, err := s.token()
		if err == nil {
			err = s.once(ctx, token, fn)
		}
		_, others := s.others()
		if err = s.note(err); err == nil || !errors.Is(err, ErrUnavailable) && (!errors.Is(err, ErrNotConsul) || tries > others) {
			return tries, err
		}
		if !pace.Sleep(ctx, pace.Jitter(wait.Failed())) {
			return tries, err
		}
	}
}

// once makes one try. With several servers one that hangs has no more than its part of
// the time.
func (s *store) once(ctx context.Context, token string, fn func(q *api.QueryOptions) error) error {
	if limit, others := s.others(); others > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return fn((&api.QueryOptions{Token: token}).WithContext(ctx))
}

// others is how many more servers can be asked, and how long each may take.
func (s *store) others() (limit time.Duration, count int) {
	if s.servers == nil {
		return callLimit, 0
	}
	_, all := s.servers.current()
	return max(callLimit/time.Duration(all+1), time.Second), all - 1
}

// get reads a key as it stands; nil when it is missing, which says nothing
// before meta was looked at.
func (s *store) get(ctx context.Context, key string) (pair *api.KVPair, err error) {
	_, err = s.try(ctx, func(q *api.QueryOptions) error {
		pair, _, err = s.client.KV().Get(s.prefix+key, q)
		return err
	})
	if pair != nil {
		pair.Key = key
	}
	return pair, err
}

// lookup reads a key. It is nil only when our cluster's store does not have it.
func (s *store) lookup(ctx context.Context, key string) (*api.KVPair, error) {
	pair, err := s.get(ctx, key)
	if err != nil || pair != nil {
		return pair, err
	}
	_, err = s.checkMeta(ctx)
	return nil, err
}

// list reads the keys of a folder of our cluster's store, and of no other. It is empty
// only when that has none: a token that may not read the folder makes it look empty
// too.
func (s *store) list(ctx context.Context, folder string) (pairs api.KVPairs, err error) {
	var qm *api.QueryMeta
	_, err = s.try(ctx, func(q *api.QueryOptions) error {
		pairs, qm, err = s.client.KV().List(s.prefix+folder, q)
		return s.whole(pairs, err)
	})
	switch {
	case err != nil:
		return nil, err
	case qm.ResultsFilteredByACLs:
		return nil, s.note(fmt.Errorf("list %s: %w", folder, ErrPermission))
	}
	return s.relative(pairs), s.ours(ctx, folder, len(pairs) == 0)
}

// ours is nil when a list that was just read is our cluster's, and an empty one is
// empty. An old Consul leaves out of a list, without a word, what the token may not
// read, but refuses to read one key.
func (s *store) ours(ctx context.Context, folder string, empty bool) error {
	if _, err := s.checkMeta(ctx); err != nil || !empty {
		return err
	}
	_, err := s.get(ctx, folder+"-probe")
	return err
}

// whole is err, or an error about a list that Consul never sends.
func (s *store) whole(pairs api.KVPairs, err error) error {
	if err == nil && slices.Contains(pairs, nil) {
		return fmt.Errorf("%s answers with null in a list: %w", s.name(), ErrNotConsul)
	}
	return err
}

// relative cuts the prefix off the keys.
func (s *store) relative(pairs api.KVPairs) api.KVPairs {
	for _, kv := range pairs {
		kv.Key = strings.TrimPrefix(kv.Key, s.prefix)
	}
	return pairs
}

// blocking asks for a folder and waits until its index is above the given one.
// Any server may answer: the next answer will be newer. early: the time to wait
// was not over.
func (s *store) blocking(ctx context.Context, folder string, above uint64) (pairs api.KVPairs, index uint64, early bool, err error) {
	wait := watchWait + rand.N(watchJitter)
	// The server adds a sixteenth of its own; a connection that died without a
	// word must end too.
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+callLimit)
	defer cancel()
	token, err := s.token()
	if err != nil {
		return nil, 0, false, s.note(err)
	}
	// A server that lags must not answer the first query after another one: its index
	// would look as if the store had been restored.
	q := &api.QueryOptions{AllowStale: above > 0, WaitIndex: above, WaitTime: wait, Token: token}
	start := time.Now()
	pairs, qm, err := s.client.KV().List(s.prefix+folder, q.WithContext(ctx))
	err = s.whole(pairs, err)
	if err == nil && qm.ResultsFilteredByACLs {
		err = ErrPermission
	}
	if err = s.note(err); err != nil {
		return nil, 0, false, err
	}
	return s.relative(pairs), qm.LastIndex, time.Since(start) < wait, nil
}
