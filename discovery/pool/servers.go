package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// servers sends each request to one Consul, the same as before as long as that
// answers, else to the next. A request that failed is not repeated here: the caller
// does, who knows whether it may have been done.
type servers struct {
	tcp    http.RoundTripper // of all but unix sockets
	scheme string            // of addresses that have none

	mu  sync.Mutex
	all []server
	at  int // the one that is asked
}

// server is one Consul.
type server struct {
	url *url.URL
	classifier
	gone context.Context // ends when another server is asked instead
	give context.CancelFunc
}

// afresh returns the server with requests of its own.
func (s server) afresh() server {
	s.gone, s.give = context.WithCancel(context.Background())
	return s
}

// use replaces the servers, by URLs with commas between.
func (s *servers) use(addresses string) error {
	var all []server
	for text := range strings.SplitSeq(addresses, ",") {
		u, err := s.parse(text)
		if err != nil {
			return fmt.Errorf("address %q: %w", text, err)
		}
		next := s.tcp
		if u.Scheme == "unix" {
			next = unixTransport(u.Path)
		}
		all = append(all, server{url: u, classifier: classifier{next, nameOf(u), true}}.afresh())
	}
	s.mu.Lock()
	old := s.all
	s.all, s.at = all, 0
	s.mu.Unlock()
	for _, o := range old {
		o.give()
		closeIdle(o.next)
	}
	return nil
}

// parse reads one address, which Consul's own variables give without a scheme.
func (s *servers) parse(text string) (*url.URL, error) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = s.scheme + "://" + text
	}
	u, err := url.Parse(text)
	if err == nil && u.Host == "" && u.Path == "" {
		err = errors.New("no host")
	}
	return u, err
}

// addresses are those of all servers, as use takes them.
func (s *servers) addresses() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]string, len(s.all))
	for i, o := range s.all {
		all[i] = o.url.String()
	}
	return strings.Join(all, ",")
}

// current is the server to be asked, and how many there are.
func (s *servers) current() (now server, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[s.at], len(s.all)
}

// skip goes on to the next server after one that does not answer. Queries that wait
// there are given up: they would wait for their whole time.
func (s *servers) skip(failed server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) > 1 && s.all[s.at].gone == failed.gone {
		s.all[s.at] = failed.afresh()
		s.at = (s.at + 1) % len(s.all)
		failed.give()
	}
}

// RoundTrip implements http.RoundTripper.
func (s *servers) RoundTrip(req *http.Request) (*http.Response, error) {
	now, _ := s.current()
	req = req.Clone(req.Context())
	if user := now.url.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	req.URL.Scheme, req.URL.Host, req.Host = now.url.Scheme, now.url.Host, ""
	if now.url.Scheme == "unix" {
		req.URL.Scheme, req.URL.Host = "http", "localhost"
	}
	resp, err := now.roundTrip(req)
	if another(err) && !errors.Is(req.Context().Err(), context.Canceled) {
		s.skip(now)
	}
	return resp, err
}

// roundTrip asks the server until it is gone.
func (s server) roundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(s.gone, cancel)
	end := func() { stop(); cancel() }
	resp, err := s.classifier.RoundTrip(req.WithContext(ctx))
	if err != nil {
		end()
		if s.gone.Err() != nil && req.Context().Err() == nil {
			err = fmt.Errorf("%s: %w: another one is asked", s.name, ErrUnavailable)
		}
		return nil, err
	}
	resp.Body = answer{resp.Body, s, req, end}
	return resp, nil
}

// answer is the body of an answer of a server.
type answer struct {
	io.ReadCloser
	from server
	req  *http.Request
	end  func()
}

func (a answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && a.from.gone.Err() != nil && a.req.Context().Err() == nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w: another one is asked", a.from.name, ErrUnavailable)
	}
	return n, err
}

func (a answer) Close() error {
	defer a.end()
	return a.ReadCloser.Close()
}

// another reports whether it makes sense to ask another server.
func another(err error) bool { return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotConsul) }

// CloseIdleConnections is what http.Client's method of that name calls.
func (s *servers) CloseIdleConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.all {
		closeIdle(o.next)
	}
}
