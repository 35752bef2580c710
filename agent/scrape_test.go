package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
)

// A scrape at the public socket says what status and the lists say.
func TestFlowScrapeAgreesWithTheLists(t *testing.T) {
	one, _ := pair(t)
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	if err := one.Detach(t.Context(), "blue", "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "db"}); err != nil {
		t.Fatal(err)
	}
	text := one.scrape()
	for _, want := range []string{`weft_members{state="alive"} 2`, `weft_endpoints{network="blue",runtime="netns"} 1`,
		`weft_addresses{network="blue",state="used"} 1`, `weft_attach_seconds_count{runtime="netns"} 2`, `weft_detach_seconds_count{runtime="netns"} 1`,
		`weft_dropped_packets_total{reason="spoofed"} 3`, `weft_dns_queries_total 7`, `weft_kernel_objects_total{change="put",kind="link"} `,
		`weft_pool_errors_total 0`} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %s", want)
		}
	}
	st, err := one.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range st.Checks {
		if !strings.Contains(text, fmt.Sprintf("weft_check{check=%q} ", c.Name)) {
			t.Errorf("the check %s is not there", c.Name)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// A scrape waits for no look into the sandboxes, and tells what one has found.
func TestFlowScrapeWaitsForNoSandbox(t *testing.T) {
	one, _ := pair(t)
	if _, err := one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	slow := make(chan struct{})
	one.looks.Store(&slow)
	look := sync.OnceFunc(func() { close(slow) })
	defer look()
	for range 3 {
		if text := one.scrape(); !strings.Contains(text, `weft_check{check="sandboxes"} 0`) {
			t.Fatalf("before the look is over: %s", text)
		}
	}
	look()
	one.eventually("a scrape tells what was found", func() error {
		if text := one.scrape(); !strings.Contains(text, `weft_check{check="sandboxes"} 1`) {
			return errors.New("all is well, it says")
		}
		return nil
	})
}

func (h *flowHost) scrape() string {
	h.t.Helper()
	text, err := api.NewClient(api.PublicSocket(h.agent.cfg.Socket())).Metrics(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

// A host that is no member yet is scraped as well: that it is none is what to alert
// about.
func TestFlowScrapeOfAHostThatIsNoMember(t *testing.T) {
	h := newFlow(t).host(1)
	if text := h.scrape(); !strings.Contains(text, `weft_status{state="not-a-member"} 1`) || strings.Contains(text, "weft_members") {
		t.Error(text)
	}
}

// The port of metrics that another program has is a line of status, with its name; the
// agent works without, and takes the port when it is free.
func TestAgentWorksWhileTheMetricsPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	h := &flowHost{flow: newFlow(t), name: "host1", addr: netip.MustParseAddr("192.0.2.1"), dir: t.TempDir()}
	cfg := config.Default()
	cfg.Name, cfg.Advertise, cfg.RunDir, cfg.DataDir = h.name, h.addr, h.dir, h.dir
	cfg.MetricsListen = netip.MustParseAddrPort(at)
	log := slog.New(slog.DiscardHandler)
	h.agent = Assemble(cfg, h.parts(log), log)
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() { ended <- h.agent.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(h.dir); strings.Contains(fmt.Sprint(left), "public.sock") {
			t.Error("the public socket stays behind a stopped agent")
		}
	}()
	h.Client = api.NewClient(cfg.Socket())
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	h.eventually("the check warns", func() error {
		c, err := h.listeners()
		if err != nil || c.State != api.CheckWarn || !strings.Contains(c.Detail, self) || !strings.HasPrefix(c.Hint, "ss -ltnp") {
			return fmt.Errorf("%+v, %v", c, err)
		}
		return nil
	})
	taken.Close()
	h.eventually("the port is served", func() error {
		c, err := h.listeners()
		if err != nil || c.State != api.CheckOK {
			return fmt.Errorf("%+v, %v", c, err)
		}
		res, err := (&http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + at + "/metrics")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || !strings.Contains(string(text), "weft_build_info") {
			return fmt.Errorf("%s, %v", text, err)
		}
		return nil
	})
}

func (h *flowHost) listeners() (api.Check, error) {
	st, err := h.Status(h.t.Context())
	if err != nil {
		return api.Check{}, err
	}
	for _, c := range st.Checks {
		if c.Name == "listeners" {
			return c, nil
		}
	}
	return api.Check{}, errors.New("no line about listeners")
}
