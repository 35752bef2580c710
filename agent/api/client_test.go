package api_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/agent/api"
)

// calls is one call of each method, with every field of its request set. The
// error is the method's own.
var calls = []struct {
	name string
	last any // what the Service sees
	call func(context.Context, api.Service) (any, error)
}{
	{"status", nil, func(ctx context.Context, s api.Service) (any, error) { return s.Status(ctx) }},
	{"version", nil, func(ctx context.Context, s api.Service) (any, error) { return s.Version(ctx) }},
	{"init", api.InitRequest{Consul: "http://192.0.2.10:8500", Pool: "10.96.0.0/12", Domain: "example.com", Adopt: true,
		GossipPort: 5798, TunnelPort: 5799, Profile: "wan"},
		func(ctx context.Context, s api.Service) (any, error) {
			return s.Init(ctx, api.InitRequest{Consul: "http://192.0.2.10:8500", Pool: "10.96.0.0/12", Domain: "example.com", Adopt: true,
				GossipPort: 5798, TunnelPort: 5799, Profile: "wan"}, ignore)
		}},
	{"join", api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: "weft1.x", Consul: "http://192.0.2.10:8500", Replace: true},
		func(ctx context.Context, s api.Service) (any, error) {
			return s.Join(ctx, api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: "weft1.x", Consul: "http://192.0.2.10:8500", Replace: true}, ignore)
		}},
	{"leave", api.LeaveRequest{Name: "host2", Force: true, Purge: true, Wait: true, EvenIfRunning: true}, func(ctx context.Context, s api.Service) (any, error) {
		return nil, s.Leave(ctx, api.LeaveRequest{Name: "host2", Force: true, Purge: true, Wait: true, EvenIfRunning: true}, ignore)
	}},
	{"members", nil, func(ctx context.Context, s api.Service) (any, error) { return s.Members(ctx) }},
	{"proofs", false, func(ctx context.Context, s api.Service) (any, error) { return s.Proofs(ctx, false) }},
	{"proofs that are made anew", true, func(ctx context.Context, s api.Service) (any, error) { return s.Proofs(ctx, true) }},
	{"network create", everyOption, func(ctx context.Context, s api.Service) (any, error) { return s.NetworkCreate(ctx, everyOption) }},
	{"networks", nil, func(ctx context.Context, s api.Service) (any, error) { return s.Networks(ctx) }},
	{"network", "blue", func(ctx context.Context, s api.Service) (any, error) { return s.Network(ctx, "blue") }},
	{"network with a name that needs escaping", "a/b c?d%", func(ctx context.Context, s api.Service) (any, error) { return s.Network(ctx, "a/b c?d%") }},
	{"network whose name is a path", "..", func(ctx context.Context, s api.Service) (any, error) { return s.Network(ctx, "..") }},
	{"network remove", []any{"blue", false}, func(ctx context.Context, s api.Service) (any, error) { return nil, s.NetworkRemove(ctx, "blue", false) }},
	{"network remove by force", []any{"blue", true}, func(ctx context.Context, s api.Service) (any, error) { return nil, s.NetworkRemove(ctx, "blue", true) }},
	{"endpoint history", []string{"10.64.0.5", "2026-01-02T03:04:05"}, func(ctx context.Context, s api.Service) (any, error) {
		return s.EndpointHistory(ctx, "10.64.0.5", "2026-01-02T03:04:05")
	}},
	{"events", everyEvent, func(ctx context.Context, s api.Service) (any, error) {
		var all []api.EventItem
		err := s.Events(ctx, everyEvent, func(i api.EventItem) error { all = append(all, i); return nil })
		return all, err
	}},
	{"attach", attachWeb, func(ctx context.Context, s api.Service) (any, error) { return s.Attach(ctx, attachWeb) }},
	{"detach", []string{"blue", "web"}, func(ctx context.Context, s api.Service) (any, error) { return nil, s.Detach(ctx, "blue", "web") }},
	{"detach a container", attachedContainer, func(ctx context.Context, s api.Service) (any, error) {
		return nil, s.DetachContainer(ctx, attachedContainer)
	}},
	{"detach a container from every interface", api.ContainerRef{Network: "blue", Container: "c1"}, func(ctx context.Context, s api.Service) (any, error) {
		return nil, s.DetachContainer(ctx, api.ContainerRef{Network: "blue", Container: "c1"})
	}},
	{"network prune", pruneOld, func(ctx context.Context, s api.Service) (any, error) { return s.NetworkPrune(ctx, pruneOld) }},
	{"connect", connectWeb, func(ctx context.Context, s api.Service) (any, error) { return s.Connect(ctx, connectWeb) }},
	{"disconnect", disconnectWeb, func(ctx context.Context, s api.Service) (any, error) { return nil, s.Disconnect(ctx, disconnectWeb) }},
	{"endpoints", api.EndpointFilter{}, func(ctx context.Context, s api.Service) (any, error) { return s.Endpoints(ctx, api.EndpointFilter{}) }},
	{"endpoints of a network and a host", api.EndpointFilter{Network: "blue", Host: "host1", All: true}, func(ctx context.Context, s api.Service) (any, error) {
		return s.Endpoints(ctx, api.EndpointFilter{Network: "blue", Host: "host1", All: true})
	}},
	{"endpoint", "web", func(ctx context.Context, s api.Service) (any, error) { return s.Endpoint(ctx, "web") }},
	{"why", askedWhy, func(ctx context.Context, s api.Service) (any, error) { return s.Why(ctx, askedWhy) }},
	{"ping", askedPing, func(ctx context.Context, s api.Service) (any, error) { return s.Ping(ctx, askedPing) }},
	{"mesh", false, func(ctx context.Context, s api.Service) (any, error) { return s.Mesh(ctx, false) }},
	{"mesh that is proven anew", true, func(ctx context.Context, s api.Service) (any, error) { return s.Mesh(ctx, true) }},
	{"test", askedTest, func(ctx context.Context, s api.Service) (any, error) { return s.Test(ctx, askedTest, ignore) }},
	{"verify", api.VerifyRequest{All: true}, func(ctx context.Context, s api.Service) (any, error) {
		return s.Verify(ctx, api.VerifyRequest{All: true})
	}},
	{"repair", api.VerifyRequest{All: true, Repair: true}, func(ctx context.Context, s api.Service) (any, error) {
		return s.Verify(ctx, api.VerifyRequest{All: true, Repair: true})
	}},
	{"doctor", nil, func(ctx context.Context, s api.Service) (any, error) { return s.Doctor(ctx) }},
	{"bundle", false, func(ctx context.Context, s api.Service) (any, error) { return s.Bundle(ctx, false) }},
	{"bundle of all", true, func(ctx context.Context, s api.Service) (any, error) { return s.Bundle(ctx, true) }},
	{"metrics", nil, func(ctx context.Context, s api.Service) (any, error) { return s.Metrics(ctx) }},
	{"query", api.DNSQuery{Name: "web", Type: "SRV", From: "e1"}, func(ctx context.Context, s api.Service) (any, error) {
		return s.Query(ctx, api.DNSQuery{Name: "web", Type: "SRV", From: "e1"})
	}},
}

