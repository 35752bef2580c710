package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

func handlerOf(s api.Service) http.Handler {
	return api.NewHandler(s, slog.New(slog.DiscardHandler))
}

// ask sends one request to a handler.
func ask(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "agentd"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if h := r.Header.Get("Host"); h != "" {
		r.Host = h
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRefusals(t *testing.T) {
	const big = 1 << 20
	tests := []struct {
		name, method, target, body string
		header                     []string
		code                       int
		message                    string
	}{
		{"unknown path", "GET", "/v2/status", "", nil, 404, "GET /v2/status: this agent has no such call"},
		{"name left out", "GET", "/v1/networks/", "", nil, 404, "GET /v1/networks/: this agent has no such call"},
		{"wrong method", "PUT", "/v1/networks", "", nil, 405, "PUT /v1/networks: this path answers GET and POST"},
		{"no body", "POST", "/v1/networks", "", nil, 400, "body of POST /v1/networks: empty, want a JSON object"},
		{"half a body", "POST", "/v1/networks", `{"name":`, nil, 400, "body of POST /v1/networks: unexpected EOF"},
		{"garbage", "POST", "/v1/join", "\x00\xff", nil, 400, `body of POST /v1/join: invalid character '\x00' looking for beginning of value`},
		{"two values", "POST", "/v1/networks", `{"name":"a"} {}`, nil, 400, "body of POST /v1/networks: more than one JSON value"},
		{"unknown key", "POST", "/v1/networks", `{"name":"a","subnet":"10.64.0.0/20"}`, nil, 400, `body of POST /v1/networks: unknown key "subnet"`},
		{"wrong type", "POST", "/v1/networks", `{"name":"a","subnets":"10.64.0.0/20"}`, nil, 400, `body of POST /v1/networks: key "subnets" cannot be a string`},
		{"not an object", "POST", "/v1/init", `[1]`, nil, 400, "body of POST /v1/init: json: cannot unmarshal array into Go value of type api.InitRequest"},
		{"too large", "POST", "/v1/networks", `{"name":"` + strings.Repeat("a", big) + `"}`, nil, 400, "body of POST /v1/networks: larger than 1048576 bytes"},
		{"unknown parameter", "GET", "/v1/endpoints?net=a", "", nil, 400, "parameter net: unknown, this call has network, host, all"},
		{"parameter twice", "GET", "/v1/endpoints?host=a&host=b", "", nil, 400, "parameter host: given 2 times"},
		{"no boolean", "DELETE", "/v1/networks/a?force=perhaps", "", nil, 400, `parameter force: "perhaps" is neither true nor false`},
		{"broken query", "GET", "/v1/endpoints?a;b", "", nil, 400, `query "a;b": invalid semicolon separator in query`},
		{"query without a name", "GET", "/v1/dns/query?type=A", "", nil, 400, "parameter name: missing"},
		{"a web page", "GET", "/v1/status", "", []string{"Origin", "http://example.com"}, 403, "request from http://example.com: web pages may not call the agent"},
		{"a sandboxed web page", "GET", "/v1/status", "", []string{"Origin", "null"}, 403, "request from null: web pages may not call the agent"},
		{"a rebound name", "GET", "/v1/status", "", []string{"Host", "evil.example.com:80"}, 403, `request for host "evil.example.com:80": this is agentd, call it as http://agentd/`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{}
			w := ask(handlerOf(f), tt.method, tt.target, tt.body, tt.header...)
			var e api.Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
				t.Fatalf("%v in %q", err, w.Body)
			}
			if w.Code != tt.code || e.Message != tt.message {
				t.Errorf("got %d %q\nwant %d %q", w.Code, e.Message, tt.code, tt.message)
			}
			if w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("content type %q", w.Header().Get("Content-Type"))
			}
			if f.last != nil {
				t.Errorf("the service was asked for %v", f.last)
			}
		})
	}
}

