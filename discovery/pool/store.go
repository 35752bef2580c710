package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// maxOps is the most operations that a transaction may have: Consul's limit
// before 1.14, the guard included.
const maxOps = 64

// token is what TokenFile holds now, or empty for the client's own.
func (p *Pool) token() (string, error) {
	if p.tokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(p.tokenFile)
	if err != nil {
		return "", fmt.Errorf("%w: read token: %w", ErrPermission, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// try calls fn until the store answers or ctx ends. A leader election is over
// within the deadline, and so is the takeover of the embedded store. tries
// tells whether an earlier one may have been committed without an answer.
func (p *Pool) try(ctx context.Context, fn func(q *api.QueryOptions) error) (tries int, err error) {
	wait := 50 * time.Millisecond
	for {
		tries++
		token, err := p.token()
		if err == nil {
			err = fn((&api.QueryOptions{Token: token}).WithContext(ctx))
		}
		if err = p.note(err); err == nil || !errors.Is(err, ErrUnavailable) {
			return tries, err
		}
		select {
		case <-ctx.Done():
			return tries, err
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, time.Second)
	}
}

// get reads a key as it stands; nil when it is missing, which says nothing
// before meta was looked at.
func (p *Pool) get(ctx context.Context, key string) (pair *api.KVPair, err error) {
	_, err = p.try(ctx, func(q *api.QueryOptions) error {
		pair, _, err = p.client.KV().Get(p.prefix+key, q)
		return err
	})
	return pair, err
}

// lookup reads a key. It is nil only when our cluster's store does not have it.
func (p *Pool) lookup(ctx context.Context, key string) (*api.KVPair, error) {
	pair, err := p.get(ctx, key)
	if err != nil || pair != nil {
		return pair, err
	}
	_, err = p.look(ctx)
	return nil, err
}

// list reads the keys of a folder. It is empty only when our cluster's store
// has none: a token that may not read the folder makes it look empty too.
func (p *Pool) list(ctx context.Context, folder string) (pairs api.KVPairs, err error) {
	var qm *api.QueryMeta
	_, err = p.try(ctx, func(q *api.QueryOptions) error {
		pairs, qm, err = p.client.KV().List(p.prefix+folder, q)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case qm.ResultsFilteredByACLs:
		return nil, p.note(fmt.Errorf("list %s: %w", folder, ErrPermission))
	case len(pairs) == 0:
		_, err = p.look(ctx)
	}
	return p.relative(pairs), err
}

// relative cuts the prefix off the keys.
func (p *Pool) relative(pairs api.KVPairs) api.KVPairs {
	for _, kv := range pairs {
		kv.Key = strings.TrimPrefix(kv.Key, p.prefix)
	}
	return pairs
}

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
	failed map[int]bool // the operations that did not hold; empty: all did
	pairs  map[string]*api.KVPair
	unsure bool // an earlier try had no answer: what failed may have been done by it
}

func (o outcome) ok() bool { return len(o.failed) == 0 }

// commit runs the operations as one transaction of our cluster's store, and of
// no other: the first operation is that meta is what we last read.
func (p *Pool) commit(ctx context.Context, ops ...*api.KVTxnOp) (outcome, error) {
	unsure := false
	for {
		s, err := p.stamp(ctx)
		if err != nil {
			return outcome{}, err
		}
		out, err := p.txn(ctx, append([]*api.KVTxnOp{unchanged(keyMeta, s.index)}, ops...))
		if err != nil {
			return outcome{}, err
		}
		unsure = unsure || out.unsure
		if !out.failed[0] {
			return out.shift(unsure), nil
		}
		if _, err := p.look(ctx); err != nil {
			return outcome{}, err
		}
	}
}

// shift leaves the guard out of the numbers.
func (o outcome) shift(unsure bool) outcome {
	failed := make(map[int]bool, len(o.failed))
	for i := range o.failed {
		failed[i-1] = true
	}
	return outcome{failed: failed, pairs: o.pairs, unsure: unsure}
}

// txn runs the operations as they are.
func (p *Pool) txn(ctx context.Context, ops []*api.KVTxnOp) (outcome, error) {
	if len(ops) > maxOps {
		return outcome{}, fmt.Errorf("transaction of %d operations, at most %d: %w", len(ops), maxOps, ErrInvalid)
	}
	full := make(api.TxnOps, len(ops))
	for i, o := range ops {
		c := *o
		c.Key = p.prefix + o.Key
		full[i] = &api.TxnOp{KV: &c}
	}
	var resp *api.TxnResponse
	tries, err := p.try(ctx, func(q *api.QueryOptions) (err error) {
		_, resp, _, err = p.client.Txn().Txn(full, q)
		return err
	})
	if err != nil {
		return outcome{}, err
	}
	out := outcome{failed: map[int]bool{}, pairs: map[string]*api.KVPair{}, unsure: tries > 1}
	for _, e := range resp.Errors {
		// A transaction that the token does not allow comes back as one that
		// lost a race: status 409 and this text.
		if strings.Contains(e.What, "ermission denied") {
			return outcome{}, p.note(fmt.Errorf("%s: %w", ops[e.OpIndex].Key, ErrPermission))
		}
		out.failed[e.OpIndex] = true
	}
	for _, r := range resp.Results {
		out.pairs[strings.TrimPrefix(r.KV.Key, p.prefix)] = r.KV
	}
	return out, nil
}
