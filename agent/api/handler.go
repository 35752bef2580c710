package api

import (
	"context"
	_ "embed"
	"log/slog"
	"net/http"
	"slices"
	"strings"
)

// openAPI describes every call in OpenAPI 3.0. A test holds it to the handler
// and to the types.
//
//go:embed openapi.yaml
var openAPI []byte

// NewHandler serves s under /v1/, and /healthz and /readyz beside it. It
// refuses what a browser sends, bodies over 1 MiB and unknown keys, each with
// an Error in JSON. It trusts its caller: who may call what is Serve's matter.
func NewHandler(s Service, log *slog.Logger) http.Handler {
	return logged(log, refuseBrowsers(calls(s)))
}

// calls is the routes of s, and an Error in JSON for everything else.
func calls(s Service) http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes(s) {
		mux.HandleFunc(r.method+" "+r.path, r.serve)
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods {
		mux.HandleFunc(path, wrongMethod(allowed))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		failAs(w, http.StatusNotFound, Errorf(KindMisuse, "%s %s: this agent has no such call", r.Method, r.URL.Path).
			WithHint("agentctl version # the agent may be older"))
	})
	return mux
}

// route is one call: a ServeMux pattern in two parts, and what serves it.
type route struct {
	method, path string
	serve        http.HandlerFunc
}

// routes is the whole API.
func routes(s Service) []route {
	return []route{
		{"GET", "/healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, health{State: CheckOK}) }},
		{"GET", "/readyz", ready(s)},
		{"GET", "/v1/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/yaml")
			w.Write(openAPI)
		}},

		{"GET", "/v1/status", get(func(ctx context.Context, _ *http.Request) (Status, error) { return s.Status(ctx) })},
		{"GET", "/v1/version", get(func(ctx context.Context, _ *http.Request) (Version, error) { return s.Version(ctx) })},
		{"GET", "/v1/members", get(func(ctx context.Context, _ *http.Request) ([]Member, error) { return s.Members(ctx) })},
		{"GET", "/v1/proofs", get(proofs(s))},
		{"POST", "/v1/init", stream(s.Init)},
		{"POST", "/v1/join", stream(s.Join)},
		{"POST", "/v1/leave", stream(func(ctx context.Context, r LeaveRequest, progress func(string)) (struct{}, error) {
			return struct{}{}, s.Leave(ctx, r, progress)
		})},

		{"GET", "/v1/networks", get(func(ctx context.Context, _ *http.Request) ([]Network, error) { return s.Networks(ctx) })},
		{"POST", "/v1/networks", post(s.NetworkCreate)},
		{"GET", "/v1/networks/{network}", get(func(ctx context.Context, r *http.Request) (Network, error) {
			return s.Network(ctx, r.PathValue("network"))
		})},
		{"DELETE", "/v1/networks/{network}", remove(removeNetwork(s))},

		{"POST", "/v1/prune", act(http.StatusOK, s.NetworkPrune)},
		{"POST", "/v1/connect", post(s.Connect)},
		{"POST", "/v1/disconnect", act(http.StatusNoContent, func(ctx context.Context, r DisconnectRequest) (struct{}, error) {
			return struct{}{}, s.Disconnect(ctx, r)
		})},

		{"GET", "/v1/endpoints", get(endpoints(s))},
		{"POST", "/v1/endpoints", post(s.Attach)},
		{"GET", "/v1/endpoints/{endpoint}", get(func(ctx context.Context, r *http.Request) (Endpoint, error) {
			return s.Endpoint(ctx, r.PathValue("endpoint"))
		})},
		{"GET", "/v1/endpoints/{endpoint}/history", get(endpointHistory(s))},
		{"GET", "/v1/events", events(s)},
		{"DELETE", "/v1/networks/{network}/endpoints/{endpoint}", remove(func(ctx context.Context, r *http.Request) error {
			return s.Detach(ctx, r.PathValue("network"), r.PathValue("endpoint"))
		})},
		{"DELETE", "/v1/networks/{network}/containers/{container}", remove(detachContainer(s))},

		{"GET", "/v1/dns/query", get(query(s))},
		{"GET", "/v1/verify", get(verify(s))},
		{"POST", "/v1/verify", act(http.StatusOK, s.Verify)},
		{"POST", "/v1/why", act(http.StatusOK, s.Why)},
		{"POST", "/v1/ping", act(http.StatusOK, s.Ping)},
		{"GET", "/v1/mesh", get(func(ctx context.Context, _ *http.Request) (Mesh, error) { return s.Mesh(ctx, false) })},
		{"POST", "/v1/mesh", get(func(ctx context.Context, _ *http.Request) (Mesh, error) { return s.Mesh(ctx, true) })},
		{"GET", "/v1/doctor", get(func(ctx context.Context, _ *http.Request) ([]Finding, error) { return s.Doctor(ctx) })},
		{"GET", "/v1/debug/bundle", debugBundle(s)},
		{"POST", "/v1/test", stream(s.Test)},
		{"GET", "/v1/metrics", metrics(s)},
	}
}

