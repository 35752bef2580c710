package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
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

// A hint is a command as it is typed, each line one; what # begins is for people.
func TestHintsAreCommands(t *testing.T) {
	programs := []string{"agentctl", "agentd", "apt", "bridge", "chown", "consul", "curl", "df", "docker", "editor", "firewall-cmd", "ip", "iptables", "iptables-legacy",
		"journalctl", "kill", "man", "modprobe", "mount", "mv", "nft", "rm", "ss", "ssh", "sudo", "sysctl", "systemctl", "ufw", "uname", "dmesg", "findmnt", "lsmod"}
	for _, hint := range hintsOf(t, "../../agent", ".") {
		for l := range strings.Lines(hint) {
			l, _, _ = strings.Cut(strings.TrimSpace(l), " #")
			for one := range strings.SplitSeq(strings.ReplaceAll(l, "&&", ";"), ";") { // as a shell takes it
				if words := strings.Fields(one); len(words) == 0 || !slices.Contains(programs, strings.TrimSuffix(words[0], ",")) {
					t.Errorf("hint %q: %q begins with no program", hint, one)
				}
			}
			words := strings.Fields(l)
			if words[0] != "agentctl" || strings.HasSuffix(l, "--help") {
				continue
			}
			found, rest, err := testRoot().Find(words[1:])
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err != nil {
				t.Errorf("hint %q: %v", l, err)
			}
		}
	}
}

// toRuntimes are the packages that speak to a runtime, whose user types other
// commands than ours.
var toRuntimes = []string{"../../agent/cni", "../../agent/netavark"}

// hintsOf is every hint that stands in the sources below the directories, with
// values in place of its verbs. Those that are made up of parts are left out.
func hintsOf(t *testing.T, dirs ...string) []string {
	t.Helper()
	var hints []string
	add := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok {
			return
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(text, "%s") {
			hints = append(hints, strings.NewReplacer("%s", "x", "%d", "1", "--pid PID", "--pid 1", "$(docker inspect -f '{{.State.Pid}}' %s)", "1").Replace(text))
		}
	}
	for _, dir := range dirs {
		var files []string
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			switch {
			case slices.Contains(toRuntimes, filepath.ToSlash(path)):
				return filepath.SkipDir
			case strings.HasSuffix(path, ".go"):
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr: // WithHint("…")
					if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "WithHint" {
						add(n.Args[0])
					}
				case *ast.KeyValueExpr: // Hint: "…"
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Hint" {
						add(n.Value)
					}
				case *ast.AssignStmt: // c.Hint = "…"
					for i, left := range n.Lhs {
						if f, ok := left.(*ast.SelectorExpr); ok && f.Sel.Name == "Hint" && i < len(n.Rhs) {
							add(n.Rhs[i])
						}
					}
				case *ast.CompositeLit: // a row of remedies
					if len(n.Elts) == 3 {
						if kind, ok := n.Elts[1].(*ast.SelectorExpr); ok && strings.HasPrefix(kind.Sel.Name, "Kind") {
							add(n.Elts[2])
						}
					}
				}
				return true
			})
		}
	}
	if len(hints) < 50 {
		t.Fatalf("found %d hints, want all", len(hints))
	}
	return hints
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
