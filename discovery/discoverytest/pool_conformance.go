package discoverytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// PoolConformance holds a store to what discovery/pool relies on. The embedded
// store and every supported version of Consul pass the same tests.
func PoolConformance(t *testing.T, s Store) {
	tests := []struct {
		name string
		run  func(*testing.T, kv)
	}{
		{"a missing key is 404 with an index", missing},
		{"a value comes back as it was put", roundTrip},
		{"a key is escaped", escaping},
		{"keys are cut at the separator", separator},
		{"cas with index 0 creates only", createOnly},
		{"cas replaces what stands at the index", casReplaces},
		{"equal contents keep their index", equalContents},
		{"delete-cas compares the index", deleteCAS},
		{"of a hundred who create a key one wins", casRace},
		{"of a hundred transactions for a key one wins", txnRace},
		{"counting by cas loses no step", counter},
		{"a transaction holds as a whole", txnHolds},
		{"a transaction that fails changes nothing and names every reason", txnRollback},
		{"a transaction sees its own writes", txnSeesItself},
		{"a transaction has 64 operations", txnLimit},
		{"a value of more than 512 KiB is 413", valueLimit},
		{"delete-tree ends at its prefix", deleteTree},
		{"the index of a folder never goes back", monotonic},
		{"a blocking query of a folder wakes", wakesFolder},
		{"a blocking query of a key wakes", wakesKey},
		{"a change elsewhere does not wake after a delete", noWake},
		{"a blocking query ends with its time", waitEnds},
		{"an old index is answered at once", oldIndex},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			prefix := fmt.Sprintf("t%s/%s/", strconv.FormatInt(time.Now().UnixNano(), 36), strings.ReplaceAll(tt.name, " ", "-"))
			tt.run(t, kv{Store: s, t: t, prefix: prefix})
		})
	}
}

func missing(t *testing.T, k kv) {
	if p, index := k.get("none"); p != nil || index < 1 {
		t.Errorf("key: got %v at index %d, want none at 1 or more", p, index)
	}
	if p, index := k.list("none/"); len(p) != 0 || index < 1 {
		t.Errorf("folder: got %v at index %d, want none at 1 or more", p, index)
	}
	if !k.delete("none") {
		t.Error("deleting a missing key: got false, want true")
	}
}

func roundTrip(t *testing.T, k kv) {
	value := string([]byte{0, 1, 0xff, '\n', '"', '<'})
	k.put("a", value, "flags", "42")
	p, index := k.get("a")
	want := &pair{Key: "a", Value: []byte(value), Flags: 42}
	if diff := cmp.Diff(want, p, cmpopts.IgnoreFields(pair{}, "CreateIndex", "ModifyIndex")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if p.CreateIndex != p.ModifyIndex || index != p.ModifyIndex {
		t.Errorf("created %d, modified %d, answered %d: want the same", p.CreateIndex, p.ModifyIndex, index)
	}
	k.put("empty", "")
	if p, _ := k.get("empty"); p == nil || len(p.Value) != 0 {
		t.Errorf("empty value: got %v", p)
	}
	if code, _, b := k.call(http.MethodGet, k.path("a"), values("raw", ""), nil); code != 200 || string(b) != value {
		t.Errorf("raw: got %d %q, want %q", code, b, value)
	}
}

func escaping(t *testing.T, k kv) {
	keys := []string{"a b", "a%2Fb", "a?b", "a#b", "a+b", "ä/ö", "a&b=c", "a:b", "a\"b", "a.b", "a;b"}
	for _, key := range keys {
		k.put(key, key)
	}
	for _, key := range keys {
		if p, _ := k.get(key); p == nil || p.Key != key || string(p.Value) != key {
			t.Errorf("key %q: got %+v", key, p)
		}
		if code, a := k.txn(kvOp{Verb: "get", Key: key}); code != 200 || string(a.Results[0].KV.Value) != key {
			t.Errorf("key %q by txn: got %d %+v", key, code, a)
		}
	}
	if p, _ := k.list(""); len(p) != len(keys) {
		t.Errorf("list: got %d keys, want %d", len(p), len(keys))
	}
}

func separator(t *testing.T, k kv) {
	for _, key := range []string{"a", "b/1", "b/2", "c/d/e"} {
		k.put(key, "x")
	}
	for _, tt := range []struct {
		sep  string
		want []string
	}{
		{"", []string{"a", "b/1", "b/2", "c/d/e"}},
		{"/", []string{"a", "b/", "c/"}},
	} {
		_, _, b := k.call(http.MethodGet, k.path(""), values("keys", "", "separator", tt.sep), nil)
		var got []string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], k.prefix)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("separator %q: -want +got:\n%s", tt.sep, diff)
		}
	}
}

