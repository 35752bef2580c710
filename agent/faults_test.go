package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/networks"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/dns"
)

// alteredStore, alteredFounding and alteredWriteBack replace one call of a pool.
type alteredStore struct {
	networks.Store
	watch func(ctx context.Context, deliver func(pool.Contents) []strict.Clash) error
}

func (s alteredStore) Watch(ctx context.Context, deliver func(pool.Contents) []strict.Clash) error {
	return s.watch(ctx, deliver)
}

type alteredFounding struct {
	Founding
	init func(ctx context.Context, m pool.Meta, h pool.Host) error
}

func (f alteredFounding) Init(ctx context.Context, m pool.Meta, h pool.Host) error {
	return f.init(ctx, m, h)
}

type alteredWriteBack struct {
	networks.WriteBack
	wroteBack func() // called by Reassert
}

func (w alteredWriteBack) Reassert(ctx context.Context, m pool.Meta, h pool.Host, n []discovery.Network, b []discovery.Block) error {
	w.wroteBack()
	return w.WriteBack.Reassert(ctx, m, h, n, b)
}

// deaf makes a pool whose watch shows nothing.
func deaf(p Pool) Pool {
	p.Networks = alteredStore{p.Networks, func(ctx context.Context, _ func(pool.Contents) []strict.Clash) error { <-ctx.Done(); return nil }}
	return p
}

func wantKind(t *testing.T, err error, k api.Kind, part string) {
	t.Helper()
	if api.KindOf(err) != k || err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want %s with %q", err, k, part)
	}
}

