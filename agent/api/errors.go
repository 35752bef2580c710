package api

import (
	"errors"
	"net/http"
)

// httpStatus is the HTTP status of each kind; a kind that is not in it is 500.
var httpStatus = map[Kind]int{
	KindFailed:      http.StatusInternalServerError,
	KindMisuse:      http.StatusBadRequest,
	KindUnreachable: http.StatusBadGateway,
	KindNotFound:    http.StatusNotFound,
	KindConflict:    http.StatusConflict,
	KindTimeout:     http.StatusGatewayTimeout,
	KindPermission:  http.StatusForbidden,
}

// statusOf is the HTTP status that an answer with e has.
func (e *Error) statusOf() int {
	if code, ok := httpStatus[e.Kind]; ok {
		return code
	}
	return http.StatusInternalServerError
}

// asError turns any error into what goes over the wire. The message is the
// whole chain's; kind and hint are those of the *Error inside it, if any.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{Kind: e.Kind, Message: err.Error(), Hint: e.Hint}
	}
	return &Error{Kind: KindFailed, Message: err.Error()}
}
