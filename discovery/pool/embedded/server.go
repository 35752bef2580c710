package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/weft-net/weft/discovery/boltfile"
)

const (
	maxBody = 512 << 10 // of a value and of a transaction, as Consul's default
	maxOps  = 64        // of a transaction, as Consul before 1.14

	headerID    = "X-Weft-Store"
	headerIndex = "X-Consul-Index"
)

// server answers for the file while this process has its lock.
type server struct {
	f       *file
	w       *writer
	waiters waiters
	log     *slog.Logger
	closing chan struct{}
	calls   sync.WaitGroup
	mu      sync.Mutex // guards closed against a call that begins
	closed  bool
}

func newServer(f *file, log *slog.Logger) *server {
	s := &server{f: f, log: log, closing: make(chan struct{})}
	s.w = newWriter(f, s.waiters.wake)
	return s
}

// close ends the blocking queries and returns when no call uses the file.
func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	s.calls.Wait()
}

// enter begins a call; false when the server is closing.
func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.calls.Add(1)
	}
	return !s.closed
}

// statusError is an answer other than 200 or 404.
type statusError struct {
	code int
	what string
}

func (e *statusError) Error() string { return e.what }

func refuse(code int, format string, args ...any) error {
	return &statusError{code, fmt.Sprintf(format, args...)}
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "store is closing", http.StatusServiceUnavailable)
		return
	}
	defer s.calls.Done()
	h := w.Header()
	h.Set(headerID, s.f.id)
	h.Set("X-Consul-KnownLeader", "true")
	h.Set("X-Consul-LastContact", "0")
	if err := s.route(w, r); err != nil {
		code := http.StatusInternalServerError
		if se, ok := errors.AsType[*statusError](err); ok {
			code = se.code
		} else if _, full := errors.AsType[*boltfile.WriteError](err); full {
			code = http.StatusInsufficientStorage
		} else if r.Context().Err() == nil {
			s.log.Error("embedded store", "err", err)
		}
		http.Error(w, err.Error(), code)
	}
}

func (s *server) route(w http.ResponseWriter, r *http.Request) error {
	// Not a ServeMux: it would clean a key that holds "//" or "..".
	key, isKV := strings.CutPrefix(r.URL.Path, "/v1/kv/")
	switch {
	case isKV && r.Method == http.MethodGet:
		return s.read(w, r, key)
	case isKV && r.Method == http.MethodPut:
		return s.put(w, r, key)
	case isKV && r.Method == http.MethodDelete:
		return s.delete(w, r, key)
	case r.URL.Path == "/v1/txn" && r.Method == http.MethodPut:
		return s.txn(w, r)
	case r.URL.Path == "/v1/status/leader" && r.Method == http.MethodGet:
		return answer(w, http.StatusOK, "embedded")
	}
	return refuse(http.StatusNotImplemented, "%s %s is not part of the embedded store", r.Method, r.URL.Path)
}

// put is PUT /v1/kv/<key>[?cas=][&flags=].
func (s *server) put(w http.ResponseWriter, r *http.Request, key string) error {
	p, err := params(r, "cas", "flags")
	if err != nil {
		return err
	}
	o := op{Verb: verbSet, Key: key}
	if o.Index, err = p.uint("cas"); err != nil {
		return err
	}
	if o.Flags, err = p.uint("flags"); err != nil {
		return err
	}
	if p.has("cas") {
		o.Verb = verbCAS
	}
	if o.Value, err = body(w, r); err != nil {
		return err
	}
	return s.single(w, o)
}

// delete is DELETE /v1/kv/<key>[?cas=|?recurse].
func (s *server) delete(w http.ResponseWriter, r *http.Request, key string) error {
	p, err := params(r, "cas", "recurse")
	if err != nil {
		return err
	}
	o := op{Verb: verbDelete, Key: key}
	if o.Index, err = p.uint("cas"); err != nil {
		return err
	}
	switch {
	case p.has("cas") && p.has("recurse"):
		return refuse(http.StatusBadRequest, "Conflicting flags: %s", r.URL.RawQuery)
	case p.has("cas"):
		o.Verb = verbDeleteCAS
	case p.has("recurse"):
		o.Verb = verbDeleteTree
	}
	return s.single(w, o)
}

// single does one write and answers true, or false when its index was stale.
func (s *server) single(w http.ResponseWriter, o op) error {
	if o.Key == "" && o.Verb != verbDeleteTree {
		return refuse(http.StatusBadRequest, "Missing key name")
	}
	_, failed, err := s.w.do([]op{o})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, failed == nil)
}

// kvResult and txnAnswer are Consul's answer to a transaction.
type kvResult struct{ KV *entry }

type txnAnswer struct {
	Results []kvResult
	Errors  []opError
}

// txn is PUT /v1/txn: 200 when every operation held, 409 otherwise.
func (s *server) txn(w http.ResponseWriter, r *http.Request) error {
	if _, err := params(r, "consistent", "stale"); err != nil {
		return err
	}
	ops, err := readOps(w, r)
	if err != nil {
		return err
	}
	results, failed, err := s.w.do(ops)
	if err != nil {
		return err
	}
	code, a := http.StatusOK, txnAnswer{Errors: failed}
	if failed != nil {
		code = http.StatusConflict
	}
	for _, e := range results {
		a.Results = append(a.Results, kvResult{e})
	}
	return answer(w, code, a)
}

// readOps reads the operations of a transaction.
func readOps(w http.ResponseWriter, r *http.Request) ([]op, error) {
	b, err := body(w, r)
	if err != nil {
		return nil, err
	}
	var in []map[string]json.RawMessage
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, refuse(http.StatusBadRequest, "Failed to parse body: %v", err)
	}
	if len(in) > maxOps {
		return nil, refuse(http.StatusRequestEntityTooLarge,
			"Transaction contains too many operations (%d > %d)", len(in), maxOps)
	}
	ops := make([]op, len(in))
	for i, m := range in {
		if err := json.Unmarshal(m["KV"], &ops[i]); err != nil {
			return nil, refuse(http.StatusBadRequest, "Failed to parse operation %d: %v", i, err)
		}
		if o := ops[i]; !o.Verb.served() || o.Session != "" {
			return nil, refuse(http.StatusNotImplemented, "operation %q is not part of the embedded store", o.Verb)
		}
	}
	return ops, nil
}

// body reads what a request carries.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refuse(http.StatusRequestEntityTooLarge, "Request body too large, max size: %d bytes", maxBody)
	}
	return b, err
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, code int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(code)
	_, err = w.Write(b)
	return err
}