var (
	ignore      = func(string) {}
	askedWhy    = api.WhyRequest{From: "web", To: "db", Port: 5432, Proto: "tcp"}
	askedTest   = api.TestRequest{Hosts: []string{"host1"}, Run: "pair/", Perf: true}
	askedPing   = api.PingRequest{From: "web", To: "db", Count: 2, Size: 1400, Whole: true}
	everyOption = api.NetworkCreateRequest{Name: "blue", Subnets: []string{"10.64.0.0/20"}, Gateways: []string{"10.64.0.1"},
		IPRanges: []string{"10.64.1.0/24"}, AuxAddresses: map[string]string{"router": "10.64.0.254"}, Internal: true,
		Labels: map[string]string{"team": "a"}, Options: map[string]string{"mtu": "1400"}, Driver: "weft"}
	attachWeb = api.AttachRequest{Network: "blue", Netns: "web", PID: 7, Name: "web", Aliases: []string{"www"}, IP: "10.64.0.5",
		MAC: "0e:00:0a:40:00:05", Ifname: "net0", NoDefaultRoute: true, Runtime: "podman", Container: "c1", Labels: map[string]string{"team": "a"},
		Ports: []string{"8080:80"}}
	connectWeb        = api.ConnectRequest{Network: "red", Container: "web", Aliases: []string{"www"}, IP: "10.64.16.5", MAC: "0e:01:0a:40:10:05"}
	disconnectWeb     = api.DisconnectRequest{Network: "red", Container: "web", Force: true}
	pruneOld          = api.PruneRequest{Until: "24h", Labels: []string{"team=a"}, NotLabels: []string{"keep"}}
	attachedContainer = api.ContainerRef{Network: "blue", Container: "c1", Ifname: "net0"}
)

