package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
)

// transport carries a request to whoever serves the store now.
type transport struct{ s *Store }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if srv := t.s.local.Load(); srv != nil {
		return inProcess(srv, req)
	}
	if t.s.cfg.Socket == "" {
		if req.Body != nil {
			req.Body.Close()
		}
		if why, ok := t.s.unable.Load().(reason); ok {
			return nil, fmt.Errorf("%w: %w", ErrAway, why)
		}
		return nil, fmt.Errorf("%s: %w", t.s.cfg.File, ErrAway)
	}
	return t.s.remote.RoundTrip(req)
}

// CloseIdleConnections is what http.Client's method of that name calls.
func (t transport) CloseIdleConnections() { t.s.remote.CloseIdleConnections() }

// socketTransport dials the socket whatever the URL's host is.
func socketTransport(socket string) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 8,
		DisableCompression:  true,
	}
}

// inProcess answers a request by calling the handler.
func inProcess(h http.Handler, req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		req = req.Clone(req.Context())
		req.Body = http.NoBody
	}
	defer req.Body.Close()
	rec := &recorder{header: http.Header{}, code: http.StatusOK}
	h.ServeHTTP(rec, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{
		Status:     fmt.Sprintf("%d %s", rec.code, http.StatusText(rec.code)),
		StatusCode: rec.code,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        rec.header,
		Body:          io.NopCloser(&rec.body),
		ContentLength: int64(rec.body.Len()),
		Request:       req,
	}, nil
}

// recorder keeps what a handler writes.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
