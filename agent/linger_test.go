package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/overlaytest"
)

// slowKernel takes its time with each pass, so that passes and requests overlap.
type slowKernel struct{ flowKernel }

func (k slowKernel) Set(ctx context.Context, s overlay.State) error {
	time.Sleep(rand.N(20 * time.Millisecond))
	defer func() { time.Sleep(rand.N(20 * time.Millisecond)) }()
	return k.flowKernel.Set(ctx, s)
}

// inBubble is a host that is the first of a cluster, without its socket: its clock
// is the test's.
func inBubble(t *testing.T, kernel func(flowKernel) Overlay) *flowHost {
	h := &flowHost{flow: newFlow(t), name: "host1", addr: netip.MustParseAddr("192.0.2.1"), kernel: overlaytest.New(), dir: t.TempDir()}
	h.kernel.AddSandbox("/proc/thread-self/ns/net", 1)
	cfg := config.Default()
	cfg.Name, cfg.Advertise, cfg.RunDir, cfg.DataDir = h.name, h.addr, h.dir, h.dir
	log := slog.New(slog.DiscardHandler)
	p := h.parts(log)
	p.OpenOverlay = func(func(overlay.Repair)) (Overlay, error) {
		return kernel(flowKernel{overlay.New(h.kernel, "weft", log), h}), nil
	}
	h.agent = Assemble(cfg, p, log)
	dir, err := datadir.Open(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	h.agent.dir = dir
	if _, err := (service{h.agent}).Init(t.Context(), api.InitRequest{}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.agent.member().stop(); _ = dir.Close() })
	return h
}

// A network whose devices are about to go is asked for by twelve at once, by every
// kind of caller, again and again.
func TestNetworkIsThereForWhoeverAsksAroundTheLinger(t *testing.T) {
	const callers, rounds = 12, 60
	synctest.Test(t, func(t *testing.T) {
		h := inBubble(t, func(k flowKernel) Overlay { return slowKernel{k} })
		s := service{h.agent}
		var wg sync.WaitGroup
		for i := range callers {
			name := fmt.Sprintf("net%d", i)
			_, err := s.NetworkCreate(t.Context(), api.NetworkCreateRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			h.kernel.AddSandbox(fmt.Sprintf("/run/sandbox/%d", i), 100+uint64(i))
			caller := lingerCaller{flowHost: h, service: s, network: name, sandbox: fmt.Sprintf("/run/sandbox/%d", i), number: i}
			again := []func(context.Context) error{caller.attach, caller.container, caller.docker}[i%3]
			wg.Go(func() {
				for range rounds {
					if err := again(t.Context()); err != nil {
						t.Error(err)
					}
					time.Sleep(15*time.Second - rand.N(120*time.Millisecond))
					h.agent.member().Poke() // a pass, as other hosts' changes ask for
					time.Sleep(rand.N(60 * time.Millisecond))
				}
			})
		}
		wg.Wait()
	})
}

// lingerCaller attaches and detaches at once, as one kind of caller does.
type lingerCaller struct {
	*flowHost
	service
	network, sandbox string
	number           int
}

func (c lingerCaller) attach(ctx context.Context) error {
	if _, err := c.service.Attach(ctx, api.AttachRequest{Network: c.network, Netns: c.sandbox, Name: "web"}); err != nil {
		return err
	}
	return c.service.Detach(ctx, c.network, "web")
}

func (c lingerCaller) container(ctx context.Context) error {
	_, err := c.service.Attach(ctx, api.AttachRequest{Network: c.network, Netns: c.sandbox, Name: "web", Ifname: "eth0", Runtime: "cni", Container: "c0ffee"})
	if err != nil {
		return err
	}
	return c.service.DetachContainer(ctx, api.ContainerRef{Network: c.network, Container: "c0ffee"})
}

func (c lingerCaller) docker(ctx context.Context) error {
	d := c.agent.driver()
	n, _ := c.agent.member().networks.Lookup(c.network)
	docked, id := fmt.Sprintf("%064x", c.number), fmt.Sprintf("%064x", 1000+c.number)
	if err := d.Adopt(docked, n.ID.String()); err != nil {
		return err
	}
	p, err := d.Lease(ctx, n.ID.String(), netip.Addr{})
	if err != nil {
		return err
	}
	if _, err := d.Bind(ctx, docker.Endpoint{ID: id, DockerID: docked, Network: n.ID.String(), Addr: p.Addr()}); err != nil {
		return err
	}
	_, err = d.Join(ctx, id, c.sandbox)
	if err == nil {
		err = d.Leave(ctx, id)
	}
	if err == nil {
		err = d.Remove(ctx, id)
	}
	if err == nil {
		err = d.Release(ctx, n.ID.String(), p.Addr())
	}
	return err
}
