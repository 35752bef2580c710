package api

import (
	"context"
	"encoding/json"
	"net/http"
)

// line is one line of a long call's answer (application/x-ndjson): any number
// with Progress, then one with Result or Error.
type line struct {
	Progress string          `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// stream serves a long call. A call that fails before its first step answers
// with the error's HTTP status, as every other call does; after that the status
// is spent and the error is the last line.
func stream[Req, Res any](call func(context.Context, Req, func(string)) (Res, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req, err := decode[Req](w, r)
		if err != nil {
			fail(w, err)
			return
		}
		out := &lineWriter{w: w}
		res, err := call(r.Context(), req, func(s string) { out.write(line{Progress: s}) })
		switch {
		case err != nil && !out.started:
			fail(w, err)
		case err != nil:
			out.write(line{Error: asError(err)})
		default:
			out.result(res)
		}
	}
}

// lineWriter writes lines, each of which leaves at once.
type lineWriter struct {
	w       http.ResponseWriter
	started bool
}

func (l *lineWriter) write(v line) {
	if !l.started {
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.started = true
	}
	encoder(l.w).Encode(v)
	// A writer that cannot flush (a recorder) has nobody waiting behind it.
	_ = http.NewResponseController(l.w).Flush()
}

func (l *lineWriter) result(v any) {
	b, err := json.Marshal(withoutNulls(v))
	if err != nil {
		l.write(line{Error: asError(err)})
		return
	}
	l.write(line{Result: b})
}
