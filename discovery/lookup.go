package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What Find may answer.
var (
	ErrNotFound  = errors.New("not found")
	ErrAmbiguous = errors.New("more than one fits")
)

// leastDigits is how much of an id a user must type at least. With fewer digits
// a word that is meant as a name, such as "b", would be the start of an id.
const leastDigits = 4

// Keys are the words by which a user may call a thing. An empty word calls
// nothing.
type Keys struct {
	Name    string
	Aliases []string
	IDs     []string // whole, in hex digits; the first is shown to the user
}

// Find returns the one of all that key calls: by a whole id, else by its name,
// else by an alias, else by the start of an id of at least four hex digits. So a
// name wins over what may only be an id. Upper and lower case are the same, as in DNS (RFC
// 4343). Find returns an ErrNotFound, or an ErrAmbiguous that names the
// candidates.
func Find[T any](all []T, key string, keys func(T) Keys) (T, error) {
	found := FindAll(all, key, keys)
	if len(found) == 1 {
		return found[0], nil
	}
	var none T
	if len(found) == 0 {
		return none, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	candidates := make([]string, len(found))
	for i, t := range found {
		candidates[i] = keys(t).String()
	}
	return none, fmt.Errorf("%s: %w: %s", key, ErrAmbiguous, strings.Join(candidates, ", "))
}

// FindAll returns all that Find chooses from, in their order in all: those that
// the first rule which fits anything fits.
func FindAll[T any](all []T, key string, keys func(T) Keys) []T {
	key = strings.ToLower(key)
	var found []T
	best := fitsNot
	for _, t := range all {
		f := keys(t).fit(key)
		if f < best {
			found, best = nil, f
		}
		if f == best && f != fitsNot {
			found = append(found, t)
		}
	}
	return found
}

// fit is the rule by which a word calls a thing; the first wins.
type fit int

const (
	fitsID fit = iota
	fitsName
	fitsAlias
	fitsStart
	fitsNot
)

// fit says how key, in lower case, calls the thing.
func (k Keys) fit(key string) fit {
	calls := func(s string) bool { return strings.ToLower(s) == key }
	switch {
	case key == "":
		return fitsNot
	case slices.ContainsFunc(k.IDs, calls):
		return fitsID
	case calls(k.Name):
		return fitsName
	case slices.ContainsFunc(k.Aliases, calls):
		return fitsAlias
	case len(key) < leastDigits || strings.Trim(key, "0123456789abcdef") != "":
		return fitsNot
	case slices.ContainsFunc(k.IDs, func(id string) bool { return strings.HasPrefix(strings.ToLower(id), key) }):
		return fitsStart
	}
	return fitsNot
}

// String is the name and the first id, "web (3f2a...)", or the one that there
// is.
func (k Keys) String() string {
	id := ""
	if len(k.IDs) > 0 {
		id = k.IDs[0]
	}
	if k.Name == "" || id == "" {
		return cmp.Or(k.Name, id)
	}
	return k.Name + " (" + id + ")"
}
