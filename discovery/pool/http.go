package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
)

// where names the store in errors.
func where(cfg Config, address string) string {
	if cfg.HTTPClient != nil {
		return "built-in store"
	}
	if u, err := url.Parse(address); err == nil {
		address = u.Redacted()
	}
	return "Consul at " + address
}

// httpClient is the client that conf asks for, with every answer classified once.
func httpClient(cfg Config, conf *api.Config) (*http.Client, error) {
	hc := cfg.HTTPClient
	if path, ok := strings.CutPrefix(conf.Address, "unix://"); ok && hc == nil {
		conf.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		conf.Address = "localhost"
	}
	if hc == nil {
		var err error
		if hc, err = api.NewHttpClient(conf.Transport, conf.TLSConfig); err != nil {
			return nil, err
		}
	}
	classified := *hc
	if classified.Transport == nil {
		classified.Transport = http.DefaultTransport
	}
	classified.Transport = classifier{classified.Transport}
	return &classified, nil
}

// classifier turns the store's answers into this package's errors, in one place:
// consul/api hands on the status of some calls as text only.
type classifier struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c classifier) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNotFound, http.StatusConflict:
		resp.Body = body{resp.Body}
		return resp, nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	resp.Body.Close()
	what := fmt.Sprintf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	switch {
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("%w: %s", ErrPermission, what)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		return nil, fmt.Errorf("%w: %s", ErrUnavailable, what)
	}
	return nil, errors.New(what)
}

// body is an answer that can break off before its end.
type body struct{ io.ReadCloser }

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return n, err
}

// CloseIdleConnections is what http.Client's method of that name calls.
func (c classifier) CloseIdleConnections() {
	if next, ok := c.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}
