package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/weft-net/weft/agent/api"
)

// A program puts a network namespace on a network. The agent's refusals come back
// as they were made, with what to type about them.
func ExampleClient() {
	ctx := context.Background()
	socket, stop := exampleAgent() // that of a host is api.DefaultSocket
	defer stop()
	agent := api.NewClient(socket)

	a, err := agent.Attach(ctx, api.AttachRequest{Network: "backend", Netns: "web", Name: "web"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.Name, "is", a.Address, "on", a.Network)

	// Asking again with another address is a conflict.
	_, err = agent.Attach(ctx, api.AttachRequest{Network: "backend", Netns: "web", Name: "web", IP: "10.64.0.9"})
	if api.KindOf(err) == api.KindConflict {
		fmt.Println(err)
	}
	// Output:
	// web is 10.64.0.5/20 on backend
	// attach web: it has 10.64.0.5
}

// hostOfOne is an agent with one endpoint.
type hostOfOne struct{ fake }

func (h *hostOfOne) Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error) {
	a, err := h.fake.Attach(ctx, r)
	if r.IP != "" {
		err = api.Errorf(api.KindConflict, "attach %s: it has 10.64.0.5", r.Name).WithHint("agentctl detach %s %s", r.Network, r.Name)
	}
	return a, err
}

func exampleAgent() (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "weft-t-")
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "agentd.sock"))
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- api.Serve(ctx, l, &hostOfOne{}, slog.New(slog.DiscardHandler)) }()
	return l.Addr().String(), func() {
		cancel()
		<-done
		_ = os.RemoveAll(dir)
	}
}
