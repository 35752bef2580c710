// Package tunnel finds out whether encapsulated packets pass between this host and
// the other members, each way. It sends frames in the members' own network and
// changes nothing in the kernel.
package tunnel

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/plan"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/pace"
	"github.com/weft-net/weft/overlay"
)

// Frames of the probe network are a kind, a number and the sender's host id.
const (
	probeRequest = 1
	probeReply   = 2
	probeSize    = 1 + 8 + 16
)

// probeQuestion begins the body of a Call that asks a member whether a request
// of that number reached it. It is none of the address messages' versions.
const probeQuestion = 0x70

type probeNumber [8]byte

// again is the pause between two tries: what the kernel refuses now it may accept
// after the next pass.
const again = 50 * time.Millisecond

// Socket is one in the probe network of this host (discovery.ProbeVNI).
type Socket interface {
	Send(to overlay.MAC, payload []byte) error
	// Receive returns ctx's error when ctx ends.
	Receive(ctx context.Context, buf []byte) (n int, from overlay.MAC, err error)
	Close() error
}

// Directory is what a tunnel asks the gossip.
type Directory interface {
	View() discovery.View
	Call(ctx context.Context, to discovery.HostID, body []byte) ([]byte, error)
}

// Config is what a tunnel is made of.
type Config struct {
	Self discovery.HostID
	Name string // of this host
	Port uint16 // UDP, for messages
	// Open opens a socket; it fails as long as the device is not there.
	Open func() (Socket, error)
	Log  *slog.Logger
}

// Tunnel answers other members' probes and sends this host's.
type Tunnel struct {
	cfg Config

	mu      sync.Mutex
	socket  Socket
	waiting map[probeNumber]chan struct{} // own requests, until they are answered
	seen    []probeNumber                 // the last requests of others that reached this host
}

// New returns a tunnel that proves nothing before Run.
func New(cfg Config) *Tunnel {
	return &Tunnel{cfg: cfg, waiting: map[probeNumber]chan struct{}{}}
}

// Run receives until ctx ends.
func (t *Tunnel) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		socket, err := t.cfg.Open()
		if err == nil {
			t.use(socket)
			err = t.receive(ctx, socket)
			t.use(nil)
			_ = socket.Close()
		}
		if err == nil {
			continue
		}
		pace.Sleep(ctx, again)
	}
	return nil
}

func (t *Tunnel) use(s Socket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.socket = s
}

func (t *Tunnel) receive(ctx context.Context, socket Socket) error {
	buf := make([]byte, 256)
	for {
		n, from, err := socket.Receive(ctx, buf)
		if err != nil {
			return err
		}
		if n < probeSize {
			continue
		}
		number := probeNumber(buf[1:9])
		switch buf[0] {
		case probeRequest:
			t.note(number)
			// A reply that is lost is asked for again.
			_ = socket.Send(from, t.frame(probeReply, number))
		case probeReply:
			t.wake(number)
		}
	}
}

func (t *Tunnel) frame(kind byte, number probeNumber) []byte {
	return slices.Concat([]byte{kind}, number[:], t.cfg.Self[:])
}

func (t *Tunnel) note(number probeNumber) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = append(t.seen, number)
	if len(t.seen) > 1024 {
		t.seen = slices.Clone(t.seen[512:])
	}
}

func (t *Tunnel) wake(number probeNumber) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.waiting[number]; ok {
		close(c)
		delete(t.waiting, number)
	}
}

// Serve answers another member's question whether its request reached this host;
// false: the body asks something else.
func (t *Tunnel) Serve(body []byte) (answer []byte, ok bool) {
	if len(body) == 0 || body[0] != probeQuestion {
		return nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(body) == 1+len(probeNumber{}) && slices.Contains(t.seen, probeNumber(body[1:])) {
		return []byte{1}, true
	}
	return []byte{0}, true
}

// reach sends requests to a member until it answers or ctx ends.
func (t *Tunnel) reach(ctx context.Context, id discovery.HostID) (probeNumber, error) {
	var number probeNumber
	_, _ = rand.Read(number[:])
	answered := make(chan struct{})
	t.mu.Lock()
	t.waiting[number] = answered
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.waiting, number)
	}()
	for {
		t.mu.Lock()
		socket := t.socket
		t.mu.Unlock()
		if socket != nil {
			// What the kernel refuses now it may accept after the next pass.
			_ = socket.Send(plan.ProbeMAC(id), t.frame(probeRequest, number))
		}
		select {
		case <-answered:
			return number, nil
		case <-ctx.Done():
			return number, ctx.Err()
		case <-time.After(again):
		}
	}
}

// Check finds out whether encapsulated packets pass between this host and the other
// members, both ways. It fails when they pass with none of them, and so does join.
// A single member that cannot be reached is a warning, in progress and in the log.
func (t *Tunnel) Check(ctx context.Context, d Directory, progress func(string)) error {
	progress(fmt.Sprintf("probing the tunnel, port %d/udp", t.cfg.Port))
	var members []discovery.Member
	for _, m := range d.View().Members {
		if m.ID != t.cfg.Self && m.Status == discovery.StatusAlive {
			members = append(members, m)
		}
	}
	var mu sync.Mutex
	var blocked []string
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() {
			if why := t.blocked(ctx, d, m, 3*time.Second); why != "" {
				mu.Lock()
				defer mu.Unlock()
				blocked = append(blocked, why)
			}
		})
	}
	wg.Wait()
	slices.Sort(blocked)
	if len(blocked) > 0 && len(blocked) == len(members) {
		return api.Errorf(api.KindFailed, "%s", strings.Join(blocked, "; ")).
			WithHint("nft list ruleset # on both hosts: %d/udp must pass in both directions", t.cfg.Port)
	}
	for _, why := range blocked {
		progress("warning: " + why)
		t.cfg.Log.Warn("tunnel blocked", "why", why)
	}
	return nil
}

// blocked says in which direction the tunnel to a member does not work; empty
// when it does. It waits for an answer as long as it is told.
func (t *Tunnel) blocked(ctx context.Context, d Directory, m discovery.Member, wait time.Duration) string {
	try, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	number, err := t.reach(try, m.ID)
	if err == nil {
		return ""
	}
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := d.Call(ask, m.ID, append([]byte{probeQuestion}, number[:]...))
	port := t.cfg.Port
	switch {
	case err != nil:
		return fmt.Sprintf("%d/udp is blocked between %s and %s", port, t.cfg.Name, m.Name)
	case slices.Equal(answer, []byte{1}):
		return fmt.Sprintf("%d/udp is blocked from %s to %s", port, m.Name, t.cfg.Name)
	}
	return fmt.Sprintf("%d/udp is blocked from %s to %s", port, t.cfg.Name, m.Name)
}
