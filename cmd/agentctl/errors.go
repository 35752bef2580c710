package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-net/weft/agent/api"
)

// exitCode is what scripts see of each kind of failure.
var exitCode = map[api.Kind]int{
	api.KindFailed:      1,
	api.KindMisuse:      2,
	api.KindUnreachable: 3,
	api.KindNotFound:    4,
	api.KindConflict:    5,
	api.KindTimeout:     6,
	api.KindPermission:  7,
}

// report prints err as "agentctl: what: why" and what to type next, after misuse
// with the right usage between them, and returns the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(a.err, "agentctl: %s\n", oneLine(err.Error()))
	e, ok := errors.AsType[*api.Error](err)
	if !ok { // such as a full disk below stdout: the agent cannot help
		return exitCode[api.KindFailed]
	}
	if e.Kind == api.KindMisuse {
		fmt.Fprintf(a.err, "usage: %s\n", cmd.UseLine())
		example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
		fmt.Fprintf(a.err, "example: %s\n", example)
	}
	for hint := range strings.Lines(cmp.Or(e.Hint, nextCommand(cmd, e.Kind))) {
		fmt.Fprintf(a.err, "hint: %s\n", a.typeable(oneLine(hint)))
	}
	if code, ok := exitCode[e.Kind]; ok {
		return code
	}
	return 1 // a kind of a newer agent
}

// typeable gives a command of ours the --socket that this one was given.
func (a *app) typeable(hint string) string {
	rest, ours := strings.CutPrefix(hint, "agentctl ")
	if !ours || a.socket == "" {
		return hint
	}
	return "agentctl --socket " + a.socket + " " + rest
}

// nextCommand is the hint of an error that has none of its own.
func nextCommand(cmd *cobra.Command, k api.Kind) string {
	switch {
	case k == api.KindMisuse:
		return cmd.CommandPath() + " --help"
	case verb(cmd) == "status":
		return "journalctl -u agentd"
	}
	return "agentctl status"
}

// misuse is the error of a command line that cannot be meant.
func misuse(cmd *cobra.Command, format string, args ...any) *api.Error {
	why := fmt.Sprintf(format, args...)
	if !cmd.HasParent() {
		return api.Errorf(api.KindMisuse, "%s", why)
	}
	return api.Errorf(api.KindMisuse, "%s: %s", verb(cmd), why)
}

// flagError says what a flag takes, where pflag would say why Go cannot read it.
func flagError(cmd *cobra.Command, err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return misuse(cmd, "%v", err)
	}
	want := map[string]string{
		"int": "a number", "uint16": "a number from 0 to 65535",
		"duration": "a time such as 10s or 2m", "bool": "true or false",
	}[bad.GetFlag().Value.Type()]
	if want == "" {
		return misuse(cmd, "%v", err)
	}
	return misuse(cmd, "--%s %s: want %s", bad.GetFlag().Name, bad.GetValue(), want)
}

// fileError is the error of a file that the user named.
func fileError(cmd *cobra.Command, err error) *api.Error {
	kind := api.KindFailed
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = api.KindNotFound
	case errors.Is(err, fs.ErrPermission):
		kind = api.KindPermission
	}
	return api.Errorf(kind, "%s: %v", verb(cmd), err)
}

// verb is the command without the program: "network create".
func verb(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// wants returns a check that a command has from min to max arguments (max -1:
// any number), named as in its usage.
func wants(min, max int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case max == 0 && len(args) > 0:
			return misuse(cmd, "takes no argument, got %q", args[0])
		case len(args) < min:
			return misuse(cmd, "needs %s", names)
		case max >= 0 && len(args) > max:
			return misuse(cmd, "takes %s and nothing more, got %q", names, args[max])
		case slices.Contains(args, ""):
			return misuse(cmd, "needs %s, got an empty one", names)
		}
		return nil
	}
}

// oneLine makes s fit for one line of a terminal: what other hosts send may
// hold anything.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ReplaceAll(strings.TrimSpace(s), "\n", "; "))
}