func TestHostsOfOurOwn(t *testing.T) {
	for _, host := range []string{"agentd", "AGENTD", "localhost", "localhost:80", "unix", "127.0.0.1", "[::1]", "[::1]:80"} {
		if w := ask(handlerOf(&fake{}), "GET", "/v1/status", "", "Host", host); w.Code != 200 {
			t.Errorf("host %q: %d %s", host, w.Code, w.Body)
		}
	}
	r := httptest.NewRequest("GET", "/v1/status", nil) // HTTP/1.0 without a Host
	r.Host = ""
	w := httptest.NewRecorder()
	if handlerOf(&fake{}).ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("no host: %d", w.Code)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	for state, want := range map[string]int{"ok": 200, "degraded": 200, "starting": 503, "down": 503, "not-a-member": 503, "forgotten": 503} {
		h := handlerOf(inState{&fake{}, state})
		if w := ask(h, "GET", "/readyz", ""); w.Code != want || !strings.Contains(w.Body.String(), state) {
			t.Errorf("%s: readyz %d %s", state, w.Code, w.Body)
		}
		if w := ask(h, "GET", "/healthz", ""); w.Code != 200 {
			t.Errorf("%s: healthz %d", state, w.Code)
		}
	}
	if w := ask(handlerOf(&fake{err: errConflict}), "GET", "/readyz", ""); w.Code != 409 {
		t.Errorf("failed status: readyz %d", w.Code)
	}
}

// inState is a Service whose status is given.
type inState struct {
	*fake
	state string
}

func (s inState) Status(context.Context) (api.Status, error) { return api.Status{State: s.state}, nil }

func TestListsAreNeverNull(t *testing.T) {
	h := handlerOf(empty{&fake{}})
	for _, target := range []string{"/v1/members", "/v1/networks", "/v1/networks/a", "/v1/endpoints", "/v1/endpoints/a", "/v1/status", "/v1/verify", "/v1/dns/query?name=a"} {
		w := ask(h, "GET", target, "")
		if strings.Contains(w.Body.String(), "null") {
			t.Errorf("GET %s: %s", target, w.Body)
		}
	}
}

// empty is a Service that leaves every list nil.
type empty struct{ *fake }

func (empty) Status(context.Context) (api.Status, error)             { return api.Status{}, nil }
func (empty) Members(context.Context) ([]api.Member, error)          { return nil, nil }
func (empty) Proofs(context.Context, bool) ([]api.Proof, error)      { return nil, nil }
func (empty) Networks(context.Context) ([]api.Network, error)        { return nil, nil }
func (empty) Network(context.Context, string) (api.Network, error)   { return api.Network{}, nil }
func (empty) Endpoint(context.Context, string) (api.Endpoint, error) { return api.Endpoint{}, nil }
func (empty) Endpoints(context.Context, api.EndpointFilter) ([]api.Endpoint, error) {
	return nil, nil
}
func (empty) EndpointHistory(context.Context, string, string) (api.EndpointHistory, error) {
	return api.EndpointHistory{}, nil
}
func (empty) Events(context.Context, api.EventQuery, func(api.EventItem) error) error { return nil }
func (empty) Verify(context.Context, api.VerifyRequest) (api.Verification, error) {
	return api.Verification{}, nil
}
func (empty) Doctor(context.Context) ([]api.Finding, error) { return nil, nil }
func (empty) Query(context.Context, api.DNSQuery) (api.DNSAnswer, error) {
	return api.DNSAnswer{}, nil
}

func TestAnswersDoNotChangeWhatTheServiceKeeps(t *testing.T) {
	kept := &keeper{fake: &fake{}, list: []api.Endpoint{endpoint("web")}}
	ask(handlerOf(kept), "GET", "/v1/endpoints", "")
	if kept.list[0].Aliases != nil {
		t.Error("the handler wrote into the service's own list")
	}
}

type keeper struct {
	*fake
	list []api.Endpoint
}

func (k *keeper) Endpoints(context.Context, api.EndpointFilter) ([]api.Endpoint, error) {
	return k.list, nil
}

func TestPanicIsOneFailedCall(t *testing.T) {
	var log bytes.Buffer
	h := api.NewHandler(panics{&fake{}}, slog.New(slog.NewTextHandler(&log, nil)))
	w := ask(h, "GET", "/v1/members", "")
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"kind":"failed"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "no members today") {
		t.Errorf("log = %s", &log)
	}
}

type panics struct{ *fake }

func (panics) Members(context.Context) ([]api.Member, error) { panic("no members today") }

func TestCallsAreLogged(t *testing.T) {
	var log bytes.Buffer
	h := api.NewHandler(&fake{err: errConflict}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ask(h, "GET", "/v1/members", "")
	for _, want := range []string{"level=DEBUG", `msg="api call"`, "method=GET", "path=/v1/members", "status=409", "took="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in %s", want, &log)
		}
	}
}