func createOnly(t *testing.T, k kv) {
	if !k.put("a", "1", "cas", "0") {
		t.Error("first: got false, want true")
	}
	if k.put("a", "2", "cas", "0") {
		t.Error("second: got true, want false")
	}
	if p, _ := k.get("a"); string(p.Value) != "1" {
		t.Errorf("value %q, want that of the first", p.Value)
	}
}

func casReplaces(t *testing.T, k kv) {
	k.put("a", "1")
	old, _ := k.get("a")
	at := strconv.FormatUint(old.ModifyIndex, 10)
	if !k.put("a", "2", "cas", at) {
		t.Error("current index: got false, want true")
	}
	if k.put("a", "3", "cas", at) {
		t.Error("stale index: got true, want false")
	}
	if k.put("b", "1", "cas", at) {
		t.Error("index of a missing key: got true, want false")
	}
	now, _ := k.get("a")
	if string(now.Value) != "2" || now.CreateIndex != old.CreateIndex || now.ModifyIndex <= old.ModifyIndex {
		t.Errorf("got %+v after %+v", now, old)
	}
}

func equalContents(t *testing.T, k kv) {
	k.put("a", "1")
	before, _ := k.get("a")
	k.put("a", "1")
	if after, _ := k.get("a"); after.ModifyIndex != before.ModifyIndex {
		t.Errorf("index %d, was %d", after.ModifyIndex, before.ModifyIndex)
	}
}

func deleteCAS(t *testing.T, k kv) {
	k.put("a", "1")
	p, _ := k.get("a")
	if k.delete("a", "cas", strconv.FormatUint(p.ModifyIndex+1, 10)) {
		t.Error("other index: got true, want false")
	}
	if !k.delete("a", "cas", strconv.FormatUint(p.ModifyIndex, 10)) {
		t.Error("its index: got false, want true")
	}
	if !k.delete("a", "cas", strconv.FormatUint(p.ModifyIndex, 10)) {
		t.Error("missing key: got false, want true")
	}
	if p, _ := k.get("a"); p != nil {
		t.Errorf("still there: %+v", p)
	}
}

