package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-net/weft/agent/api"
)

// everyCommand is the whole tree.
func everyCommand(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		list = append(list, everyCommand(c)...)
	}
	return list
}

func testRoot() *cobra.Command {
	root := newRoot(&app{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{}, env: func(string) string { return "" }})
	root.InitDefaultHelpCmd()
	return root
}

func TestHelpBeginsWithASentence(t *testing.T) {
	for _, cmd := range everyCommand(testRoot()) {
		first, _, _ := strings.Cut(cmd.Long, "\n\n")
		if first == "" || !unicode.IsUpper(rune(first[0])) || !strings.HasSuffix(first, ".") {
			t.Errorf("%s: help begins with %q", cmd.CommandPath(), first)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.CommandPath(), cmd.Short)
		}
		for _, l := range strings.Split(cmd.Long, "\n") {
			if len(l) > 80 {
				t.Errorf("%s: a line of %d columns: %s", cmd.CommandPath(), len(l), l)
			}
		}
	}
}

// The examples of the help work: they name a command and flags that exist, and
// as many arguments as it takes.
func TestExamplesWork(t *testing.T) {
	for _, cmd := range everyCommand(testRoot()) {
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, l := range strings.Split(cmd.Example, "\n") {
			words := strings.Fields(strings.ReplaceAll(l, "'", ""))
			root := testRoot()
			found, rest, err := root.Find(words[1:])
			if err != nil || words[0] != "agentctl" {
				t.Errorf("%q: %v", l, err)
				continue
			}
			if cmd.HasParent() && !cmd.HasSubCommands() && cmd.CommandPath() != found.CommandPath() {
				t.Errorf("the example of %s is of %s", cmd.CommandPath(), found.CommandPath())
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", l, err)
				continue
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%q: %v", l, err)
			}
		}
	}
}

func TestFlagsSayWhatTheyTake(t *testing.T) {
	for _, cmd := range everyCommand(testRoot()) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if name, usage := pflag.UnquoteUsage(f); usage == "" || name != strings.ToUpper(name) {
				t.Errorf("%s --%s takes %q: %s", cmd.CommandPath(), f.Name, name, usage)
			}
		})
	}
}

func TestEveryReadHasEveryForm(t *testing.T) {
	for _, cmd := range everyCommand(testRoot()) {
		switch verb(cmd) {
		case "members", "status", "network ls", "network inspect", "endpoint ls", "endpoint inspect", "dns query", "version", "attach", "init", "join":
			if cmd.Flags().ShorthandLookup("o") == nil || cmd.Flags().Lookup("format") == nil {
				t.Errorf("%s lacks -o or --format", cmd.CommandPath())
			}
		}
	}
}

func TestEveryKindHasItsExitCodeAndAHint(t *testing.T) {
	for kind, want := range map[api.Kind]int{
		api.KindFailed: 1, api.KindMisuse: 2, api.KindUnreachable: 3, api.KindNotFound: 4, api.KindConflict: 5, api.KindTimeout: 6, api.KindPermission: 7,
		"invented-later": 1,
	} {
		var stderr bytes.Buffer
		a := &app{err: &stderr}
		if got := a.report(testRoot(), api.Errorf(kind, "what: why")); got != want {
			t.Errorf("%s exits %d, want %d", kind, got, want)
		}
		if text := stderr.String(); !strings.HasPrefix(text, "agentctl: what: why\n") || !strings.Contains(text, "\nhint: agentctl ") {
			t.Errorf("%s prints %q", kind, text)
		}
	}
}
