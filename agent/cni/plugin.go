package cni

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weft-net/weft/agent/api"
)

// agentAPI is what the plugin needs of the agent; *api.Client is one.
type agentAPI interface {
	Status(ctx context.Context) (api.Status, error)
	Network(ctx context.Context, nameOrID string) (api.Network, error)
	Attach(ctx context.Context, r api.AttachRequest) (api.Attachment, error)
	DetachContainer(ctx context.Context, c api.ContainerRef) error
	Endpoints(ctx context.Context, f api.EndpointFilter) ([]api.Endpoint, error)
}

// timeout of one call: far above what the agent takes, so that a runtime never
// waits for ever.
const timeout = time.Minute

// Run serves the call that the environment and stdin describe, as every CNI
// plugin is called, and reports whether it succeeded. The answer, or the error,
// is printed to stdout.
func Run() bool {
	p := plugin{dial: func(socket string) agentAPI { return api.NewClient(socket) }, stdout: os.Stdout}
	err := skel.PluginMainFuncsWithError(p.funcs(), version.All, "CNI plugin weft "+api.Release())
	if err == nil {
		return true
	}
	_ = err.Print()
	return false
}

// plugin has one method for each verb.
type plugin struct {
	dial   func(socket string) agentAPI
	stdout io.Writer
}

func (p plugin) funcs() skel.CNIFuncs {
	return skel.CNIFuncs{
		Add: p.verb(p.add), Del: p.verb(p.del), Check: p.verb(p.check), GC: p.verb(p.gc), Status: p.verb(p.status),
	}
}

// call is one verb for one configuration.
type call struct {
	conf
	*skel.CmdArgs
	agent agentAPI
}

func (p plugin) verb(serve func(context.Context, call) error) func(*skel.CmdArgs) error {
	return func(a *skel.CmdArgs) error {
		c, err := parseConf(a.StdinData)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		err = serve(ctx, call{c, a, p.dial(c.Socket)})
		if e, ok := errors.AsType[*types.Error](err); ok {
			return e
		}
		return cniError(err)
	}
}

func (p plugin) add(ctx context.Context, c call) error {
	r, err := request(c.conf, c.CmdArgs)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.Netns); errors.Is(err, fs.ErrNotExist) {
		return types.NewError(types.ErrInvalidNetNS, "no network namespace "+c.Netns, "")
	}
	at, err := api.Again(ctx, func(ctx context.Context) (api.Attachment, error) { return c.agent.Attach(ctx, r) })
	if err != nil {
		return err
	}
	result, err := answer(c.conf, c.Netns, at)
	if err != nil {
		return err
	}
	spec, err := new(version.ConfigDecoder).Decode(c.StdinData)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	wanted, err := result.GetAsVersion(spec)
	if err != nil {
		return types.NewError(types.ErrIncompatibleCNIVersion, err.Error(), "")
	}
	return wanted.PrintTo(p.stdout)
}

// del works without a namespace: what is detached is found by the container.
func (plugin) del(ctx context.Context, c call) error {
	return c.agent.DetachContainer(ctx, c.endpoint(c.ContainerID, c.IfName))
}

func (c call) endpoint(container, ifname string) api.ContainerRef {
	return api.ContainerRef{Network: c.Network, Container: container, Ifname: ifname}
}

// here lists the endpoints of this host on the network that a CNI runtime made.
func (c call) here(ctx context.Context) ([]api.Endpoint, error) {
	all, err := c.agent.Endpoints(ctx, api.EndpointFilter{Network: c.Network})
	return slices.DeleteFunc(all, func(e api.Endpoint) bool { return e.Container == "" }), err
}

// gc detaches what the runtime does not list. Podman's endpoints on the same
// network are not this runtime's: podman never calls GC, and whoever does
// cannot know its containers.
func (plugin) gc(ctx context.Context, c call) error {
	// A runtime without containers gives null. One that forgets the key would cost
	// every container its network.
	var given map[string]json.RawMessage
	if err := json.Unmarshal(c.StdinData, &given); err != nil {
		return types.NewError(types.ErrDecodingFailure, "network configuration: "+api.JSONFault(err), "")
	}
	const key = "cni.dev/valid-attachments"
	if _, ok := given[key]; !ok {
		return types.NewError(types.ErrInvalidNetworkConfig, "GC: "+key+" is missing", "")
	}
	all, err := c.here(ctx)
	if api.KindOf(err) == api.KindNotFound {
		return nil // the network's endpoints went with it
	}
	errs := []error{err}
	for _, e := range all {
		attachment := types.GCAttachment{ContainerID: e.Container, IfName: e.Interface}
		if (e.Runtime == "cni" || e.Runtime == "containerd") && !slices.Contains(c.ValidAttachments, attachment) {
			errs = append(errs, c.agent.DetachContainer(ctx, c.endpoint(e.Container, e.Interface)))
		}
	}
	return errors.Join(errs...)
}

// status is for ADD: could a container be attached now.
func (plugin) status(ctx context.Context, c call) error {
	unavailable := func(err error) error {
		e := types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
		if a, ok := errors.AsType[*api.Error](err); ok {
			e.Details = a.Hint
		}
		return e
	}
	s, err := c.agent.Status(ctx)
	if err != nil {
		return unavailable(err)
	}
	switch s.State {
	case "ok", "degraded", "starting": // an attach is served, it may wait
	default:
		return unavailable(whyNot(s))
	}
	if _, err := c.agent.Network(ctx, c.Network); err != nil {
		return unavailable(err)
	}
	return nil
}

// whyNot is the first failed check of a host that attaches nothing.
func whyNot(s api.Status) error {
	for _, check := range s.Checks {
		if check.State == api.CheckFail {
			return api.Errorf(api.KindFailed, "%s is %s: %s", s.Name, s.State, check.Detail).WithHint("%s", check.Hint)
		}
	}
	return api.Errorf(api.KindFailed, "%s is %s", s.Name, s.State).WithHint("agentctl doctor")
}
