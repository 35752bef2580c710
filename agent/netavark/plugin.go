package netavark

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// Agent is what the plugin needs of the agent; *api.Client is one.
type Agent interface {
	Network(ctx context.Context, nameOrID string) (api.Network, error)
	NetworkCreate(ctx context.Context, r api.NetworkCreateRequest) (api.NetworkCreateResult, error)
	Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error)
	DetachContainer(ctx context.Context, c api.ContainerRef) error
}

// timeout of one call: far above what the agent takes, so that podman never
// waits for ever.
const timeout = time.Minute

// maxInput bounds what is read from stdin, in bytes.
const maxInput = 1 << 20

// Plugin serves podman's calls by the agent behind a socket.
type Plugin struct {
	Dial   func(socket string) Agent // "" is the default socket
	Stdin  io.Reader
	Stdout io.Writer
}

// Run serves one call: create, setup NETNS, teardown NETNS or info, which is
// the default. The answer, or the error in netavark's form, is on Stdout when it
// returns whether it succeeded.
func (p Plugin) Run(args []string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	answer, err := p.serve(ctx, args)
	if err != nil {
		answer = map[string]string{"error": sentence(err)}
	}
	if answer == nil {
		return true
	}
	if json.NewEncoder(p.Stdout).Encode(answer) != nil {
		return false
	}
	return err == nil
}

// sentence is an error with its hint: podman shows one line.
func sentence(err error) string {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Hint != "" {
		return e.Message + "; hint: " + strings.ReplaceAll(e.Hint, "\n", ", or ")
	}
	return err.Error()
}

func (p Plugin) serve(ctx context.Context, args []string) (any, error) {
	verb, netns := "info", ""
	if len(args) > 0 {
		verb = args[0]
	}
	if len(args) > 1 {
		netns = args[1]
	}
	switch verb {
	case "info":
		return map[string]string{"version": api.Release(), "api_version": "1.0.0"}, nil
	case "create":
		var n network
		if err := p.read(&n); err != nil {
			return nil, err
		}
		return create(ctx, p.Dial(n.option("socket")), n)
	case "setup", "teardown":
		var c container
		if netns == "" {
			return nil, fmt.Errorf("%s: the path of the network namespace is missing", verb)
		}
		if err := p.read(&c); err != nil {
			return nil, err
		}
		agent := p.Dial(c.Network.option("socket"))
		if verb == "teardown" {
			return nil, teardown(ctx, agent, c)
		}
		return setup(ctx, agent, netns, c)
	}
	return nil, fmt.Errorf("unknown subcommand %q: netavark's are create, setup, teardown and info", verb)
}

func (p Plugin) read(into any) error {
	if err := json.NewDecoder(io.LimitReader(p.Stdin, maxInput)).Decode(into); err != nil {
		return fmt.Errorf("stdin: %s", api.JSONFault(err))
	}
	return nil
}
