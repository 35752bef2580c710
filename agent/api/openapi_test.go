package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent/api"
)

// document is openapi.yaml as the agent serves it.
func document(t *testing.T) *openapi3.T {
	t.Helper()
	w := ask(handlerOf(&fake{}), "GET", "/v1/openapi.yaml", "")
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// contract stands in front of a handler and holds every request and answer to
// the document.
type contract struct {
	t      *testing.T
	errorf func(format string, args ...any) // reports a broken contract
	next   http.Handler
	router routers.Router
	mu     sync.Mutex
	seen   map[string]bool // operations that were called
}

func newContract(t *testing.T, s api.Service) *contract {
	router, err := legacy.NewRouter(document(t))
	if err != nil {
		t.Fatal(err)
	}
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", decodeLines)
	openapi3filter.RegisterBodyDecoder("application/gzip", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/event-stream", func(r io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
		b, err := io.ReadAll(r)
		return string(b), err
	})
	t.Cleanup(func() {
		openapi3filter.UnregisterBodyDecoder("application/x-ndjson")
		openapi3filter.UnregisterBodyDecoder("text/event-stream")
		openapi3filter.UnregisterBodyDecoder("application/gzip")
	})
	return &contract{t: t, errorf: t.Errorf, next: api.NewHandler(s, slog.New(slog.DiscardHandler)), router: router, seen: map[string]bool{}}
}

// decodeLines reads one JSON value a line: the document describes them as an
// array.
func decodeLines(r io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
	lines := []any{}
	for dec := json.NewDecoder(r); ; {
		var v any
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return lines, nil
		} else if err != nil {
			return nil, err
		}
		lines = append(lines, v)
	}
}

func (c *contract) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route, path, err := c.router.FindRoute(r)
	if err != nil {
		c.errorf("%s %s: %v", r.Method, r.URL, err)
		return
	}
	c.mu.Lock()
	c.seen[route.Operation.OperationID] = true
	c.mu.Unlock()
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: path, Route: route}
	if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
		c.errorf("request: %v", err)
	}
	rec := httptest.NewRecorder()
	c.next.ServeHTTP(rec, r)
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: rec.Code, Header: rec.Header(),
		Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	if err := openapi3filter.ValidateResponse(r.Context(), out.SetBodyBytes(rec.Body.Bytes())); err != nil {
		c.errorf("response: %v", err)
	}
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes())
}

// client is a Client whose every call passes the contract.
func (c *contract) client() *api.Client {
	path := filepath.Join(c.t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		c.t.Fatal(err)
	}
	srv := &http.Server{Handler: c}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	c.t.Cleanup(func() { srv.Close(); <-done })
	return api.NewClient(path)
}

func TestEveryCallKeepsTheContract(t *testing.T) {
	f := &fake{progress: []string{"one"}}
	contract := newContract(t, f)
	c := contract.client()
	for _, tt := range calls {
		if _, err := tt.call(t.Context(), c); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for _, target := range []string{"/healthz", "/readyz", "/v1/openapi.yaml"} {
		r := httptest.NewRequest("GET", target, nil)
		r.Host = "agentd"
		contract.ServeHTTP(httptest.NewRecorder(), r)
	}
	var documented []string
	for _, path := range document(t).Paths.Map() {
		for _, op := range path.Operations() {
			documented = append(documented, op.OperationID)
		}
	}
	slices.Sort(documented)
	if d := cmp.Diff(documented, slices.Sorted(maps.Keys(contract.seen))); d != "" {
		t.Errorf("operations (-documented +called):\n%s", d)
	}
}

func TestEveryFailureKeepsTheContract(t *testing.T) {
	for _, f := range []*fake{{err: errConflict}, {err: errConflict, progress: []string{"one"}}} {
		c := newContract(t, f).client()
		for _, tt := range calls {
			if _, err := tt.call(t.Context(), c); err == nil {
				t.Errorf("%s: no error", tt.name)
			}
		}
	}
}

func TestEmptyAnswersKeepTheContract(t *testing.T) {
	down := inState{&fake{}, "down"}
	contract := newContract(t, down)
	for _, target := range []string{"/readyz", "/v1/status"} {
		r := httptest.NewRequest("GET", target, nil)
		r.Host = "agentd"
		contract.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// The contract itself can tell: an answer with a wrong word is found.
func TestContractFindsAWrongAnswer(t *testing.T) {
	broken := 0
	contract := newContract(t, inState{&fake{}, "excellent"})
	contract.errorf = func(string, ...any) { broken++ }
	r := httptest.NewRequest("GET", "/v1/status", nil)
	r.Host = "agentd"
	contract.ServeHTTP(httptest.NewRecorder(), r)
	if broken != 1 {
		t.Errorf("a state that is not documented was found %d times", broken)
	}
}

// TestSchemasAreTheTypes holds the document to the Go types: the same keys, and
// required are those that are always sent.
func TestSchemasAreTheTypes(t *testing.T) {
	schemas := document(t).Components.Schemas
	for _, v := range []any{api.Error{}, api.Status{}, api.Check{}, api.Version{}, api.Member{}, api.Proof{}, api.InitRequest{}, api.InitResult{},
		api.JoinRequest{}, api.JoinResult{}, api.LeaveRequest{}, api.NetworkCreateRequest{}, api.NetworkCreateResult{}, api.Network{},
		api.IPAM{}, api.IPAMConfig{}, api.Container{}, api.AttachRequest{}, api.ConnectRequest{}, api.DisconnectRequest{},
		api.PruneRequest{}, api.PruneResult{}, api.VerifyRequest{}, api.Verification{}, api.Drift{}, api.Unasked{}, api.Event{}, api.EndpointHistory{}, api.EndpointSpan{}, api.WhyRequest{}, api.Why{}, api.WhyStep{}, api.PingRequest{}, api.Ping{}, api.PingReply{}, api.Mesh{}, api.MeshWay{}, api.TestRequest{}, api.Test{}, api.TestCheck{}, api.TestPerf{}, api.Attachment{}, api.Endpoint{}, api.DNSAnswer{}} {
		typ := reflect.TypeOf(v)
		t.Run(typ.Name(), func(t *testing.T) {
			schema := schemas[typ.Name()]
			if schema == nil {
				t.Fatal("not documented")
			}
			all, required := keys(typ)
			if d := cmp.Diff(all, slices.Sorted(maps.Keys(schema.Value.Properties))); d != "" {
				t.Errorf("keys (-type +document):\n%s", d)
			}
			documented := slices.Sorted(slices.Values(schema.Value.Required))
			if d := cmp.Diff(required, documented); d != "" {
				t.Errorf("required (-type +document):\n%s", d)
			}
		})
	}
}

// keys is the JSON keys of a struct type, and those that are always there.
func keys(typ reflect.Type) (all, required []string) {
	for i := range typ.NumField() {
		name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		all = append(all, name)
		if !strings.HasPrefix(options, "omit") {
			required = append(required, name)
		}
	}
	slices.Sort(all)
	slices.Sort(required)
	return all, required
}

func TestDocumentIsServedAsItIs(t *testing.T) {
	w := ask(handlerOf(&fake{}), "GET", "/v1/openapi.yaml", "")
	if w.Header().Get("Content-Type") != "application/yaml" || !bytes.HasPrefix(w.Body.Bytes(), []byte("openapi: 3.")) {
		t.Errorf("%s: %.40q", w.Header().Get("Content-Type"), w.Body)
	}
}
