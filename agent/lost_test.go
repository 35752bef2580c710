package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
)

// An agent that is killed when the store has the cluster and the disk has not
// finishes it at its next start, or at the next init.
func TestFlowInitThatWasCutShort(t *testing.T) {
	for _, restart := range []bool{true, false} {
		t.Run(fmt.Sprintf("restart %t", restart), func(t *testing.T) {
			f := newFlow(t)
			f.altered = func(p Pool) Pool {
				real := p.Founding
				p.Founding = alteredFounding{real, func(ctx context.Context, m pool.Meta, h pool.Host) error {
					return errors.Join(real.Init(ctx, m, h), fmt.Errorf("no answer: %w", pool.ErrUnavailable))
				}}
				return p
			}
			one := f.host(1)
			if _, err := one.Init(t.Context(), api.InitRequest{}, nil); err == nil {
				t.Fatal("init did not fail")
			}
			f.altered = nil
			if restart {
				one.stop()
				one.start()
			} else if _, err := one.Init(t.Context(), api.InitRequest{}, nil); err != nil {
				t.Fatal(err)
			}
			two := f.host(2)
			tok := readToken(t, filepath.Join(one.dir, datadir.TokenFile))
			if _, err := two.Join(t.Context(), api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: tok}, nil); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(one.dir, datadir.PendingFile)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s stays: %v", datadir.PendingFile, err)
			}
		})
	}
}

// An init that never reached the store is forgotten, and the next one is a new
// one.
func TestFlowInitThatNeverReachedTheStore(t *testing.T) {
	f := newFlow(t)
	f.altered = func(p Pool) Pool {
		p.Founding = alteredFounding{p.Founding, func(context.Context, pool.Meta, pool.Host) error { return pool.ErrUnavailable }}
		return p
	}
	one := f.host(1)
	_, err := one.Init(t.Context(), api.InitRequest{}, nil)
	wantKind(t, err, api.KindFailed, "init: ")
	one.stop()
	f.altered = nil
	one.start()
	if st, err := one.Status(t.Context()); err != nil || st.State != "not-a-member" {
		t.Errorf("got %+v, %v", st, err)
	}
	if _, err := one.Init(t.Context(), api.InitRequest{}, nil); err != nil {
		t.Error(err)
	}
	_, err = one.Init(t.Context(), api.InitRequest{Consul: "foo"}, nil)
	wantKind(t, err, api.KindConflict, "member")
	_, err = f.host(3).Init(t.Context(), api.InitRequest{Consul: "foo"}, nil)
	wantKind(t, err, api.KindMisuse, `--consul "foo" is no URL`)
}

// What a replaced host held is freed although the join that fenced it was killed.
func TestFlowReplacedHostIsFreedAfterAKill(t *testing.T) {
	one, two := pair(t)
	p, h, n := two.lostHolder("ghost")
	if err := os.WriteFile(filepath.Join(one.dir, datadir.UnfreedFile), fmt.Appendf(nil, `{"schema":1,"hosts":[%q]}`, h.ID), 0o600); err != nil {
		t.Fatal(err)
	}
	one.stop()
	one.start()
	one.eventually("its block is free", func() error {
		all, err := p.Blocks(t.Context(), n)
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("%+v", all)
		}
		return err
	})
	one.eventually("and it is not tried again", func() error {
		_, err := os.Stat(filepath.Join(one.dir, datadir.UnfreedFile))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return errors.New("unfreed.json stays")
	})
}

// rm -f frees what hosts hold that nobody knows any more.
func TestFlowNetworkHeldByAHostThatIsUnknown(t *testing.T) {
	one, two := pair(t)
	two.lostHolder("ghost")
	if err := one.NetworkRemove(t.Context(), "blue", true); err != nil {
		t.Fatal(err)
	}
	_, err := one.Network(t.Context(), "blue")
	wantKind(t, err, api.KindNotFound, "blue")
}

// lostHolder makes a host that was fenced and still holds a block of blue.
func (h *flowHost) lostHolder(name string) (*pool.Pool, pool.Host, discovery.Network) {
	h.t.Helper()
	ctx := h.t.Context()
	p, err := pool.New(pool.Config{HTTPClient: h.store.Client()})
	must := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	must(err)
	gone := pool.Host{ID: discovery.HostID{0xee}, Name: name, Nonce: 1, VTEP: netip.MustParseAddr("192.0.2.77"),
		Gossip: netip.MustParseAddrPort("192.0.2.77:4798")}
	must(p.Register(ctx, gone))
	all, err := p.Networks(ctx)
	must(err)
	_, err = p.ClaimBlock(ctx, all[0], gone.ID, 1, false, nil)
	must(err)
	_, err = p.Fence(ctx, name, "test")
	must(err)
	return p, gone, all[0]
}

// wipe deletes every key of the store.
func (f *flow) wipe() {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodDelete, "http://store/v1/kv/?recurse", http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	resp, err := f.store.Client().Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.t.Fatalf("wipe: %s", resp.Status)
	}
}

// A host that was away when the store was wiped has no record there; it is
// removed all the same.
func TestFlowDeadHostWithoutARecord(t *testing.T) {
	one, two := pair(t)
	if _, err := two.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	two.stop()
	one.wipe()
	one.eventually("it is dead", func() error {
		all, err := one.Members(t.Context())
		if err != nil || len(all) != 2 || all[1].Status != "dead" {
			err = fmt.Errorf("%+v, %v", all, err)
		}
		return err
	})
	one.eventually("the record of host1 is back", func() error { return one.Leave(t.Context(), api.LeaveRequest{Name: "host2", Force: true}, nil) })
	all, err := one.Members(t.Context())
	if err != nil || len(all) != 1 {
		t.Errorf("members: %+v, %v, want host1 alone", all, err)
	}
	if err := one.Leave(t.Context(), api.LeaveRequest{Name: "host2", Force: true}, nil); err != nil {
		t.Errorf("again: %v", err)
	}
	wantKind(t, one.Leave(t.Context(), api.LeaveRequest{Name: "nobody", Force: true}, nil), api.KindNotFound, "nobody")
}

// A host that was taken out, or that leaves, does not put itself and its blocks
// back into a store that lost them.
func TestOnlyMembersWriteBackToAWipedStore(t *testing.T) {
	f := newFlow(t)
	var times atomic.Int64
	f.altered = func(p Pool) Pool {
		p.WriteBack = alteredWriteBack{p.WriteBack, func() { times.Add(1) }}
		return p
	}
	h := f.host(1)
	if _, err := h.Init(t.Context(), api.InitRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	s := h.agent.member()
	for _, tt := range []struct {
		name      string
		forgotten string
		leaving   bool
		want      bool
	}{
		{name: "member", want: true},
		{name: "leaving", leaving: true},
		{name: "taken out", forgotten: "by host9"}, // for good, so last
	} {
		times.Store(0)
		s.networks.NoteLost()
		s.host.SetLeaving(tt.leaving)
		if tt.forgotten != "" {
			s.host.Forget(tt.forgotten)
		}
		s.writeBack(t.Context())
		if got := times.Load() > 0; got != tt.want {
			t.Errorf("%s: wrote back: %t, want %t", tt.name, got, tt.want)
		}
	}
}
