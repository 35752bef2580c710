package pool

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"
)

// maxOps is the most operations that a transaction may have: Consul's limit
// before 1.14, the guard included.
const maxOps = 64

// ops reads better than the slice's type.
func ops(o ...*api.KVTxnOp) []*api.KVTxnOp { return o }

// The operations of a transaction. Keys are given without the prefix.
func read(key string) *api.KVTxnOp   { return &api.KVTxnOp{Verb: api.KVGet, Key: key} }
func absent(key string) *api.KVTxnOp { return &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key} }
func del(key string) *api.KVTxnOp    { return &api.KVTxnOp{Verb: api.KVDelete, Key: key} }

func unchanged(key string, index uint64) *api.KVTxnOp {
	return &api.KVTxnOp{Verb: api.KVCheckIndex, Key: key, Index: index}
}

func set(key string, value []byte) *api.KVTxnOp {
	return &api.KVTxnOp{Verb: api.KVSet, Key: key, Value: value}
}

// cas replaces a key that stands at index; 0: that is missing.
func cas(key string, index uint64, value []byte) *api.KVTxnOp {
	return &api.KVTxnOp{Verb: api.KVCAS, Key: key, Index: index, Value: value}
}

// drop deletes a key that stands at index. It holds when the key is missing.
func drop(key string, index uint64) *api.KVTxnOp {
	return &api.KVTxnOp{Verb: api.KVDeleteCAS, Key: key, Index: index}
}

// outcome is what became of a transaction that was answered.
type outcome struct {
	failed  map[int]bool           // the operations that did not hold; empty: all did
	pairs   map[string]*api.KVPair // use pair
	inDoubt bool                   // an earlier try had no answer: what failed may have been done by it
}

func (o outcome) ok() bool { return len(o.failed) == 0 }

// pair is what an operation that held left of its key. Consul leaves out, without a
// word, what the token may not read.
func (o outcome) pair(key string) (*api.KVPair, error) {
	if kv := o.pairs[key]; kv != nil {
		return kv, nil
	}
	return nil, fmt.Errorf("the token may not read %s: %w", key, ErrPermission)
}

// commit runs the operations as one transaction of our cluster's store, and of
// no other: the first operation is that meta is what we last read.
func (s *store) commit(ctx context.Context, ops ...*api.KVTxnOp) (outcome, error) {
	inDoubt := false
	for {
		m, err := s.stamp(ctx)
		if err != nil {
			return outcome{}, err
		}
		out, err := s.txn(ctx, append([]*api.KVTxnOp{unchanged(keyMeta, m.index)}, ops...))
		if err != nil {
			return outcome{}, err
		}
		inDoubt = inDoubt || out.inDoubt
		if out.ok() {
			if _, err := out.pair(keyMeta); err != nil { // the guard's
				return outcome{}, s.note(err)
			}
		}
		if !out.failed[0] {
			return out.shift(inDoubt), nil
		}
		if _, err := s.checkMeta(ctx); err != nil {
			return outcome{}, err
		}
	}
}

// shift leaves the guard out of the numbers.
func (o outcome) shift(inDoubt bool) outcome {
	failed := make(map[int]bool, len(o.failed))
	for i := range o.failed {
		failed[i-1] = true
	}
	return outcome{failed: failed, pairs: o.pairs, inDoubt: inDoubt}
}

// txn runs the operations as they are.
func (s *store) txn(ctx context.Context, ops []*api.KVTxnOp) (outcome, error) {
	if len(ops) > maxOps {
		return outcome{}, fmt.Errorf("transaction of %d operations, at most %d: %w", len(ops), maxOps, ErrInvalid)
	}
	full := make(api.TxnOps, len(ops))
	for i, o := range ops {
		c := *o
		c.Key = s.prefix + o.Key
		full[i] = &api.TxnOp{KV: &c}
	}
	var resp *api.TxnResponse
	tries, err := s.try(ctx, func(q *api.QueryOptions) (err error) {
		_, resp, _, err = s.client.Txn().Txn(full, q)
		return err
	})
	if err != nil {
		return outcome{}, err
	}
	out := outcome{failed: map[int]bool{}, pairs: map[string]*api.KVPair{}, inDoubt: tries > 1}
	for _, e := range resp.Errors {
		// A transaction that the token does not allow comes back as one that
		// lost a race: status 409 and this text.
		if strings.Contains(e.What, "ermission denied") && e.OpIndex >= 0 && e.OpIndex < len(ops) {
			return outcome{}, s.note(fmt.Errorf("%s: %w", ops[e.OpIndex].Key, ErrPermission))
		}
		out.failed[e.OpIndex] = true
	}
	for _, r := range resp.Results {
		if r == nil || r.KV == nil {
			continue // which Consul never sends
		}
		r.KV.Key = strings.TrimPrefix(r.KV.Key, s.prefix)
		out.pairs[r.KV.Key] = r.KV
	}
	return out, nil
}
