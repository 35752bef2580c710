package pool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"pgregory.net/rapid"

	"github.com/weft-net/weft/discovery"
)

// FuzzKeys: what a parser accepts is written back the same.
func FuzzKeys(f *testing.F) {
	id := discovery.NetworkID{1, 2}
	for _, key := range []string{
		blockKey(id, netip.MustParsePrefix("10.64.0.0/26")), blockKey(id, netip.MustParsePrefix("2001:db8::/112")),
		ipKey(id, netip.MustParseAddr("10.64.0.7")), hostKey(discovery.HostID{3}), "blocks/", "ips/x/0a", "hosts/zz",
		blocksOf(id) + "0a400001-26", blocksOf(id) + "0a400000-33", blocksOf(id) + "0A400000-26", blocksOf(id) + "0a400000-026",
		strings.ToUpper(blockKey(id, netip.MustParsePrefix("10.64.0.0/26"))), ipKey(id, netip.MustParseAddr("::ffff:10.64.0.7")),
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if id, b, err := parseBlockKey(key); err == nil && blockKey(id, b) != key {
			t.Errorf("%q is block %s of %s, whose key is %q", key, b, id, blockKey(id, b))
		}
		if id, a, err := parseIPKey(key); err == nil && (ipKey(id, a) != key || a != a.Unmap()) {
			t.Errorf("%q is address %s of %s, whose key is %q", key, a, id, ipKey(id, a))
		}
		if _, err := parseHostKey(key, folderHosts); err != nil && !errors.Is(err, discovery.ErrMalformed) {
			t.Errorf("%q: %v, want ErrMalformed", key, err)
		}
	})
}

// FuzzValues: no value of the store makes a reader panic, and every refusal
// says that it is one.
func FuzzValues(f *testing.F) {
	for _, v := range []any{
		netValue{Network: discovery.Network{Name: "blue", Subnets: []discovery.Subnet{newSubnet(netip.MustParsePrefix("10.64.0.0/20"))}}},
		blockValue{Seq: 1, State: discovery.BlockActive}, ipValue{Seq: 2}, hostValue{Name: "one"},
		goneValue{By: "x"}, netGoneValue{VNI: 4096}, genValue{N: 1}, Meta{Schema: 1}, nil, []int{1},
	} {
		f.Add(encode(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		id := discovery.NetworkID{1}
		pair := func(key string) *api.KVPair { return &api.KVPair{Key: key, Value: value} }
		var errs [6]error
		_, errs[0] = parseNet(pair("nets/x"))
		_, errs[1] = parseBlock(pair(blockKey(id, netip.MustParsePrefix("10.64.0.0/26"))))
		_, errs[2] = parseReservation(pair(ipKey(id, netip.MustParseAddr("10.64.0.7"))))
		_, errs[3] = parseHost(pair(hostKey(discovery.HostID{1})))
		_, errs[4] = parseNetGone(pair(netGoneKey(id)))
		_, errs[5] = parseGone(pair(goneKey(discovery.HostID{1})))
		for i, err := range errs {
			if err != nil && !errors.Is(err, discovery.ErrMalformed) {
				t.Errorf("parser %d: %v, want ErrMalformed", i, err)
			}
		}
		if out := rewrite(value, genValue{N: 7}); !json.Valid(out) {
			t.Errorf("rewritten as %q", out)
		}
	})
}

func TestRewriteKeepsWhatItDoesNotKnow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := rapid.MapOf(rapid.StringMatching(`[a-z_]{1,10}`), rapid.Int()).Draw(t, "old")
		v := genValue{N: rapid.Uint64().Draw(t, "n"), NextVNI: rapid.Uint32().Draw(t, "vni")}
		out := rewrite(encode(old), v)
		var got genValue
		if err := json.Unmarshal(out, &got); err != nil || got != v {
			t.Fatalf("got %v (%v), want %v", got, err, v)
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(out, &all); err != nil {
			t.Fatal(err)
		}
		for name, value := range old {
			if name == "n" || name == "next_vni" {
				continue
			}
			if !bytes.Equal(all[name], encode(value)) {
				t.Fatalf("%s: got %s, want %d", name, all[name], value)
			}
		}
	})
}

