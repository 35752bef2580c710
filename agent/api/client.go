package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Client calls the agent behind a unix socket. It is a Service itself: what
// fails there fails here with the same *Error. Each call is a connection of its
// own, so a Client needs no closing and survives a restart of the agent. Safe
// for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

var _ Service = (*Client)(nil)

// NewClient returns a Client of the agent that serves socket; "" means
// DefaultSocket. It does not connect. Where the user may not open socket, what every
// user may read is read from the public socket beside it.
func NewClient(socket string) *Client {
	if socket == "" {
		socket = DefaultSocket
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if errors.Is(err, fs.ErrPermission) { // who may not command the agent may read
			if public, err := new(net.Dialer).DialContext(ctx, "unix", PublicSocket(socket)); err == nil {
				return public, nil
			}
		}
		return c, err
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// call does one call: in is the body unless it is nil, out takes the answer
// unless it is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return c.explain(ctx, fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

// ask does a call whose answer is one T.
func ask[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	err := c.call(ctx, method, path, in, &out)
	return out, err
}

// send returns an answer that is no error, its body yet to be read.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	body := new(bytes.Buffer)
	if in != nil {
		if err := encoder(body).Encode(in); err != nil {
			return nil, Errorf(KindFailed, "%s %s: %v", method, path, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agentd"+path, body)
	if err != nil {
		return nil, Errorf(KindMisuse, "%s %s: %v", method, path, err)
	}
	req.Header.Set("User-Agent", UserAgent())
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if res.StatusCode >= 300 {
		defer res.Body.Close()
		return nil, c.refusal(res)
	}
	return res, nil
}

// refusal is the Error that an answer holds. An answer without one is not of an
// agent, or of net/http on its behalf.
func (c *Client) refusal(res *http.Response) *Error {
	b, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	e := new(Error)
	if err == nil && json.Unmarshal(b, e) == nil && e.Kind != "" {
		return e
	}
	text, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return Errorf(KindFailed, "agent at %s answered %s: %.200s", c.socket, res.Status, text)
}

// explain turns a failure of the connection into the Error that says what to do
// about it.
func (c *Client) explain(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the invented URL
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Errorf(KindTimeout, "agent at %s: no answer in time", c.socket).WithHint("systemctl status agentd # and journalctl -u agentd")
	case ctx.Err() != nil:
		return Errorf(KindFailed, "agent at %s: interrupted", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return notPermitted(fmt.Sprintf("agent at %s: permission denied", c.socket))
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return c.away("is not running (" + reason(err) + ")")
	default:
		return goneError{c.away("is gone: " + err.Error())}
	}
}

// away is the error of an agent that does not answer.
func (c *Client) away(how string) *Error {
	e := Errorf(KindUnreachable, "agent at %s %s", c.socket, how)
	if c.socket == DefaultSocket {
		return e.WithHint("systemctl start agentd")
	}
	return e.WithHint("agentd --run-dir %s", filepath.Dir(c.socket))
}

// goneError says that the agent ended in the middle of a call.
type goneError struct{ why *Error }

func (e goneError) Error() string { return e.why.Message }
func (e goneError) Unwrap() error { return e.why }

// goneTries are how often a call is made whose agent ends in the middle of it.
const goneTries = 5

// Again makes a call of a runtime, which asks once and then gives a container up. It
// makes the call again, a second later each time, when the agent ended in the middle
// of it: the service manager starts the agent again and keeps its socket meanwhile.
// It is for calls that may be made twice.
func Again[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	for n := 1; ; n++ {
		out, err := call(ctx)
		if _, gone := errors.AsType[goneError](err); !gone || n == goneTries {
			return out, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return out, err
		}
	}
}

// reason is the kernel's own text at the bottom of err.
func reason(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// long does a call whose answer is lines.
func long[Res any](ctx context.Context, c *Client, path string, in any, progress func(string)) (Res, error) {
	var result, none Res
	res, err := c.send(ctx, http.MethodPost, path, in)
	if err != nil {
		return none, err
	}
	defer res.Body.Close()
	for dec := json.NewDecoder(res.Body); ; {
		var l line
		if err := dec.Decode(&l); err != nil {
			return none, c.explain(ctx, fmt.Errorf("it stopped before the end: %w", err))
		}
		switch {
		case l.Error != nil:
			return none, l.Error
		case l.Result != nil:
			if err := json.Unmarshal(l.Result, &result); err != nil {
				return none, Errorf(KindFailed, "agent at %s: read the result: %v", c.socket, err)
			}
			return result, nil
		case l.Progress != "" && progress != nil:
			progress(l.Progress)
		}
	}
}
