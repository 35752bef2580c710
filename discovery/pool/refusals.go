package pool

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/discovery/strict"
)

// refusals are the keys that readers passed over, as they were read last.
type refusals struct {
	ledger *strict.Ledger
	prefix string
	remove func(key string) string // the command that deletes a key; empty: there is none

	mu  sync.Mutex // also keeps the ledger in step
	all map[string]strict.Refused
}

// of says what is wrong with a key, and how to delete it.
func (r *refusals) of(key string, err error) strict.Refused {
	full := r.prefix + key
	return strict.Refused{Source: "key " + printable(full), Why: err.Error(), Hint: r.remove(full)}
}

// folder notes all that is refused now below a folder.
func (r *refusals) folder(folder string, now map[string]error) {
	r.change(func(key string) bool { return strings.HasPrefix(key, folder) }, now)
}

// key notes what is wrong with one key; nil: nothing.
func (r *refusals) key(key string, err error) {
	now := map[string]error{}
	if err != nil {
		now[key] = err
	}
	r.change(func(k string) bool { return k == key }, now)
}

// change puts what is refused now in the place of what was, among the keys that
// were read.
func (r *refusals) change(read func(key string) bool, now map[string]error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.all)
	maps.DeleteFunc(r.all, func(key string, _ strict.Refused) bool { return read(key) })
	if before == 0 && len(now) == 0 {
		return
	}
	for key, err := range now {
		r.all[key] = r.of(key, err)
	}
	r.ledger.Set(strict.Pool, slices.Collect(maps.Values(r.all)))
}

// keys are those that are refused now.
func (r *refusals) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.all))
}

// recheckTime is how soon a key that was deleted is no longer refused, where no
// watch tells of it.
const recheckTime = 10 * time.Second

// recheck looks whether the keys that are refused are still there, until ctx ends.
// Those of the folders that are watched need no look.
func (s *store) recheck(ctx context.Context, watched []string) {
	for pace.Sleep(ctx, recheckTime) {
		for _, key := range s.refusals.keys() {
			if !slices.ContainsFunc(watched, func(f string) bool { return strings.HasPrefix(key, f) }) {
				s.recheckKey(ctx, key)
			}
		}
	}
}

func (s *store) recheckKey(ctx context.Context, key string) {
	ctx, cancel := bound(ctx)
	defer cancel()
	kv, err := s.lookup(ctx, key)
	if err == nil && kv == nil {
		s.refusals.key(key, nil)
	}
}

// deletion makes the command that deletes a key of the store. socket is that of an
// embedded store; without one nobody else reaches it, and there is no command.
func (s *store) deletion(socket string) func(key string) string {
	return func(key string) string {
		switch {
		case s.servers == nil && socket == "":
			return ""
		case s.servers == nil:
			return fmt.Sprintf("curl --unix-socket %s -X DELETE http://weft/v1/kv/%s", word(socket), word((&url.URL{Path: key}).EscapedPath()))
		}
		at := ""
		if now, _ := s.servers.current(); now.url.String() != "http://127.0.0.1:8500" {
			at = "-http-addr=" + word(now.url.String()) + " "
		}
		return "consul kv delete " + at + word(key)
	}
}

// word is a word of a shell's command line, whatever is in it.
func word(s string) string {
	simple := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/_.:@%+=,-", r)
	}
	switch {
	case s != "" && strings.IndexFunc(s, func(r rune) bool { return !simple(r) }) < 0:
		return s
	case printable(s) == s:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return "$'" + strings.ReplaceAll(printable(s), "'", `\'`) + "'"
}

// printable is s in one line.
func printable(s string) string {
	q := fmt.Sprintf("%+q", s)
	if plain := q[1 : len(q)-1]; strings.ReplaceAll(plain, `\"`, `"`) != s {
		return plain
	}
	return s
}
