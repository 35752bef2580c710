package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody  = 1 << 20          // bytes of one request
	bodyTime = 10 * time.Second // for a request's body to arrive
)

// get serves a call that only reads.
func get[T any](call func(context.Context, *http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := call(r.Context(), r)
		finish(w, http.StatusOK, v, err)
	}
}

// post serves a call that takes a body and makes something.
func post[Req, Res any](call func(context.Context, Req) (Res, error)) http.HandlerFunc {
	return act(http.StatusCreated, call)
}

// act serves a call that takes a body; code is the status of its success.
func act[Req, Res any](code int, call func(context.Context, Req) (Res, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req, err := decode[Req](w, r)
		if err != nil {
			fail(w, err)
			return
		}
		res, err := call(r.Context(), req)
		finish(w, code, res, err)
	}
}

// remove serves a call that answers nothing but that it is done.
func remove(call func(context.Context, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := call(r.Context(), r); err != nil {
			fail(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func finish(w http.ResponseWriter, code int, v any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, code, v)
}

func reply(w http.ResponseWriter, code int, v any) {
	if code == http.StatusNoContent {
		w.WriteHeader(code)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	encoder(w).Encode(withoutNulls(v))
}

func fail(w http.ResponseWriter, err error) {
	e := asError(err)
	failAs(w, e.statusOf(), e)
}

func failAs(w http.ResponseWriter, code int, e *Error) { reply(w, code, e) }

// encoder writes one value a line, with <, > and & as they are: no answer of
// ours stands in a page.
func encoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc
}

// decode reads a request's body: one JSON object without keys that T lacks,
// within 1 MiB and ten seconds.
func decode[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	var req, none T
	// Only the body has a deadline: a join may take minutes after it. The error
	// is for writers without a connection, which cannot be slow.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTime))
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()

	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return none, badBody(r, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return none, badBody(r, errors.New("more than one JSON value"))
	}
	return req, nil
}

// badBody says in words of the API what is wrong with a body.
func badBody(r *http.Request, err error) *Error {
	why := JSONFault(err)
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		why = "larger than " + strconv.FormatInt(tooBig.Limit, 10) + " bytes"
	}
	return Errorf(KindMisuse, "body of %s %s: %s", r.Method, r.URL.Path, why)
}

// JSONFault says what is wrong with a JSON object that could not be decoded, where
// the decoder would name types of Go's.
func JSONFault(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return "key " + strconv.Quote(wrong.Field) + " cannot be a " + wrong.Value
	} else if errors.Is(err, io.EOF) {
		return "empty, want a JSON object"
	} else if key, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return "unknown key " + key
	}
	return err.Error()
}

// params is the query of a request, all of whose keys are known.
type params struct{ url.Values }

func parameters(r *http.Request, known ...string) (params, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return params{}, Errorf(KindMisuse, "query %q: %v", r.URL.RawQuery, err)
	}
	for key, v := range values {
		if !slices.Contains(known, key) {
			return params{}, Errorf(KindMisuse, "parameter %s: unknown, this call has %s", key, strings.Join(known, ", "))
		}
		if len(v) > 1 {
			return params{}, Errorf(KindMisuse, "parameter %s: given %d times", key, len(v))
		}
	}
	return params{values}, nil
}

// flag is a parameter that is true or false; false when it is absent.
func (p params) flag(key string) (bool, error) {
	if !p.Has(key) {
		return false, nil
	}
	v, err := strconv.ParseBool(p.Get(key))
	if err != nil {
		return false, Errorf(KindMisuse, "parameter %s: %q is neither true nor false", key, p.Get(key))
	}
	return v, nil
}
