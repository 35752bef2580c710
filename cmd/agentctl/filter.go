package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

// matcher is what one key of --filter means for a row.
type matcher[T any] struct {
	match func(T, string) bool
	every bool               // every value given has to match, not any
	check func(string) error // of a value; nil: any will do
}

// filterOf returns the condition that words describe, in Docker's way:
// different keys must all hold, of one key any value, of labels every one.
func filterOf[T any](cmd *cobra.Command, words []string, known map[string]matcher[T]) (func(T) bool, error) {
	byKey := map[string][]string{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		m, isKey := known[key]
		if !ok || !isKey {
			return nil, misuse(cmd, "--filter %s: want one of %s", w, strings.Join(keysOf(known), ", "))
		}
		if m.check != nil {
			if err := m.check(value); err != nil {
				return nil, misuse(cmd, "--filter %s: %v", w, err)
			}
		}
		byKey[key] = append(byKey[key], value)
	}
	return func(row T) bool {
		for key, values := range byKey {
			m := known[key]
			misses := func(v string) bool { return !m.match(row, v) }
			hits := func(v string) bool { return m.match(row, v) }
			if m.every && slices.ContainsFunc(values, misses) || !m.every && !slices.ContainsFunc(values, hits) {
				return false
			}
		}
		return true
	}, nil
}

// keysOf are the keys as they are typed: name=.
func keysOf[T any](known map[string]matcher[T]) []string {
	keys := slices.Sorted(maps.Keys(known))
	for i := range keys {
		keys[i] += "="
	}
	return keys
}

// filterKeys completes --filter.
func filterKeys[T any](known map[string]matcher[T]) cobra.CompletionFunc {
	return cobra.FixedCompletions(keysOf(known), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)
}

var networkMatchers = map[string]matcher[api.Network]{
	"name":     text(func(n api.Network) string { return n.Name }),
	"id":       text(func(n api.Network) string { return n.ID }),
	"driver":   word(func(n api.Network) string { return n.Driver }),
	"scope":    word(func(n api.Network) string { return n.Scope }),
	"type":     oneOf(func(api.Network) string { return "custom" }, "custom", "builtin"),
	"label":    labels(func(n api.Network) map[string]string { return n.Labels }),
	"internal": yesNo(func(n api.Network) bool { return n.Internal }),
	"dangling": yesNo(unused),
}

// unused: a host's own address on a network goes with the network.
func unused(n api.Network) bool {
	for _, c := range n.Containers {
		if c.Name != c.Host {
			return false
		}
	}
	return true
}

var endpointMatchers = map[string]matcher[api.Endpoint]{
	"name":    text(func(e api.Endpoint) string { return e.Name }),
	"id":      text(func(e api.Endpoint) string { return e.ID }),
	"network": word(func(e api.Endpoint) string { return e.Network }),
	"host":    word(func(e api.Endpoint) string { return e.Host }),
	"runtime": word(func(e api.Endpoint) string { return e.Runtime }),
	"status":  oneOf(func(e api.Endpoint) string { return e.Status }, "live", "suspended", "pending"),
	"label":   labels(func(e api.Endpoint) map[string]string { return e.Labels }),
}

// text matches a part of a field, or a regular expression, as Docker does.
func text[T any](field func(T) string) matcher[T] {
	return matcher[T]{
		match: func(row T, v string) bool {
			ok, err := regexp.MatchString(v, field(row))
			return ok && err == nil
		},
		check: func(v string) error {
			_, err := regexp.Compile(v)
			return err
		},
	}
}

// word matches a whole field.
func word[T any](field func(T) string) matcher[T] {
	return matcher[T]{match: func(row T, v string) bool { return field(row) == v }}
}

// oneOf matches a whole field that has one of a few values.
func oneOf[T any](field func(T) string, values ...string) matcher[T] {
	m := word(field)
	m.check = func(v string) error {
		if slices.Contains(values, v) {
			return nil
		}
		return fmt.Errorf("want one of %s", strings.Join(values, ", "))
	}
	return m
}

// yesNo matches a property.
func yesNo[T any](property func(T) bool) matcher[T] {
	return matcher[T]{
		match: func(row T, v string) bool {
			want, err := strconv.ParseBool(v)
			return err == nil && property(row) == want
		},
		check: func(v string) error {
			if _, err := strconv.ParseBool(v); err != nil {
				return errors.New("want true or false")
			}
			return nil
		},
	}
}

// labels matches KEY, or KEY=VALUE.
func labels[T any](of func(T) map[string]string) matcher[T] {
	return matcher[T]{
		every: true,
		match: func(row T, v string) bool {
			key, want, exact := strings.Cut(v, "=")
			have, ok := of(row)[key]
			return ok && (!exact || have == want)
		},
		check: labelKey,
	}
}

// labelKey checks that KEY or KEY=VALUE has a key.
func labelKey(w string) error {
	if w == "" || w[0] == '=' {
		return errors.New("want KEY or KEY=VALUE")
	}
	return nil
}

// labelMap splits the words of --label. Docker takes one without a value.
func labelMap(cmd *cobra.Command, words []string) (map[string]string, error) {
	m := map[string]string{}
	for _, w := range words {
		if err := labelKey(w); err != nil {
			return nil, misuse(cmd, "--label %s: %v", w, err)
		}
		key, value, _ := strings.Cut(w, "=")
		m[key] = value
	}
	return m, nil
}

// labelWords writes labels as they are typed.
func labelWords(m map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return strings.Join(list, ", ")
}