// A network that another host made a moment ago is found although the watch has
// not shown it yet.
func TestFlowNetworkThatWasNotHeardOfYet(t *testing.T) {
	f := newFlow(t)
	one := f.host(1)
	made, err := one.Init(t.Context(), api.InitRequest{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.altered = deaf
	two := f.host(2)
	if _, err := two.Join(t.Context(), api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: readToken(t, made.TokenFile)}, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Red", "green", "blue"} {
		if _, err := one.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := two.Attach(t.Context(), api.AttachRequest{Network: "BLUE", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Errorf("attach: %v", err)
	}
	if _, err := two.Network(t.Context(), "Red"); err != nil {
		t.Errorf("inspect: %v", err)
	}
	_, err = two.Network(t.Context(), "nowhere")
	wantKind(t, err, api.KindNotFound, "no network nowhere")
	if err := one.NetworkRemove(t.Context(), "GREEN", false); err != nil {
		t.Errorf("rm by another case: %v", err)
	}
}

func TestFlowDetachNamesTheHostOfAnEndpoint(t *testing.T) {
	one, two := pair(t)
	far, err := two.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "far"})
	if err != nil {
		t.Fatal(err)
	}
	one.eventually("far is known", func() error { _, err := one.Endpoint(t.Context(), "far"); return err })
	for _, name := range []string{"far", far.ID, far.ID[:8]} {
		err := one.Detach(t.Context(), "blue", name)
		wantKind(t, err, api.KindConflict, "is on host host2")
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Hint != "ssh 192.0.2.2 agentctl detach blue "+name {
			t.Errorf("%s: got %+v, want the command as its hint", name, e)
		}
	}
	if err := one.Detach(t.Context(), "blue", "nobody"); err != nil {
		t.Errorf("what is nowhere: %v", err)
	}
	if err := two.Detach(t.Context(), "blue", far.ID[:8]); err != nil {
		t.Error(err)
	}
	if all, err := two.Endpoints(t.Context(), api.EndpointFilter{}); err != nil || len(all) != 0 {
		t.Errorf("by the start of its id it was not detached: %v, %v", all, err)
	}
	_, err = one.Endpoints(t.Context(), api.EndpointFilter{Host: "nope"})
	wantKind(t, err, api.KindNotFound, "no host nope")
	_, err = one.Endpoints(t.Context(), api.EndpointFilter{Network: "nope"})
	wantKind(t, err, api.KindNotFound, "no network nope")
}

func TestFlowAttachedAgainOtherwise(t *testing.T) {
	one, _ := pair(t)
	first := api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", Aliases: []string{"www", "api"}, MAC: "0e:00:00:00:00:05"}
	a, err := one.Attach(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	again := first
	again.Aliases, again.MAC = []string{"API", "www", "api"}, ""
	if b, err := one.Attach(t.Context(), again); err != nil || b.ID != a.ID {
		t.Errorf("the same in other words: got %+v, %v", b, err)
	}
	for how, change := range map[string]func(*api.AttachRequest){
		"as web":                       func(r *api.AttachRequest) { r.Name = "db" },
		"with address 10.64":           func(r *api.AttachRequest) { r.IP = "10.64.9.9" },
		"with --mac 0e:00:00:00:00:05": func(r *api.AttachRequest) { r.MAC = "0e:00:00:00:00:06" },
		"with --alias api --alias www": func(r *api.AttachRequest) { r.Aliases = nil },
		"without --no-default-route":   func(r *api.AttachRequest) { r.NoDefaultRoute = true },
	} {
		other := first
		change(&other)
		_, err := one.Attach(t.Context(), other)
		wantKind(t, err, api.KindConflict, how)
	}
}

// A namespace that is made again under its path is attached at once, with what
// the one before it had.
func TestFlowNamespaceMadeAgainAtOnce(t *testing.T) {
	one, _ := pair(t)
	r := api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", IP: "10.64.3.3"}
	for cookie := range uint64(5) {
		if _, err := one.Attach(t.Context(), r); err != nil {
			t.Fatalf("namespace %d: %v", cookie, err)
		}
		if all, err := one.Endpoints(t.Context(), api.EndpointFilter{}); err != nil || len(all) != 1 {
			t.Fatalf("namespace %d: %v, %v", cookie, all, err)
		}
		one.kernel.RemoveSandbox("/run/sandbox/0")
		one.kernel.AddSandbox("/run/sandbox/0", 50+cookie)
	}
	// The address goes to another path as well.
	r.Netns = "/run/sandbox/1"
	if _, err := one.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// After a reboot a namespace may have the cookie of another that was.
func TestFlowCookieOfAnotherBoot(t *testing.T) {
	one, _ := pair(t)
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	one.stop()
	one.boot = "another"
	one.kernel.RemoveSandbox("/run/sandbox/0")
	one.kernel.AddSandbox("/run/sandbox/0", 100) // the same path and cookie
	one.start()
	if all, err := one.Endpoints(t.Context(), api.EndpointFilter{All: true}); err != nil || len(all) != 0 {
		t.Errorf("the endpoint of the boot before: %+v, %v", all, err)
	}
}

func TestNetworkThatIsTooLargeForTheUnderlay(t *testing.T) {
	one, _ := pair(t)
	for mtu, want := range map[string]string{"1450": "", "9000": "1500 bytes"} {
		r, err := one.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: "mtu" + mtu, Options: map[string]string{"mtu": mtu}})
		if err != nil || (want == "") != (len(r.Warnings) == 0) || !strings.Contains(strings.Join(r.Warnings, ""), want) {
			t.Errorf("mtu %s: warnings %q, %v, want %q", mtu, r.Warnings, err, want)
		}
	}
}

func TestNamesThatAreNotServedAreSaidOnce(t *testing.T) {
	long := strings.Repeat("x", 64)
	z := dns.Zone{Networks: []dns.Network{{Name: "blue", Names: []dns.Name{
		{Name: "web", Aliases: []string{"a b"}}, {Name: long}, {Name: "db.primary"},
	}}}}
	all := diagnose.Unservable(z)
	if want := []string{"a b on blue", long + " on blue"}; !slices.Equal(all, want) {
		t.Errorf("got %q, want %q", all, want)
	}
	var log strings.Builder
	n := notes{log: slog.New(slog.NewTextHandler(&log, nil)), unnamed: map[string]bool{}}
	for range 3 {
		n.names(all)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("%d lines, want 2:\n%s", lines, &log)
	}
}
