package page

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// calls are those of the API that the page makes, with the parameters that it gives.
// None changes anything; why sends a packet to see whether it is answered. Everything
// else is refused here, whoever asks.
var calls = []struct {
	method, path string
	parameters   []string
}{
	{"GET", "/v1/status", nil},
	{"GET", "/v1/members", nil},
	{"GET", "/v1/mesh", nil},
	{"GET", "/v1/networks", nil},
	{"GET", "/v1/endpoints", []string{"all"}},
	{"GET", "/v1/endpoints/{endpoint}/history", nil},
	{"GET", "/v1/events", []string{"all", "follow", "since", "after"}},
	{"GET", "/v1/verify", []string{"all"}},
	{"GET", "/v1/dns/query", []string{"name", "type", "from"}},
	{"POST", "/v1/why", nil},
}

// passed lets the calls through to the agent's own handler, and nothing else. That one
// refuses what browsers send, so it is not told.
func passed(agent http.Handler) http.Handler {
	mux := http.NewServeMux()
	for _, c := range calls {
		mux.HandleFunc(c.method+" "+c.path, func(w http.ResponseWriter, r *http.Request) {
			given, err := url.ParseQuery(r.URL.RawQuery)
			for key := range given {
				if !slices.Contains(c.parameters, key) {
					http.Error(w, "the page does not ask for "+key, http.StatusForbidden)
					return
				}
			}
			switch {
			case err != nil:
				http.Error(w, "the query cannot be read", http.StatusBadRequest)
			case r.Method == http.MethodPost && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
				http.Error(w, "want JSON", http.StatusUnsupportedMediaType) // a form of another page cannot send that
			default:
				in := r.Clone(r.Context())
				in.Host = "agentd"
				in.Header.Del("Origin")
				in.Header.Del("Cookie")
				agent.ServeHTTP(w, in)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "the page does not make this call", http.StatusForbidden)
	})
	return mux
}
