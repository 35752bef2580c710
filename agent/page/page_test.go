package page_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/page"
)

// agent answers the calls that the page makes. Another one would be a nil pointer.
type agent struct{ api.Service }

func (agent) Status(context.Context) (api.Status, error) {
	return api.Status{State: "ok", Name: "host1"}, nil
}
func (agent) Members(context.Context) ([]api.Member, error)   { return nil, nil }
func (agent) Mesh(context.Context, bool) (api.Mesh, error)    { return api.Mesh{}, nil }
func (agent) Networks(context.Context) ([]api.Network, error) { return nil, nil }
func (agent) Verify(context.Context, api.VerifyRequest) (api.Verification, error) {
	return api.Verification{}, nil
}
func (agent) Endpoints(context.Context, api.EndpointFilter) ([]api.Endpoint, error) { return nil, nil }
func (agent) EndpointHistory(context.Context, string, string) (api.EndpointHistory, error) {
	return api.EndpointHistory{}, nil
}
func (agent) Events(_ context.Context, _ api.EventQuery, each func(api.EventItem) error) error {
	return each(api.EventItem{Event: &api.Event{Host: "host1", Kind: "agent-started"}, Cursor: "host1:1"})
}
func (agent) Query(context.Context, api.DNSQuery) (api.DNSAnswer, error) { return api.DNSAnswer{}, nil }
func (agent) Why(context.Context, api.WhyRequest) (api.Why, error)       { return api.Why{Works: true}, nil }

// browser is a client with a jar, and what it sends beside the path.
type browser struct {
	t      *testing.T
	client *http.Client
	url    string
}

func serve(t *testing.T) (p *page.Page, b browser) {
	t.Helper()
	p = page.New(agent{}, "")
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	return p, newBrowser(t, srv.URL)
}

func newBrowser(t *testing.T, url string) browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{t, &http.Client{Jar: jar}, url}
}

// do asks with headers, given as key and value by turns.
func (b browser) do(method, path, body string, headers ...string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res, string(text)
}

func (b browser) status(want int, method, path, body string, headers ...string) string {
	b.t.Helper()
	res, text := b.do(method, path, body, headers...)
	if res.StatusCode != want {
		b.t.Errorf("%s %s %q: %s, want %d: %.200s", method, path, headers, res.Status, want, text)
	}
	return text
}

func TestTokenOpensOnce(t *testing.T) {
	p, one := serve(t)
	two := newBrowser(t, one.url)
	one.status(403, "GET", "/", "")
	one.status(403, "GET", "/v1/status", "")
	if text := one.status(403, "GET", "/?token=guess", ""); !strings.Contains(text, "token of this link is wrong") || !strings.Contains(text, "agentctl ui") {
		t.Errorf("a wrong token: %s", text)
	}
	one.status(204, "HEAD", p.Link(), "") // a look ahead does not spend it
	res, text := one.do("GET", p.Link(), "")
	if res.StatusCode != 200 || !strings.Contains(text, `http-equiv="refresh" content="0;url=/"`) {
		t.Fatalf("%s: %s", res.Status, text)
	}
	cookie := res.Header.Get("Set-Cookie")
	for _, want := range []string{"; HttpOnly", "; SameSite=Strict", "; Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("cookie %q lacks %s", cookie, want)
		}
	}
	if strings.Contains(cookie, p.Link()[len("/?token="):]) {
		t.Errorf("the cookie is the token: %s", cookie)
	}
	one.status(200, "GET", "/", "")
	one.status(200, "GET", "/v1/status", "")
	one.status(200, "GET", p.Link(), "") // the same browser's own link
	if text := two.status(403, "GET", p.Link(), ""); !strings.Contains(text, "used already") {
		t.Errorf("a second browser: %s", text)
	}
	two.status(403, "GET", "/", "")
	two.status(403, "GET", "/app.js", "")
	two.status(403, "GET", "/v1/status", "", "Cookie", strings.Replace(strings.SplitN(cookie, ";", 2)[0], "=", "=x", 1))
}

func admitted(t *testing.T) browser {
	t.Helper()
	p, b := serve(t)
	b.status(200, "GET", p.Link(), "")
	return b
}

func TestOtherHostsAndOriginsAreRefused(t *testing.T) {
	b := admitted(t)
	own := strings.TrimPrefix(b.url, "http://")
	_, port, _ := strings.Cut(own, ":")
	for _, tt := range []struct {
		name    string
		want    int
		headers []string
	}{
		{"a name that was bound to this address", 403, []string{"Host", "evil.example:" + port}},
		{"another address", 403, []string{"Host", "192.0.2.1:" + port}},
		{"no host", 403, []string{"Host", ":" + port}},
		{"its own", 200, []string{"Host", own}},
		{"another page's script", 403, []string{"Origin", "http://evil.example"}},
		{"a page at another port of this host", 403, []string{"Origin", "http://127.0.0.1:1"}},
		{"a page of no origin", 403, []string{"Origin", "null"}},
		{"its own script", 200, []string{"Origin", b.url, "Sec-Fetch-Site", "same-origin"}},
		{"another page's picture", 403, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}},
		{"another port's picture", 403, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors"}},
		{"a link in another page to a call", 403, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.t = t
			b.status(tt.want, "GET", "/v1/status", "", tt.headers...)
		})
	}
	// Through a forwarded port the host is localhost, and the port another.
	b.status(403, "GET", "/", "", "Host", "localhost:8080")
	name := "weft-8080=" + b.cookie()
	b.status(200, "GET", "/v1/status", "", "Host", "localhost:8080", "Cookie", name, "Origin", "http://localhost:8080")
	b.status(200, "GET", "/", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate")
}