func TestClientIsTheServiceBehindTheSocket(t *testing.T) {
	f := &fake{progress: []string{"one", "two"}}
	c := api.NewClient(serve(t, f))
	for _, tt := range calls {
		t.Run(tt.name, func(t *testing.T) {
			want, err := tt.call(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			f.last = nil
			got, err := tt.call(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("answer (-service +client):\n%s", d)
			}
			if d := cmp.Diff(tt.last, f.last); d != "" {
				t.Errorf("request (-sent +seen):\n%s", d)
			}
		})
	}
}

func TestClientSaysItsRelease(t *testing.T) {
	said := make(chan string, 1)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "agentd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { said <- r.UserAgent() })}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	_, _ = api.NewClient(l.Addr().String()).Status(t.Context())
	if got := <-said; got != "weft/"+api.Release() {
		t.Errorf("User-Agent %q, want weft/%s", got, api.Release())
	}
}

func TestErrorsKeepKindAndHint(t *testing.T) {
	for _, steps := range [][]string{nil, {"one"}} { // before and after the first line of a long call
		f := &fake{err: errConflict, progress: steps}
		c := api.NewClient(serve(t, f))
		want := &api.Error{Kind: api.KindConflict, Message: "attach web: 10.64.0.5 is host2's", Hint: "agentctl endpoint ls --host host2"}
		for _, tt := range calls {
			t.Run(tt.name, func(t *testing.T) {
				_, err := tt.call(t.Context(), c)
				got, ok := errors.AsType[*api.Error](err)
				if !ok {
					t.Fatalf("err = %v, want an *Error", err)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("-want +got:\n%s", d)
				}
			})
		}
	}
}

func TestEveryKindComesBack(t *testing.T) {
	for _, k := range []api.Kind{api.KindFailed, api.KindMisuse, api.KindUnreachable, api.KindNotFound, api.KindConflict, api.KindTimeout, api.KindPermission} {
		f := &fake{err: api.Errorf(k, "why")}
		_, err := api.NewClient(serve(t, f)).Members(t.Context())
		if api.KindOf(err) != k || err.Error() != "why" {
			t.Errorf("kind %s came back as %s: %v", k, api.KindOf(err), err)
		}
	}
	f := &fake{err: errors.New("plain")}
	if _, err := api.NewClient(serve(t, f)).Members(t.Context()); api.KindOf(err) != api.KindFailed || err.Error() != "plain" {
		t.Errorf("an error without a kind came back as %s: %v", api.KindOf(err), err)
	}
}

func TestProgressArrivesBeforeTheEnd(t *testing.T) {
	f := &fake{progress: []string{"one", "two"}, hold: make(chan struct{})}
	c := api.NewClient(serve(t, f))
	var got []string
	err := c.Leave(t.Context(), api.LeaveRequest{Wait: true}, func(s string) {
		if got = append(got, s); len(got) == 2 {
			close(f.hold) // the call cannot end before both lines are here
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"one", "two"}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestInterruptedCallEndsInTheAgentToo(t *testing.T) {
	ended := make(chan error, 1)
	f := &fake{progress: []string{"waiting"}, hold: make(chan struct{})}
	c := api.NewClient(serve(t, leaveEnds{f, ended}))
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Leave(ctx, api.LeaveRequest{Wait: true}, func(string) { cancel() })
	if api.KindOf(err) != api.KindFailed || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("client: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("agent: %v, want its context canceled", err)
	}
}

// leaveEnds reports how Leave ended.
type leaveEnds struct {
	*fake
	ended chan error
}

func (l leaveEnds) Leave(ctx context.Context, r api.LeaveRequest, progress func(string)) error {
	err := l.fake.Leave(ctx, r, progress)
	l.ended <- err
	return err
}

func TestClientTimesOut(t *testing.T) {
	f := &fake{hold: make(chan struct{})}
	c := api.NewClient(serve(t, f))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Leave(ctx, api.LeaveRequest{Wait: true}, nil); api.KindOf(err) != api.KindTimeout {
		t.Errorf("err = %v, want a timeout", err)
	}
}

func TestNoAgent(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	leaveDeadSocket(t, dead)
	for name, tt := range map[string]struct{ socket, hint string }{
		"no socket":              {filepath.Join(dir, "agentd.sock"), "agentd --run-dir " + dir},
		"socket of a dead agent": {dead, "agentd --run-dir " + dir},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := api.NewClient(tt.socket).Status(t.Context())
			e, ok := errors.AsType[*api.Error](err)
			if !ok || e.Kind != api.KindUnreachable || e.Hint != tt.hint || !strings.Contains(e.Message, tt.socket) {
				t.Errorf("err = %#v, want unreachable with hint %q", err, tt.hint)
			}
		})
	}
	if _, err := os.Stat(api.DefaultSocket); err == nil {
		t.Skip("an agent runs on this host: its own socket would answer")
	}
	_, err := api.NewClient("").Status(t.Context())
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Kind != api.KindUnreachable || e.Hint != "systemctl start agentd" {
		t.Errorf("err = %#v, want unreachable with the systemctl line", err)
	}
}

// leaveDeadSocket makes a socket that nobody listens on, as a killed agent does.
func leaveDeadSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func TestAgentThatDiesInTheMiddle(t *testing.T) {
	for name, sent := range map[string]string{
		"before the answer":       "",
		"in the middle of a line": "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{\"progress\":\"one\"}\n{\"prog",
		"between lines":           "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{\"progress\":\"one\"}\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := api.NewClient(answerOnce(t, sent))
			if err := c.Leave(t.Context(), api.LeaveRequest{}, ignore); api.KindOf(err) != api.KindUnreachable {
				t.Errorf("err = %v, want unreachable", err)
			}
		})
	}
}

