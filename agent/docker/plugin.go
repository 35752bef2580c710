package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// contentType is what a plugin answers with.
const contentType = "application/vnd.docker.plugins.v1.1+json"

// maxBody is far above what Docker sends: a container's published ports are the
// longest of it.
const maxBody = 1 << 20

// callTimeout is below the patience of whoever waits for `docker run`.
const callTimeout = 20 * time.Second

// call serves one method of the protocol.
type call func(ctx context.Context, body []byte) (any, error)

// nothing is the answer of the calls that have none: {}.
type nothing struct{}

// calls is the protocol. What is not in it is answered with 404, which Docker
// takes as "not implemented".
func (d *driver) calls() map[string]call {
	return map[string]call{
		"/Plugin.Activate": constant(activation{[]string{"NetworkDriver", "IpamDriver"}}),

		"/NetworkDriver.GetCapabilities": constant(networkCapability{Scope: "local", ConnectivityScope: "global"}),
		"/NetworkDriver.CreateNetwork":   with(d.createNetwork),
		"/NetworkDriver.DeleteNetwork":   with(d.deleteNetwork),
		"/NetworkDriver.CreateEndpoint":  with(d.createEndpoint),
		"/NetworkDriver.DeleteEndpoint":  with(d.deleteEndpoint),
		"/NetworkDriver.Join":            with(d.join),
		"/NetworkDriver.Leave":           with(d.leave),

		"/NetworkDriver.ProgramExternalConnectivity": with(d.programConnectivity),
		"/NetworkDriver.RevokeExternalConnectivity":  with(d.revokeConnectivity),
		// A failure of this one undoes the whole `docker run`.
		"/NetworkDriver.EndpointOperInfo": constant(operInfo{Value: map[string]string{}}),
		"/NetworkDriver.DiscoverNew":      constant(nothing{}),
		"/NetworkDriver.DiscoverDelete":   constant(nothing{}),

		"/IpamDriver.GetCapabilities":         constant(ipamCapability{}),
		"/IpamDriver.GetDefaultAddressSpaces": constant(addressSpaces{addressSpace, addressSpace}),
		"/IpamDriver.RequestPool":             with(d.requestPool),
		"/IpamDriver.ReleasePool":             with(d.releasePool),
		"/IpamDriver.RequestAddress":          with(d.requestAddress),
		"/IpamDriver.ReleaseAddress":          with(d.releaseAddress),
	}
}

func constant(answer any) call {
	return func(context.Context, []byte) (any, error) { return answer, nil }
}

// with decodes the body for f. Fields that an engine of another version adds
// are ignored.
func with[Q, A any](f func(context.Context, Q) (A, error)) call {
	return func(ctx context.Context, body []byte) (any, error) {
		var q Q
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		return f(ctx, q)
	}
}

var errBody = errors.New("the request's body cannot be read")

// handler serves the plugin protocol.
func (d *driver) handler() http.Handler {
	calls := d.calls()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := calls[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		// A tear-down that Docker has given up waiting for is done all the same.
		ctx, cancel := context.WithTimeout(api.WithCaller(context.WithoutCancel(r.Context()), "docker"), callTimeout)
		defer cancel()
		start := time.Now()
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var answer any
		if err == nil {
			answer, err = f(ctx, body)
		}
		method := strings.TrimPrefix(r.URL.Path, "/")
		w.Header().Set("Content-Type", contentType)
		if err != nil {
			d.refused.add(err)
			d.log.Warn("docker call refused", "call", method, "err", err)
			w.WriteHeader(http.StatusInternalServerError)
			answer = failure{sentence(err)}
		} else {
			d.log.Debug("docker call", "call", method, "took", time.Since(start))
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// sentence is an error as the docker command prints it: one line, with the next
// command to type.
func sentence(err error) string {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Hint != "" {
		return err.Error() + " (hint: " + strings.ReplaceAll(e.Hint, "\n", ", or ") + ")"
	}
	return err.Error()
}
