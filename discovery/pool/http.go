package pool

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// httpClient returns the client of the embedded store, or one that asks the servers
// of Consul in turn; every answer is classified once.
func httpClient(cfg Config, conf *api.Config) (*http.Client, *servers, error) {
	if cfg.HTTPClient != nil {
		c := *cfg.HTTPClient
		if c.Transport == nil {
			c.Transport = http.DefaultTransport
		}
		c.Transport = classifier{c.Transport, "built-in store", false}
		return &c, nil, nil
	}
	// A machine that went away without a word is given up in 25 s, also by a query
	// that waits for a change.
	dialer := &net.Dialer{Timeout: 2 * time.Second, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	conf.Transport.DialContext = dialer.DialContext
	made, err := api.NewHttpClient(conf.Transport, conf.TLSConfig)
	if err != nil {
		return nil, nil, err
	}
	all := &servers{tcp: made.Transport, scheme: cmp.Or(conf.Scheme, "http")}
	if err := all.use(conf.Address); err != nil {
		return nil, nil, err
	}
	conf.Address = "localhost" // of every request, before servers says where it goes
	made.Transport = all
	return made, all, nil
}

// classifier turns a store's answers into this package's errors, in one place:
// consul/api hands on the status of some calls as text only.
type classifier struct {
	next   http.RoundTripper
	name   string // of the store, for people
	consul bool   // something else may answer in its place
}

// RoundTrip implements http.RoundTripper.
func (c classifier) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", c.name, ErrUnavailable, err)
	}
	switch code := resp.StatusCode; {
	case code == http.StatusForbidden || code == http.StatusUnauthorized:
		return nil, fmt.Errorf("%s: %w: %s", c.name, ErrPermission, c.said(resp))
	case code == http.StatusInsufficientStorage:
		return nil, fmt.Errorf("%s: %w: %s", c.name, ErrReadOnly, c.said(resp))
	case code == http.StatusTooManyRequests || code >= 500 && code != http.StatusNotImplemented:
		return nil, fmt.Errorf("%s: %w: it answers %s", c.name, ErrUnavailable, c.said(resp))
	case code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge:
		return nil, fmt.Errorf("%s: it answers %s", c.name, c.said(resp))
	case code != http.StatusOK && code != http.StatusNotFound && code != http.StatusConflict:
		return nil, fmt.Errorf("%s answers %s: %w", c.name, c.said(resp), ErrNotConsul)
	}
	resp.Body = body{resp.Body, c.name}
	if c.consul && !genuine(req, resp) {
		return nil, fmt.Errorf("%s answers %s: %w", c.name, c.said(resp), ErrNotConsul)
	}
	return resp, nil
}

// genuine reports whether an answer can be Consul's: a proxy's page and a wrong
// path answer 200 or 404 as well. It looks at the first bytes of the answer only.
func genuine(req *http.Request, resp *http.Response) bool {
	first := byte('{')
	if strings.HasPrefix(req.URL.Path, "/v1/kv/") {
		first = '['
	}
	if resp.StatusCode == http.StatusNotFound { // of a key
		return first == '[' && resp.Header.Get("X-Consul-Index") != ""
	}
	b := bufio.NewReader(resp.Body)
	resp.Body = struct {
		io.Reader
		io.Closer
	}{b, resp.Body}
	for {
		next, err := b.Peek(1)
		if err != nil {
			return false
		}
		if !bytes.ContainsAny(next, " \t\r\n") {
			return next[0] == first
		}
		_, _ = b.Discard(1)
	}
}

// said is an answer in one line, and closes it.
func (classifier) said(resp *http.Response) string {
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	line := printable(strings.Join(strings.Fields(string(text)), " "))
	if len(line) > 100 {
		line = line[:100] + "..."
	}
	if line == "" {
		return resp.Status
	}
	return resp.Status + " (" + line + ")"
}

// body is an answer that can break off before its end.
type body struct {
	io.ReadCloser
	name string
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w: %w", b.name, ErrUnavailable, err)
	}
	return n, err
}

// CloseIdleConnections is what http.Client's method of that name calls.
func (c classifier) CloseIdleConnections() { closeIdle(c.next) }

func closeIdle(t http.RoundTripper) {
	if t, ok := t.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// unixTransport dials a socket whatever the URL's host is.
func unixTransport(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
}

// nameOf names a Consul in errors.
func nameOf(u *url.URL) string { return "Consul at " + u.Redacted() }