// A runtime asks once: an agent that is started again in the middle of its call
// answers the same call made again.
func TestACallIsMadeAgainWhenItsAgentEnds(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agentd.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan int, 10)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls <- 1
		if len(calls) == 1 {
			panic(http.ErrAbortHandler) // the connection is cut
		}
		_, _ = w.Write([]byte(`{"name":"h1"}`))
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	got, err := api.Again(t.Context(), api.NewClient(socket).Status)
	if err != nil || got.Name != "h1" || len(calls) != 2 {
		t.Errorf("got %+v (%v) after %d calls, want the answer of the second", got, err, len(calls))
	}
	refused := 0
	_, err = api.Again(t.Context(), func(ctx context.Context) (api.Status, error) {
		refused++
		return api.NewClient(filepath.Join(t.TempDir(), "none.sock")).Status(ctx)
	})
	if api.KindOf(err) != api.KindUnreachable || refused != 1 {
		t.Errorf("an agent that does not run is asked %d times: %v", refused, err)
	}
}

func TestSomethingElseOnTheSocket(t *testing.T) {
	c := api.NewClient(answerOnce(t, "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 11\r\n\r\nshort\nstout"))
	_, err := c.Status(t.Context())
	if api.KindOf(err) != api.KindFailed || !strings.HasSuffix(err.Error(), "answered 418 I'm a teapot: short") {
		t.Errorf("err = %v", err)
	}
}

// answerOnce is a socket where the first connection is sent the bytes and
// closed, once its request has begun.
func answerOnce(t *testing.T, sent string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Read(make([]byte, 4096))
		c.Write([]byte(sent))
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path
}

func TestEmptyNamesNeverLeaveTheClient(t *testing.T) {
	f := &fake{}
	c := api.NewClient(serve(t, f))
	_, e1 := c.Network(t.Context(), "")
	_, e2 := c.Endpoint(t.Context(), "")
	e3 := c.DetachContainer(t.Context(), api.ContainerRef{Network: "blue"})
	for _, err := range []error{e1, e2, e3, c.NetworkRemove(t.Context(), "", true), c.Detach(t.Context(), "blue", ""), c.Detach(t.Context(), "", "web")} {
		if api.KindOf(err) != api.KindMisuse {
			t.Errorf("err = %v, want misuse", err)
		}
	}
	if f.last != nil {
		t.Errorf("the agent was asked for %v", f.last)
	}
}
