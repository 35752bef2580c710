package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery"
)

// countedNames counts the DNS servers that run.
type countedNames struct {
	flowNames
	running atomic.Int32
}

func (n *countedNames) Run(ctx context.Context) error {
	n.running.Add(1)
	defer n.running.Add(-1)
	<-ctx.Done()
	return nil
}

// An agent that cannot resume its membership leaves nothing behind that runs.
func TestAgentThatCannotResumeEndsItsParts(t *testing.T) {
	h := &flowHost{flow: newFlow(t), name: "host1", addr: netip.MustParseAddr("192.0.2.1"), dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(h.dir, datadir.ClusterFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Name, cfg.Advertise, cfg.RunDir, cfg.DataDir = h.name, h.addr, h.dir, h.dir
	log := slog.New(slog.DiscardHandler)
	p := h.parts(log)
	names := &countedNames{}
	p.Names = names
	if err := Assemble(cfg, p, log).Run(t.Context()); err == nil {
		t.Error("a torn cluster.json: no error")
	}
	if n := names.running.Load(); n != 0 {
		t.Errorf("%d DNS servers still run", n)
	}
}

// A detach that does not wait for the kernel holds no lock afterwards; the next
// interface of the sandbox waits until the kernel was asked.
func TestFlowDetachLetsGoOfItsSandbox(t *testing.T) {
	one, _ := pair(t)
	r := api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", Ifname: "eth0", Runtime: "cni", Container: "c0ffee"}
	if _, err := one.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	m := one.agent.member().endpoints
	key := m.Journal.All()[0].LockKey()
	gone := make(chan struct{})
	one.clings.Store(&gone)
	removed := sync.OnceFunc(func() { one.clings.Store(nil); close(gone) })
	defer removed()
	if err := one.DetachContainer(t.Context(), api.ContainerRef{Network: "blue", Container: "c0ffee"}); err != nil {
		t.Fatal(err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	unlock, err := m.Steps().Lock(brief, key)
	if err != nil {
		t.Fatalf("the sandbox is still locked: %v", err)
	}
	unlock()
	if _, err := one.Attach(brief, r); err == nil {
		t.Error("attached under the name of an interface that is there")
	}
	removed()
	if _, err := one.Attach(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// waiting is a gossip that has no receiver left for its changes.
type waiting struct {
	Directory
	t     *testing.T
	views atomic.Int32
}

func (w *waiting) Changes() <-chan struct{} {
	w.t.Error("a second receiver takes changes away from the loop")
	return nil
}

func (w *waiting) View() discovery.View {
	m := discovery.Member{ID: discovery.HostID{2}, Status: discovery.StatusAlive}
	if w.views.Add(1) > 2 {
		m.Header.VTEP = netip.MustParseAddr("192.0.2.2")
	}
	return discovery.View{Members: []discovery.Member{m}}
}

func TestJoinTakesNoChangesFromTheLoop(t *testing.T) {
	w := &waiting{t: t}
	if err := (&member{directory: w}).awaitHeaders(t.Context()); err != nil || w.views.Load() < 3 {
		t.Errorf("%v after %d looks", err, w.views.Load())
	}
}
