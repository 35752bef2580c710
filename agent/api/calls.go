package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Status is GET /v1/status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Version is GET /v1/version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return ask[Version](ctx, c, http.MethodGet, "/v1/version", nil)
}

// Init is POST /v1/init; progress may be nil.
func (c *Client) Init(ctx context.Context, r InitRequest, progress func(string)) (InitResult, error) {
	return long[InitResult](ctx, c, "/v1/init", r, progress)
}

// Join is POST /v1/join; progress may be nil.
func (c *Client) Join(ctx context.Context, r JoinRequest, progress func(string)) (JoinResult, error) {
	return long[JoinResult](ctx, c, "/v1/join", r, progress)
}

// Leave is POST /v1/leave; progress may be nil.
func (c *Client) Leave(ctx context.Context, r LeaveRequest, progress func(string)) error {
	_, err := long[struct{}](ctx, c, "/v1/leave", r, progress)
	return err
}

// Members is GET /v1/members.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	return ask[[]Member](ctx, c, http.MethodGet, "/v1/members", nil)
}

// Proofs is GET /v1/proofs.
func (c *Client) Proofs(ctx context.Context, refresh bool) ([]Proof, error) {
	path := "/v1/proofs"
	if refresh {
		path += "?refresh=true"
	}
	return ask[[]Proof](ctx, c, http.MethodGet, path, nil)
}

// NetworkCreate is POST /v1/networks.
func (c *Client) NetworkCreate(ctx context.Context, r NetworkCreateRequest) (NetworkCreateResult, error) {
	return ask[NetworkCreateResult](ctx, c, http.MethodPost, "/v1/networks", r)
}

// Networks is GET /v1/networks.
func (c *Client) Networks(ctx context.Context) ([]Network, error) {
	return ask[[]Network](ctx, c, http.MethodGet, "/v1/networks", nil)
}

// Network is GET /v1/networks/{network}.
func (c *Client) Network(ctx context.Context, nameOrID string) (Network, error) {
	path, err := join("/v1/networks", nameOrID)
	if err != nil {
		return Network{}, err
	}
	return ask[Network](ctx, c, http.MethodGet, path, nil)
}

// NetworkRemove is DELETE /v1/networks/{network}.
func (c *Client) NetworkRemove(ctx context.Context, nameOrID string, force bool) error {
	path, err := join("/v1/networks", nameOrID)
	if err != nil {
		return err
	}
	if force {
		path += "?force=true"
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

// NetworkPrune is POST /v1/prune.
func (c *Client) NetworkPrune(ctx context.Context, r PruneRequest) (PruneResult, error) {
	return ask[PruneResult](ctx, c, http.MethodPost, "/v1/prune", r)
}

// Connect is POST /v1/connect.
func (c *Client) Connect(ctx context.Context, r ConnectRequest) (Attachment, error) {
	return ask[Attachment](ctx, c, http.MethodPost, "/v1/connect", r)
}

// Disconnect is POST /v1/disconnect.
func (c *Client) Disconnect(ctx context.Context, r DisconnectRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/disconnect", r, nil)
}

// Attach is POST /v1/endpoints.
func (c *Client) Attach(ctx context.Context, r AttachRequest) (Attachment, error) {
	return ask[Attachment](ctx, c, http.MethodPost, "/v1/endpoints", r)
}

// Detach is DELETE /v1/networks/{network}/endpoints/{endpoint}.
func (c *Client) Detach(ctx context.Context, network, nameOrID string) error {
	path, err := join("/v1/networks", network, "endpoints", nameOrID)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

// DetachContainer is DELETE /v1/networks/{network}/containers/{container}.
func (c *Client) DetachContainer(ctx context.Context, ref ContainerRef) error {
	path, err := join("/v1/networks", ref.Network, "containers", ref.Container)
	if err != nil {
		return err
	}
	v := url.Values{}
	set(v, "ifname", ref.Ifname)
	return c.call(ctx, http.MethodDelete, withQuery(path, v), nil, nil)
}

// Endpoints is GET /v1/endpoints.
func (c *Client) Endpoints(ctx context.Context, f EndpointFilter) ([]Endpoint, error) {
	v := url.Values{}
	set(v, "network", f.Network)
	set(v, "host", f.Host)
	if f.All {
		v.Set("all", strconv.FormatBool(true))
	}
	return ask[[]Endpoint](ctx, c, http.MethodGet, withQuery("/v1/endpoints", v), nil)
}

// Endpoint is GET /v1/endpoints/{endpoint}.
func (c *Client) Endpoint(ctx context.Context, nameOrID string) (Endpoint, error) {
	path, err := join("/v1/endpoints", nameOrID)
	if err != nil {
		return Endpoint{}, err
	}
	return ask[Endpoint](ctx, c, http.MethodGet, path, nil)
}

// Query is GET /v1/dns/query.
func (c *Client) Query(ctx context.Context, q DNSQuery) (DNSAnswer, error) {
	v := url.Values{}
	set(v, "name", q.Name)
	set(v, "type", q.Type)
	set(v, "from", q.From)
	return ask[DNSAnswer](ctx, c, http.MethodGet, withQuery("/v1/dns/query", v), nil)
}

// Verify is GET /v1/verify, and POST with Repair.
func (c *Client) Verify(ctx context.Context, r VerifyRequest) (Verification, error) {
	if r.Repair {
		return ask[Verification](ctx, c, http.MethodPost, "/v1/verify", r)
	}
	v := url.Values{}
	if r.All {
		v.Set("all", strconv.FormatBool(true))
	}
	return ask[Verification](ctx, c, http.MethodGet, withQuery("/v1/verify", v), nil)
}

// Why is POST /v1/why: it sends a packet.
func (c *Client) Why(ctx context.Context, r WhyRequest) (Why, error) {
	return ask[Why](ctx, c, http.MethodPost, "/v1/why", r)
}

// Doctor is GET /v1/doctor.
func (c *Client) Doctor(ctx context.Context) ([]Finding, error) {
	return ask[[]Finding](ctx, c, http.MethodGet, "/v1/doctor", nil)
}

// Bundle is GET /v1/debug/bundle.
func (c *Client) Bundle(ctx context.Context, all bool) ([]byte, error) {
	path := "/v1/debug/bundle"
	if all {
		path += "?all=true"
	}
	return raw(ctx, c, path)
}

// Metrics is GET /v1/metrics.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) { return raw(ctx, c, "/v1/metrics") }

// raw does a call whose answer is not JSON.
func raw(ctx context.Context, c *Client, path string) ([]byte, error) {
	res, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, c.explain(ctx, fmt.Errorf("read the answer: %w", err))
	}
	return b, nil
}

// join makes a path out of a prefix and segments that users have typed. A name
// may hold anything, but not be empty: no path says that.
func join(prefix string, segments ...string) (string, error) {
	var b strings.Builder
	b.WriteString(prefix)
	for _, s := range segments {
		if s == "" {
			return "", Errorf(KindMisuse, "%s: a name is empty", prefix)
		}
		escaped := url.PathEscape(s)
		if s == "." || s == ".." { // else they would be walked
			escaped = strings.ReplaceAll(s, ".", "%2E")
		}
		b.WriteString("/" + escaped)
	}
	return b.String(), nil
}

func set(v url.Values, key, value string) {
	if value != "" {
		v.Set(key, value)
	}
}

func withQuery(path string, v url.Values) string {
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}