// health is the answer of /healthz: the agent is alive and serves.
type health struct {
	State string `json:"state"`
}

// ready answers 200 while this host carries its networks, with a warning or
// without, and 503 when it does not: down, no member, forgotten. The body is
// the Status.
func ready(s Service) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		st, err := s.Status(r.Context())
		switch {
		case err != nil:
			fail(w, err)
		case st.State == "ok" || st.State == "degraded":
			reply(w, http.StatusOK, st)
		default:
			reply(w, http.StatusServiceUnavailable, st)
		}
	}
}

func proofs(s Service) func(context.Context, *http.Request) ([]Proof, error) {
	return func(ctx context.Context, r *http.Request) ([]Proof, error) {
		p, err := parameters(r, "refresh")
		if err != nil {
			return nil, err
		}
		refresh, err := p.flag("refresh")
		if err != nil {
			return nil, err
		}
		return s.Proofs(ctx, refresh)
	}
}

func removeNetwork(s Service) func(context.Context, *http.Request) error {
	return func(ctx context.Context, r *http.Request) error {
		p, err := parameters(r, "force")
		if err != nil {
			return err
		}
		force, err := p.flag("force")
		if err != nil {
			return err
		}
		return s.NetworkRemove(ctx, r.PathValue("network"), force)
	}
}

func detachContainer(s Service) func(context.Context, *http.Request) error {
	return func(ctx context.Context, r *http.Request) error {
		p, err := parameters(r, "ifname")
		if err != nil {
			return err
		}
		return s.DetachContainer(ctx, ContainerRef{
			Network: r.PathValue("network"), Container: r.PathValue("container"), Ifname: p.Get("ifname"),
		})
	}
}

func endpoints(s Service) func(context.Context, *http.Request) ([]Endpoint, error) {
	return func(ctx context.Context, r *http.Request) ([]Endpoint, error) {
		p, err := parameters(r, "network", "host", "all")
		if err != nil {
			return nil, err
		}
		all, err := p.flag("all")
		if err != nil {
			return nil, err
		}
		return s.Endpoints(ctx, EndpointFilter{Network: p.Get("network"), Host: p.Get("host"), All: all})
	}
}

func query(s Service) func(context.Context, *http.Request) (DNSAnswer, error) {
	return func(ctx context.Context, r *http.Request) (DNSAnswer, error) {
		p, err := parameters(r, "name", "type", "from")
		if err != nil {
			return DNSAnswer{}, err
		}
		if p.Get("name") == "" {
			return DNSAnswer{}, Errorf(KindMisuse, "parameter name: missing")
		}
		return s.Query(ctx, DNSQuery{Name: p.Get("name"), Type: p.Get("type"), From: p.Get("from")})
	}
}

// verify is the call that only looks, and so may be made by everybody.
func verify(s Service) func(context.Context, *http.Request) (Verification, error) {
	return func(ctx context.Context, r *http.Request) (Verification, error) {
		p, err := parameters(r, "all")
		if err != nil {
			return Verification{}, err
		}
		all, err := p.flag("all")
		if err != nil {
			return Verification{}, err
		}
		return s.Verify(ctx, VerifyRequest{All: all})
	}
}

// metrics answers in the text format of Prometheus.
func metrics(s Service) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := s.Metrics(r.Context())
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Write(text)
	}
}

// wrongMethod answers the methods that a path does not have.
func wrongMethod(allowed []string) http.HandlerFunc {
	slices.Sort(allowed)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		failAs(w, http.StatusMethodNotAllowed, Errorf(KindMisuse, "%s %s: this path answers %s", r.Method, r.URL.Path, strings.Join(allowed, " and ")))
	}
}
