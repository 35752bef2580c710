package discoverytest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// Store is one end of a KV store that speaks Consul's HTTP API.
type Store struct {
	URL    string
	Client *http.Client
}

// pair is a key as the store answers it.
type pair struct {
	Key                      string
	Value                    []byte
	Flags                    uint64
	CreateIndex, ModifyIndex uint64
}

// kvOp is one operation of a transaction.
type kvOp struct {
	Verb, Key string
	Value     []byte `json:",omitempty"`
	Index     uint64 `json:",omitempty"`
}

// kvAnswer is what the store says to a transaction.
type kvAnswer struct {
	Results []struct{ KV pair }
	Errors  []struct {
		OpIndex int
		What    string
	}
}

// failed are the numbers of the operations that did not hold.
func (a kvAnswer) failed() []int {
	var out []int
	for _, e := range a.Errors {
		out = append(out, e.OpIndex)
	}
	return out
}

// kv speaks to the store below a prefix of its own.
type kv struct {
	Store
	t      *testing.T
	prefix string
}

// call makes one request; it fails the test only when there is no answer.
func (k kv) call(method, path string, q url.Values, body []byte) (code int, index uint64, answer []byte) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 30*time.Second)
	defer cancel()
	u := k.URL + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		k.t.Error(err)
		return 0, 0, nil
	}
	resp, err := k.Client.Do(req)
	if err != nil {
		k.t.Errorf("%s %s: %v", method, path, err)
		return 0, 0, nil
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		k.t.Errorf("%s %s: %v", method, path, err)
	}
	index, _ = strconv.ParseUint(resp.Header.Get("X-Consul-Index"), 10, 64)
	return resp.StatusCode, index, answer
}

func (k kv) path(key string) string {
	return (&url.URL{Path: "/v1/kv/" + k.prefix + key}).EscapedPath()
}

// values makes query parameters of name, value, name, value.
func values(args ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		q.Set(args[i], args[i+1])
	}
	return q
}

// get reads one key; nil: 404.
func (k kv) get(key string, args ...string) (*pair, uint64) {
	k.t.Helper()
	pairs, index := k.pairs(key, args...)
	if len(pairs) == 0 {
		return nil, index
	}
	return &pairs[0], index
}

// list reads the keys below a prefix; none: 404.
func (k kv) list(key string, args ...string) ([]pair, uint64) {
	k.t.Helper()
	return k.pairs(key, append(args, "recurse", "")...)
}

func (k kv) pairs(key string, args ...string) (out []pair, index uint64) {
	k.t.Helper()
	code, index, b := k.call(http.MethodGet, k.path(key), values(args...), nil)
	switch code {
	case http.StatusNotFound:
		return nil, index
	case http.StatusOK:
		if err := json.Unmarshal(b, &out); err != nil {
			k.t.Errorf("get %s: %v in %s", key, err, b)
		}
		for i := range out {
			out[i].Key = out[i].Key[len(k.prefix):]
		}
		return out, index
	}
	k.t.Errorf("get %s: status %d: %s", key, code, b)
	return nil, index
}

// write is a PUT or DELETE of one key: true, or false when it lost.
func (k kv) write(method, key string, value []byte, args ...string) bool {
	k.t.Helper()
	code, _, b := k.call(method, k.path(key), values(args...), value)
	if code != http.StatusOK {
		k.t.Errorf("%s %s: status %d: %s", method, key, code, b)
	}
	return bytes.Contains(b, []byte("true"))
}

func (k kv) put(key, value string, args ...string) bool {
	k.t.Helper()
	return k.write(http.MethodPut, key, []byte(value), args...)
}

func (k kv) delete(key string, args ...string) bool {
	k.t.Helper()
	return k.write(http.MethodDelete, key, nil, args...)
}

// txn runs a transaction and returns its status, 200 or 409.
func (k kv) txn(ops ...kvOp) (int, kvAnswer) {
	k.t.Helper()
	code, b := k.rawTxn(ops)
	var a kvAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		k.t.Errorf("txn: status %d: %v in %s", code, err, b)
	}
	return code, a
}

func (k kv) rawTxn(ops []kvOp) (int, []byte) {
	k.t.Helper()
	body := make([]map[string]kvOp, len(ops))
	for i, o := range ops {
		o.Key = k.prefix + o.Key
		body[i] = map[string]kvOp{"KV": o}
	}
	b, err := json.Marshal(body)
	if err != nil {
		k.t.Fatal(err)
	}
	code, _, answer := k.call(http.MethodPut, "/v1/txn", nil, b)
	return code, answer
}
