package api

import (
	"context"
	"net/http"
	"time"
)

// Finding is what doctor says of one thing: how it is, by which figures, and what to
// type about it.
type Finding struct {
	ID       string    `json:"id"`    // of the check, such as "resolvers"
	State    string    `json:"state"` // ok, warn, fail
	Subject  string    `json:"subject"`
	Evidence string    `json:"evidence"`
	Hint     string    `json:"hint,omitempty"`
	Since    time.Time `json:"since,omitzero"` // when it was first seen to be in this state; zero: it is ok
}

// Findings are the checks of a status as doctor says them.
func Findings(st Status) []Finding {
	out := make([]Finding, 0, len(st.Checks))
	for _, c := range st.Checks {
		out = append(out, Finding{ID: c.Name, State: c.State, Subject: st.Name, Evidence: c.Detail, Hint: c.Hint, Since: c.Since})
	}
	return out
}

// debugBundle answers a compressed archive.
func debugBundle(s Service) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		archive, err := bundle(r.Context(), s, r)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/gzip")
		w.Write(archive)
	}
}

func bundle(ctx context.Context, s Service, r *http.Request) ([]byte, error) {
	p, err := parameters(r, "all")
	if err != nil {
		return nil, err
	}
	all, err := p.flag("all")
	if err != nil {
		return nil, err
	}
	return s.Bundle(ctx, all)
}