// race calls fn a hundred times at once and returns how often it was true.
func race(fn func(i int) bool) int {
	var wg sync.WaitGroup
	var won atomic.Int64
	for i := range 100 {
		wg.Go(func() {
			if fn(i) {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	return int(won.Load())
}

func casRace(t *testing.T, k kv) {
	if n := race(func(i int) bool { return k.put("a", strconv.Itoa(i), "cas", "0") }); n != 1 {
		t.Errorf("%d winners, want 1", n)
	}
}

func txnRace(t *testing.T, k kv) {
	n := race(func(i int) bool {
		code, _ := k.txn(kvOp{Verb: "check-not-exists", Key: "a"}, kvOp{Verb: "set", Key: "a", Value: []byte{byte(i)}},
			kvOp{Verb: "set", Key: "winner/" + strconv.Itoa(i), Value: []byte("me")})
		return code == 200
	})
	if winners, _ := k.list("winner/"); n != 1 || len(winners) != 1 {
		t.Errorf("%d winners that left %d keys, want 1 and 1", n, len(winners))
	}
}

func counter(t *testing.T, k kv) {
	k.put("n", "0")
	race(func(int) bool {
		for !t.Failed() {
			p, _ := k.get("n")
			if p == nil {
				continue
			}
			n, _ := strconv.Atoi(string(p.Value))
			if k.put("n", strconv.Itoa(n+1), "cas", strconv.FormatUint(p.ModifyIndex, 10)) {
				return true
			}
		}
		return false
	})
	if p, _ := k.get("n"); string(p.Value) != "100" {
		t.Errorf("counted %s, want 100", p.Value)
	}
}

func txnHolds(t *testing.T, k kv) {
	k.put("old", "1")
	k.put("doomed", "1")
	old, _ := k.get("old")
	doomed, _ := k.get("doomed")
	code, a := k.txn(
		kvOp{Verb: "check-index", Key: "old", Index: old.ModifyIndex},
		kvOp{Verb: "check-not-exists", Key: "new"},
		kvOp{Verb: "set", Key: "new", Value: []byte("2")},
		kvOp{Verb: "cas", Key: "created", Value: []byte("3")},
		kvOp{Verb: "delete-cas", Key: "doomed", Index: doomed.ModifyIndex},
		kvOp{Verb: "delete-cas", Key: "never", Index: 7},
		kvOp{Verb: "delete", Key: "never"},
		kvOp{Verb: "get", Key: "old"})
	if code != 200 || len(a.Errors) != 0 {
		t.Fatalf("got %d %+v, want 200", code, a)
	}
	got := map[string]string{}
	indexes := map[uint64]bool{}
	all, _ := k.list("")
	for _, p := range all {
		got[p.Key] = string(p.Value)
		if p.Key != "old" {
			indexes[p.ModifyIndex] = true
		}
	}
	if diff := cmp.Diff(map[string]string{"old": "1", "new": "2", "created": "3"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(indexes) != 1 {
		t.Errorf("written at indexes %v, want one", indexes)
	}
	last := a.Results[len(a.Results)-1].KV
	if last.Key != k.prefix+"old" || string(last.Value) != "1" {
		t.Errorf("the get answered %+v", last)
	}
}

func txnRollback(t *testing.T, k kv) {
	k.put("a", "1")
	a, before := k.get("a")
	code, answer := k.txn(
		kvOp{Verb: "set", Key: "b", Value: []byte("2")},
		kvOp{Verb: "check-index", Key: "a", Index: a.ModifyIndex + 1},
		kvOp{Verb: "delete", Key: "a"},
		kvOp{Verb: "set", Key: "c", Value: []byte("2")},
		kvOp{Verb: "check-not-exists", Key: "c"},
		kvOp{Verb: "get", Key: "none"},
		kvOp{Verb: "check-index", Key: "none", Index: 1},
		kvOp{Verb: "cas", Key: "none", Index: 1},
		kvOp{Verb: "delete-cas", Key: "b", Index: 1})
	if code != http.StatusConflict {
		t.Errorf("status %d, want 409", code)
	}
	if diff := cmp.Diff([]int{1, 4, 5, 6, 7, 8}, answer.failed()); diff != "" {
		t.Errorf("failed operations, -want +got:\n%s", diff)
	}
	all, after := k.list("")
	if len(all) != 1 || after != before {
		t.Errorf("after it: %+v at %d, want a alone at %d", all, after, before)
	}
}

func txnSeesItself(t *testing.T, k kv) {
	code, a := k.txn(
		kvOp{Verb: "set", Key: "a", Value: []byte("1")},
		kvOp{Verb: "get", Key: "a"},
		kvOp{Verb: "delete", Key: "a"},
		kvOp{Verb: "check-not-exists", Key: "a"})
	if code != 200 {
		t.Errorf("got %d %+v, want 200", code, a)
	}
	if p, _ := k.get("a"); p != nil {
		t.Errorf("left %+v", p)
	}
}

func txnLimit(t *testing.T, k kv) {
	ops := make([]kvOp, 129)
	for i := range ops {
		ops[i] = kvOp{Verb: "set", Key: strconv.Itoa(i), Value: []byte("x")}
	}
	if code, b := k.rawTxn(ops[:64]); code != 200 {
		t.Errorf("64 operations: %d %s", code, b)
	}
	// 64 is the limit before 1.14, 128 since.
	if code, _ := k.rawTxn(ops); code != http.StatusRequestEntityTooLarge {
		t.Errorf("129 operations: %d, want 413", code)
	}
	if p, _ := k.get("128"); p != nil {
		t.Errorf("a refused transaction left %+v", p)
	}
}

func valueLimit(t *testing.T, k kv) {
	big := make([]byte, 512<<10)
	if code, _, b := k.call(http.MethodPut, k.path("a"), nil, big); code != 200 {
		t.Errorf("512 KiB: %d %s", code, b)
	}
	if code, _, _ := k.call(http.MethodPut, k.path("b"), nil, append(big, 0)); code != http.StatusRequestEntityTooLarge {
		t.Errorf("one byte more: %d, want 413", code)
	}
	if code, _ := k.rawTxn([]kvOp{{Verb: "set", Key: "c", Value: big}}); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a transaction with it: %d, want 413", code)
	}
}

func deleteTree(t *testing.T, k kv) {
	for _, key := range []string{"a/1", "a/2", "ab", "b"} {
		k.put(key, "x")
	}
	k.delete("a/", "recurse", "")
	var got []string
	all, _ := k.list("")
	for _, p := range all {
		got = append(got, p.Key)
	}
	if diff := cmp.Diff([]string{"ab", "b"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func monotonic(t *testing.T, k kv) {
	last, state := uint64(0), map[string]string{}
	for i := range 120 {
		key := "f/" + strconv.Itoa(i*7%5)
		switch i % 4 {
		case 0, 1:
			state[key] = strconv.Itoa(i)
			k.put(key, state[key])
		case 2:
			delete(state, key)
			k.delete(key)
		case 3:
			if i%5 == 0 {
				clear(state)
				k.delete("f/", "recurse", "")
			}
		}
		all, index := k.list("f/")
		if index < last {
			t.Fatalf("step %d: index %d after %d", i, index, last)
		}
		last = index
		got := map[string]string{}
		for _, p := range all {
			got[p.Key] = string(p.Value)
		}
		if !maps.Equal(got, state) {
			t.Fatalf("step %d: got %v, want %v", i, got, state)
		}
	}
}

// changes are the ways in which something below f/ changes; f/old exists.
var changes = []struct {
	name string
	do   func(kv)
}{
	{"set", func(k kv) { k.put("f/new", "1") }},
	{"replace", func(k kv) { k.put("f/old", "2") }},
	{"delete", func(k kv) { k.delete("f/old") }},
	{"delete-tree", func(k kv) { k.delete("f/", "recurse", "") }},
	{"set by txn", func(k kv) { k.txn(kvOp{Verb: "set", Key: "f/old", Value: []byte("3")}) }},
	{"delete by txn", func(k kv) { k.txn(kvOp{Verb: "delete", Key: "f/old"}) }},
}

func wakesFolder(t *testing.T, k kv) {
	for _, c := range changes {
		k.put("f/old", "1")
		k.delete("f/new")
		before, index := k.list("f/")
		took, after, now := waiting(k, func() { c.do(k) }, func() ([]pair, uint64) {
			return k.list("f/", "index", strconv.FormatUint(index, 10), "wait", "10s")
		})
		if now <= index || took > 5*time.Second || cmp.Equal(before, after) {
			t.Errorf("%s: woke after %v at index %d (was %d) with %+v", c.name, took, now, index, after)
		}
	}
}

func wakesKey(t *testing.T, k kv) {
	for _, c := range changes[1:] {
		k.put("f/old", "1")
		before, index := k.pairs("f/old")
		took, after, now := waiting(k, func() { c.do(k) }, func() ([]pair, uint64) {
			return k.pairs("f/old", "index", strconv.FormatUint(index, 10), "wait", "10s")
		})
		if now <= index || took > 5*time.Second || cmp.Equal(before, after) {
			t.Errorf("%s: woke after %v at index %d (was %d) with %+v", c.name, took, now, index, after)
		}
	}
}

// waiting asks, makes the change while the question waits, and returns the
// answer and how long it took from the change.
func waiting(k kv, change func(), ask func() ([]pair, uint64)) (took time.Duration, got []pair, index uint64) {
	var wg sync.WaitGroup
	var answered time.Time
	wg.Go(func() {
		got, index = ask()
		answered = time.Now()
	})
	time.Sleep(50 * time.Millisecond) // nothing tells when a server has begun to wait
	at := time.Now()
	change()
	wg.Wait()
	return answered.Sub(at), got, index
}

func noWake(t *testing.T, k kv) {
	k.put("f/a", "1")
	k.put("f/b", "1")
	k.delete("f/b")
	_, index := k.list("f/")
	start := time.Now()
	_, _, now := waiting(k, func() {
		k.put("elsewhere", "1")
		k.put("f-sibling", "1")
		k.delete("elsewhere")
	}, func() ([]pair, uint64) {
		return k.list("f/", "index", strconv.FormatUint(index, 10), "wait", "1s")
	})
	if took := time.Since(start); now != index || took < 900*time.Millisecond {
		t.Errorf("woke after %v at index %d, was %d", took, now, index)
	}
}

func waitEnds(t *testing.T, k kv) {
	k.put("f/a", "1")
	before, index := k.list("f/")
	start := time.Now()
	after, now := k.list("f/", "index", strconv.FormatUint(index, 10), "wait", "500ms")
	// Consul adds up to a sixteenth.
	if took := time.Since(start); took < 450*time.Millisecond || took > 2*time.Second {
		t.Errorf("took %v, want about 500 ms", took)
	}
	if now != index || !cmp.Equal(before, after) {
		t.Errorf("got %+v at %d, want %+v at %d", after, now, before, index)
	}
}

func oldIndex(t *testing.T, k kv) {
	k.put("f/a", "1")
	_, index := k.list("f/")
	k.put("f/a", "2")
	start := time.Now()
	_, now := k.list("f/", "index", strconv.FormatUint(index, 10), "wait", "10s")
	if took := time.Since(start); now <= index || took > 5*time.Second {
		t.Errorf("answered after %v with index %d, asked for more than %d", took, now, index)
	}
}
