package embedded_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weft-net/weft/discovery/pool/embedded"
)

// Whatever is sent as a transaction, the store answers as Consul does; one that does not
// hold as a whole changes nothing, and one that holds moves no index back.
func FuzzTransaction(f *testing.F) {
	for _, body := range []string{
		`[{"KV":{"Verb":"set","Key":"nets/blue","Value":"e30="}}]`,
		`[{"KV":{"Verb":"cas","Key":"a","Value":"MQ==","Index":0}},{"KV":{"Verb":"check-not-exists","Key":"b"}},{"KV":{"Verb":"set","Key":"b","Flags":7}}]`,
		`[{"KV":{"Verb":"set","Key":"c"}},{"KV":{"Verb":"check-index","Key":"a","Index":99}},{"KV":{"Verb":"get","Key":"a"}}]`,
		`[{"KV":{"Verb":"delete","Key":"a"}},{"KV":{"Verb":"delete-cas","Key":"a","Index":1}},{"KV":{"Verb":"set","Key":"a"}}]`,
		`[{"KV":{"Verb":"delete-tree","Key":""}},{"KV":{"Verb":"lock","Key":"a","Session":"x"}}]`,
		`[{"KV":null},{}]`, `[{"KV":{"Verb":"set","Key":"\u0000\uffff"}}]`, `{}`, `null`, ``,
	} {
		f.Add([]byte(body))
	}
	s, _ := run(f, embedded.Config{File: filepath.Join(f.TempDir(), "store.db")})
	f.Fuzz(func(t *testing.T, body []byte) {
		call := func(method, path string, body []byte) (code int, answer []byte) {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://store/v1/"+path, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, err = io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, answer
		}
		call(http.MethodDelete, "kv/?recurse", nil)
		call(http.MethodPut, "kv/a", []byte("1"))
		_, before := call(http.MethodGet, "kv/?recurse", nil)
		code, answer := call(http.MethodPut, "txn", body)
		listed, after := call(http.MethodGet, "kv/?recurse", nil)
		if known := []int{200, 400, 409, 413, 501}; !slices.Contains(known, code) {
			t.Fatalf("answered %d: %s", code, answer)
		}
		if code != http.StatusOK {
			if !bytes.Equal(before, after) {
				t.Errorf("refused with %d (%s), and changed\n%s to\n%s", code, answer, before, after)
			}
			return
		}
		var done struct{ Results []any }
		if err := json.Unmarshal(answer, &done); err != nil {
			t.Errorf("answered %s: %v", answer, err)
		}
		if listed == http.StatusOK && lastIndex(t, after) < lastIndex(t, before) && bytes.Contains(after, []byte(`"Key":"a"`)) {
			t.Errorf("the index went back:\n%s\n%s", before, after)
		}
	})
}

// lastIndex is the newest index in a list of keys.
func lastIndex(t *testing.T, list []byte) (last uint64) {
	t.Helper()
	var all []struct{ ModifyIndex uint64 }
	if err := json.Unmarshal(list, &all); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	for _, e := range all {
		last = max(last, e.ModifyIndex)
	}
	return last
}