// cookie is the secret that the browser was given.
func (b browser) cookie() string {
	r, _ := http.NewRequest("GET", b.url, nil)
	return b.client.Jar.Cookies(r.URL)[0].Value
}

func TestNameOfTheOperator(t *testing.T) {
	p := page.New(agent{}, "Box.example")
	srv := httptest.NewServer(p)
	defer srv.Close()
	b := newBrowser(t, srv.URL)
	b.status(200, "GET", p.Link(), "", "Host", "box.example:9000")
	b.status(403, "GET", p.Link(), "", "Host", "other.example:9000")
}

func TestBrowserIsToldToLoadNothingElse(t *testing.T) {
	b := admitted(t)
	for _, path := range []string{"/", "/app.js", "/v1/status", "/?token=x"} {
		res, _ := b.do("GET", path, "")
		csp := res.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'self';") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
			t.Errorf("%s: %s", path, csp)
		}
		for key, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store"} {
			if got := res.Header.Get(key); got != want {
				t.Errorf("%s: %s: %q, want %q", path, key, got, want)
			}
		}
	}
	_, index := b.do("GET", "/", "")
	if regexp.MustCompile(`(?i)<style|<script[^>]*>[^<]|\son\w+=|\sstyle=|https?:`).MatchString(index) {
		t.Errorf("what the policy forbids stands in the page: %s", index)
	}
}

func TestOnlyTheListedCallsPass(t *testing.T) {
	b := admitted(t)
	json := []string{"Content-Type", "application/json"}
	for _, path := range []string{"/v1/status", "/v1/members", "/v1/mesh", "/v1/networks", "/v1/endpoints?all=true",
		"/v1/endpoints/web/history", "/v1/verify?all=true", "/v1/dns/query?name=web&type=A"} {
		b.status(200, "GET", path, "")
	}
	if text := b.status(200, "GET", "/v1/events?all=true&since=1h", ""); !strings.Contains(text, "id: host1:1\ndata: {") {
		t.Errorf("events: %s", text)
	}
	b.status(200, "POST", "/v1/why", `{"from":"a","to":"b"}`, append(json, "Origin", b.url)...)
	for _, call := range [][2]string{
		{"POST", "/v1/verify"}, {"POST", "/v1/networks"}, {"DELETE", "/v1/networks/blue"}, {"POST", "/v1/leave"}, {"POST", "/v1/join"}, {"POST", "/v1/init"},
		{"POST", "/v1/endpoints"}, {"DELETE", "/v1/networks/blue/endpoints/web"}, {"POST", "/v1/connect"}, {"POST", "/v1/disconnect"}, {"POST", "/v1/prune"},
		{"GET", "/v1/metrics"}, {"GET", "/v1/new"}, {"POST", "/v1/mesh"}, {"POST", "/v1/ping"}, {"GET", "/v1/verify?repair=true"}, {"GET", "/v1/networks/blue"},
		{"PUT", "/v1/status"}, {"GET", "/v1/status/../leave"},
	} {
		res, text := b.do(call[0], call[1], "{}", json...)
		if res.StatusCode/100 != 4 {
			t.Errorf("%s %s: %s: %s", call[0], call[1], res.Status, text)
		}
	}
	b.status(415, "POST", "/v1/why", "from=a&to=b", "Content-Type", "application/x-www-form-urlencoded")
	b.status(405, "POST", "/", "")
	b.status(404, "GET", "/vendor/", "")
	b.status(404, "GET", "/../page.go", "")
}

// flood is an agent whose events never end.
type flood struct {
	agent
	ended chan error
}

func (f flood) Events(_ context.Context, _ api.EventQuery, each func(api.EventItem) error) error {
	item := api.EventItem{Event: &api.Event{Host: "host1", Kind: "endpoint-attached", Text: strings.Repeat("x", 4096)}}
	for {
		if err := each(item); err != nil {
			f.ended <- err
			return err
		}
	}
}

// The agent is not held up by a browser that does not read: after ten seconds it is rid of
// it.
func TestSlowReaderOfEventsIsDropped(t *testing.T) {
	t.Parallel()
	f := flood{ended: make(chan error, 1)}
	p := page.New(f, "")
	srv := httptest.NewServer(p)
	defer srv.Close()
	b := newBrowser(t, srv.URL)
	b.status(200, "GET", p.Link(), "")
	res, err := b.client.Get(srv.URL + "/v1/events?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	select {
	case err := <-f.ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for the reader")
	}
}

// most is what script and style may have together, before compression.
const most = 120_000

func TestScriptAndStyleAreSmall(t *testing.T) {
	sum := 0
	err := filepath.WalkDir("assets", func(path string, d os.DirEntry, err error) error {
		if err == nil && slices.Contains([]string{".js", ".css"}, filepath.Ext(path)) {
			info, err := d.Info()
			if err != nil {
				return err
			}
			sum += int(info.Size())
		}
		return err
	})
	if err != nil || sum > most || sum < 30_000 {
		t.Errorf("%d bytes, at most %d, %v", sum, most, err)
	}
	t.Logf("%d bytes", sum)
}