// FuzzBody sends anything as the body of every call that takes one: the answer
// is JSON, and garbage is never the agent's failure.
func FuzzBody(f *testing.F) {
	paths := []string{"/v1/init", "/v1/join", "/v1/leave", "/v1/networks", "/v1/endpoints"}
	for _, s := range []string{"", "{", "null", "[]", `{"name":"a"}`, `{"name":1}`, `{"NAME":"a","name":"b"}`, "{\"\xff\":1}", `{"labels":{"a":null}}`, `{} {}`} {
		f.Add(s)
	}
	h := handlerOf(&fake{})
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range paths {
			w := ask(h, "POST", path, body)
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("POST %s %q: answer %q is no JSON", path, body, w.Body)
			}
			if w.Code >= 500 {
				t.Errorf("POST %s %q: %d", path, body, w.Code)
			}
		}
	})
}

// FuzzSocket sends anything as a whole connection: it is answered with a
// refusal or closed, and the agent lives.
func FuzzSocket(f *testing.F) {
	for _, s := range garbage {
		f.Add([]byte(s.sent))
	}
	socket := serve(f, &fake{})
	c := api.NewClient(socket)
	f.Fuzz(func(t *testing.T, sent []byte) {
		talk(t, socket, sent)
		if _, err := c.Status(t.Context()); err != nil {
			t.Errorf("after %q: %v", sent, err)
		}
	})
}

// garbage is what a port scanner, a wrong program or a broken one sends.
var garbage = []struct {
	name, sent string
	status     string // of the answer; "" when none is due
}{
	{"nothing", "", ""},
	{"no request line", "hello\r\n\r\n", "400"},
	{"binary", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
	{"a gossip packet", "\x00\x01\x02weft\x00\xff\xfe\r\n\r\n", "400"},
	{"no host", "GET /v1/status HTTP/1.1\r\n\r\n", "400"},
	{"two hosts", "GET /v1/status HTTP/1.1\r\nHost: agentd\r\nHost: b\r\n\r\n", "400"},
	{"a header without a colon", "GET /v1/status HTTP/1.1\r\nHost agentd\r\n\r\n", "400"},
	{"a bad length", "POST /v1/init HTTP/1.1\r\nHost: agentd\r\nContent-Length: -1\r\n\r\n", "400"},
	{"another version", "GET /v1/status HTTP/7.3\r\nHost: agentd\r\n\r\n", "505"},
	{"endless header", "GET / HTTP/1.1\r\nHost: agentd\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
	{"garbage in a body", "POST /v1/init HTTP/1.1\r\nHost: agentd\r\nContent-Length: 3\r\n\r\n\x00\x01\x02", "400"},
	{"a body cut short", "POST /v1/init HTTP/1.1\r\nHost: agentd\r\nContent-Length: 30\r\n\r\n{", "400"},
	{"a bad chunk", "POST /v1/init HTTP/1.1\r\nHost: agentd\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
	{"an absolute target elsewhere", "GET http://example.com/v1/status HTTP/1.1\r\nHost: agentd\r\n\r\n", "403"},
}

func TestGarbageOnTheSocket(t *testing.T) {
	socket := serve(t, &fake{})
	c := api.NewClient(socket)
	for _, tt := range garbage {
		t.Run(tt.name, func(t *testing.T) {
			answer := talk(t, socket, []byte(tt.sent))
			version, rest, _ := strings.Cut(answer, " ")
			if tt.status == "" && answer != "" || tt.status != "" && (!strings.HasPrefix(version, "HTTP/1.") || !strings.HasPrefix(rest, tt.status+" ")) {
				t.Errorf("answer %.200q, want %q", answer, tt.status)
			}
			if _, err := c.Status(t.Context()); err != nil {
				t.Errorf("the agent afterwards: %v", err)
			}
		})
	}
}

// talk sends everything, says that this is all, and reads until the agent
// closes.
func talk(t *testing.T, socket string, sent []byte) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(sent); err == nil { // else it has been refused already
		conn.(*net.UnixConn).CloseWrite()
	}
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(conn); err != nil && answer.Len() == 0 {
		t.Errorf("read: %v", err)
	}
	return answer.String()
}
