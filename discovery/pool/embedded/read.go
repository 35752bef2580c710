package embedded

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How long a blocking query waits: unless told otherwise, and at most.
const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
)

// query is GET /v1/kv/<key>.
type query struct {
	key     string
	tree    bool // recurse or keys
	keys    bool
	sep     string
	raw     bool
	index   uint64 // answer when there is a newer one; 0: at once
	timeout time.Duration
}

// values are the parameters of a request.
type values struct{ url.Values }

// params checks that a request has no other parameters than those named.
func params(r *http.Request, allowed ...string) (values, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return values{}, refuse(http.StatusBadRequest, "Invalid query: %v", err)
	}
	for name := range v {
		if !slices.Contains(allowed, name) {
			return values{}, refuse(http.StatusNotImplemented, "parameter %q is not part of the embedded store", name)
		}
	}
	return values{v}, nil
}

func (v values) has(name string) bool { return v.Values.Has(name) }

// uint is 0 for a parameter that is missing.
func (v values) uint(name string) (uint64, error) {
	if !v.has(name) {
		return 0, nil
	}
	n, err := strconv.ParseUint(v.Get(name), 10, 64)
	if err != nil {
		return 0, refuse(http.StatusBadRequest, "Invalid %s: %v", name, err)
	}
	return n, nil
}

// parseQuery reads the parameters. consistent and stale are taken for granted:
// there is one copy.
func parseQuery(r *http.Request, key string) (query, error) {
	p, err := params(r, "recurse", "keys", "separator", "raw", "index", "wait", "consistent", "stale")
	if err != nil {
		return query{}, err
	}
	q := query{key: key, tree: p.has("recurse") || p.has("keys"), keys: p.has("keys"),
		sep: p.Get("separator"), raw: p.has("raw"), timeout: defaultWait}
	if q.index, err = p.uint("index"); err != nil {
		return query{}, err
	}
	if wait := p.Get("wait"); wait != "" {
		if q.timeout, err = time.ParseDuration(wait); err != nil || q.timeout < 0 {
			return query{}, refuse(http.StatusBadRequest, "Invalid wait time")
		}
		if q.timeout == 0 {
			q.timeout = defaultWait
		}
	}
	q.timeout = min(q.timeout, maxWait)
	if q.key == "" && !q.tree {
		return query{}, refuse(http.StatusBadRequest, "Missing key name")
	}
	return q, nil
}

// read answers a query: at once, or when the index of the answer is above that
// of the query.
func (s *server) read(w http.ResponseWriter, r *http.Request, key string) error {
	q, err := parseQuery(r, key)
	if err != nil {
		return err
	}
	entries, index, err := s.await(r.Context(), q)
	if err != nil {
		return err
	}
	w.Header().Set(headerIndex, strconv.FormatUint(index, 10))
	switch {
	case len(entries) == 0 && !(q.keys && q.key == ""):
		w.WriteHeader(http.StatusNotFound)
		return nil
	case q.keys:
		return answer(w, http.StatusOK, names(entries, len(q.key), q.sep))
	case q.raw && !q.tree:
		_, err := w.Write(entries[0].Value)
		return err
	}
	return answer(w, http.StatusOK, entries)
}

// await reads until the answer is newer than the query's index, the query's
// time is over, or the server closes.
func (s *server) await(ctx context.Context, q query) ([]*entry, uint64, error) {
	if q.index == 0 {
		return s.lookup(q)
	}
	w := s.waiters.add(q.key, q.tree)
	defer s.waiters.remove(w)
	late := time.NewTimer(q.timeout)
	defer late.Stop()
	absent := false
	for {
		entries, index, err := s.lookup(q)
		gone := len(entries) == 0 && !q.tree
		if gone && absent {
			// A missing key is answered with the file's index, which any
			// write moves: that it is still missing is no news.
			q.index = max(q.index, index)
		}
		if err != nil || index > q.index {
			return entries, index, err
		}
		absent = absent || gone
		select {
		case <-w.woken:
		case <-late.C:
			return entries, index, nil
		case <-s.closing:
			return nil, 0, refuse(http.StatusServiceUnavailable, "store is closing")
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

func (s *server) lookup(q query) ([]*entry, uint64, error) {
	if q.tree {
		return s.f.list(q.key)
	}
	e, index, err := s.f.get(q.key)
	if e == nil {
		return nil, index, err
	}
	return []*entry{e}, index, err
}

// names are the keys of the entries, each cut after the first separator behind
// the prefix and named once.
func names(entries []*entry, prefix int, sep string) []string {
	out := []string{}
	for _, e := range entries {
		name := e.Key
		if i := strings.Index(name[prefix:], sep); sep != "" && i >= 0 {
			name = name[:prefix+i+len(sep)]
		}
		if len(out) == 0 || out[len(out)-1] != name {
			out = append(out, name)
		}
	}
	return out
}