func drawPrefix(t *rapid.T, within netip.Prefix, longest int, label string) netip.Prefix {
	bits := rapid.IntRange(within.Bits(), longest).Draw(t, label+" bits")
	at := rapid.Uint32().Draw(t, label)
	base := within.Addr().As4()
	host := new(big.Int).SetUint64(uint64(at) & (1<<(32-within.Bits()) - 1))
	sum := new(big.Int).Add(new(big.Int).SetBytes(base[:]), host)
	var a [4]byte
	sum.FillBytes(a[:])
	return netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked()
}

// TestFree compares with asking every prefix in turn.
func TestFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := netip.MustParsePrefix("10.64.0.0/22")
		around := netip.MustParsePrefix("10.64.0.0/20")
		var used []use
		for range rapid.IntRange(0, 12).Draw(t, "used") {
			used = append(used, use{prefix: drawPrefix(t, around, 30, "used")})
		}
		bits := rapid.IntRange(20, 29).Draw(t, "bits")
		got, ok := free(pool, bits, used)

		var want netip.Prefix
		for a := pool.Addr(); bits >= 22 && pool.Contains(a) && !want.IsValid(); {
			p := netip.PrefixFrom(a, bits)
			if checkOverlap(p, netip.Prefix{}, used) == nil {
				want = p
			}
			a = last(p).Next()
		}
		if got != want || ok != want.IsValid() {
			t.Fatalf("got %v %v, want %v beside %v", got, ok, want, used)
		}
	})
}

func TestFreeInIPv6(t *testing.T) {
	pool := netip.MustParsePrefix("fd00::/48")
	used := []use{{prefix: netip.MustParsePrefix("fd00::/63")}, {prefix: netip.MustParsePrefix("fd00:0:0:2:8000::/65")}}
	got, ok := free(pool, 64, used)
	if want := netip.MustParsePrefix("fd00:0:0:3::/64"); !ok || got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	end := netip.MustParsePrefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120")
	if got, ok := free(end, 121, []use{{prefix: end}}); ok {
		t.Errorf("at the end of the addresses: got %v, want none", got)
	}
}

func TestCommonHexIsAPrefixOfEveryAddress(t *testing.T) {
	for _, text := range []string{"10.64.0.64/26", "10.64.0.0/20", "10.64.1.7/32", "2001:db8::/112", "2001:db8::/61"} {
		p := netip.MustParsePrefix(text)
		for _, a := range []netip.Addr{p.Addr(), last(p)} {
			if hex := commonHex(p); addrHex(a)[:len(hex)] != hex {
				t.Errorf("%s: %s does not begin with %s", p, addrHex(a), hex)
			}
		}
	}
}

func TestTransactionsAreLimitedBeforeTheyAreSent(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the store was asked")
	}))
	defer server.Close()
	s, err := newStore(Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	many := make([]*api.KVTxnOp, maxOps+1)
	for i := range many {
		many[i] = read("a")
	}
	if _, err := s.txn(t.Context(), many); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func TestLimiterSlowsAStoreThatAnswersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := newLimiter()
		take := func() {
			if err := limit.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var at []time.Duration
		start := time.Now()
		for range 5 {
			take()
			at = append(at, time.Since(start))
		}
		time.Sleep(time.Hour) // saves no more than the burst
		start = time.Now()
		for range 3 {
			take()
			at = append(at, time.Since(start))
		}
		want := []time.Duration{0, 0, watchPause, 2 * watchPause, 3 * watchPause, 0, 0, watchPause}
		if !reflect.DeepEqual(at, want) {
			t.Errorf("answers at %v, want %v", at, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if limit.Wait(ctx) == nil {
			t.Error("took a token after the end")
		}
	})
}
