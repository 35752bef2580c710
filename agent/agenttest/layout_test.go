package agenttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/weft-net/weft/"

// rule is what a package may import of this module, and why not more. A name
// with /... stands for all packages below it.
type rule struct {
	name, why string
	may       []string
}

// ours has a rule for every package.
var ours = []rule{
	{"overlay", "the kernel side is told who lives where: it must not ask", nil},
	{"overlay/linux", "it makes what overlay describes", []string{"overlay", "overlay/linux/..."}},
	{"overlay/linux/netns", "a namespace is opened alike whatever is in it", nil},
	{"overlay/linux/nft", "a packet filter is a transaction of its own, and no other object of the kernel follows from it", []string{"overlay", "overlay/linux/netns"}},
	{"overlay/overlaytest", "it stands in for overlay/linux", []string{"overlay"}},
	{"discovery", "it is the words that the others share: with code of theirs in it they could not import it", nil},
	{"discovery/table", "the table is pure, so that it can be tested by the million", []string{"discovery", "discovery/strict"}},
	{"discovery/boltfile", "it knows the pages of a file, and not what is in them", nil},
	{"discovery/pace", "it knows time, and nothing of what is waited for", nil},
	{"discovery/gossip", "it carries the table, and what the table means is not its business", []string{"discovery", "discovery/strict", "discovery/pace", "discovery/table"}},
	{"discovery/strict", "it checks values wherever they come from, so it knows the words alone", []string{"discovery"}},
	{"discovery/pool", "it keeps networks and blocks, and knows no endpoint's kernel", []string{"discovery", "discovery/strict", "discovery/pace"}},
	{"discovery/pool/embedded", "it speaks Consul's HTTP: a client that knew it would not need Consul's", []string{"discovery/boltfile", "discovery/pace"}},
	{"discovery/ipam", "it hands out addresses of blocks, wherever those are kept", []string{"discovery", "discovery/boltfile", "discovery/strict", "discovery/pace"}},
	{"discovery/discoverytest", "conformance suites run against every implementation", []string{"discovery", "discovery/..."}},
	{"dns", "names come to it as a zone: it must not look for them", nil},
	{"agent/api", "every client of the agent imports it, and nothing else of the agent may follow it in", nil},
	{"agent/docker", "one foreign protocol, answered by the agent's own calls", []string{"agent/api", "discovery", "discovery/pace", "discovery/strict"}},
	{"agent/docker/setup", "it edits another program's file, with or without an agent", nil},
	{"agent/agenttest", "it drives the programs from outside, as their users do", nil},
	{"agent/agenttest/vm", "it boots machines, in which agenttest's tests run as on any other", []string{"agent/agenttest"}},
	{"agent/cni", "one foreign protocol, translated into calls of the API", []string{"agent/api"}},
	{"agent/netavark", "one foreign protocol, translated into calls of the API", []string{"agent/api"}},
	{"agent/config", "what an operator sets is checked before anything is opened", []string{"agent/docker/setup", "discovery/strict", "overlay"}},
	{"agent/hostport", "it holds ports, and knows endpoints by their ids alone", []string{"agent/api", "discovery", "overlay"}},
	{"agent/hosts/bench", "benchmarks only, which measure what a user gets", nil},
	{"agent/hosts/cluster", "tests only, which see what a user sees", nil},
	{"agent/hosts/containers", "tests only, which see what a user sees", nil},
	{"agent/hosts/endpoints", "tests only, which see what a user sees", nil},
	{"agent/hosts/engines", "tests only, which see what a user sees", nil},
	{"agent/hosts/kernel", "tests only, which see what a user sees", nil},
	{"agent/hosts/page", "tests only, which see what a user sees", nil},
	{"agent/hosts/proofs", "tests only, which see what a user sees", nil},
	{"agent/hosts/runtimes", "tests only, which see what a user sees", nil},
	{"agent/hosts/doctor", "tests only, which see what a user sees", nil},
	{"agent/hosts/why", "tests only, which see what a user sees", nil},
	{"agent/hosts/soak", "tests only, which see what a user sees", nil},
	{"agent/plan", "it is pure: it knows the three vocabularies, and nothing that reads or waits", []string{"discovery", "discovery/strict", "dns", "overlay"}},
	{"agent/event", "it is the words that all who change a fact share", nil},
	{"agent/history", "it knows files and time, and nothing of what the events mean", []string{"agent/event"}},
	{"agent/chronicle", "it merges histories, and knows neither kernel nor table", []string{"agent/api", "agent/event", "agent/history", "agent/peers", "discovery"}},
	{"agent/watch", "it compares views, and asks nobody", []string{"agent/event", "discovery"}},
	{"agent/journal", "it writes down endpoints, and decides nothing", []string{"agent/plan", "discovery", "discovery/boltfile", "discovery/strict", "discovery/ipam", "overlay"}},
	{"agent/datadir", "it reads and writes files; what they mean is not its business", []string{"discovery", "discovery/boltfile", "discovery/strict"}},
	{"agent/networks", "it knows networks, and endpoints only as users that it asks for", []string{"agent/api", "agent/event", "agent/plan", "discovery", "discovery/strict", "discovery/pace", "discovery/pool"}},
	{"agent/resolvers", "it knows how containers ask, and no engine", []string{"agent/datadir", "agent/plan", "discovery", "dns"}},
	{"agent/tunnel", "it sends frames, and programs nothing", []string{"agent/api", "agent/event", "agent/plan", "discovery", "discovery/pace", "overlay"}},
	{"agent/tunnel/tunneltest", "it stands in for the probe network", []string{"overlay"}},
	{"agent/why", "it is pure: it follows the way through facts that it is handed", []string{"agent/api", "overlay"}},
	{"agent/environment", "it is pure, and the command uses it without an agent: nothing that needs a library may follow it in", []string{"agent/api"}},
	{"agent/environment/survey", "the command uses it without an agent: nothing that needs a library may follow it in", []string{"agent/environment", "agent/hostport"}},
	{"agent/bundle", "it knows archives and secrets, and nothing of what the parts mean", nil},
	{"agent/recent", "it keeps lines, and nothing of what they say", nil},
	{"agent/trial", "it is a list of checks and who runs it; hosts are asked through an interface", []string{"agent/api", "agent/trial/stage"}},
	{"agent/trial/stage", "it makes endpoints by the calls that every user has, and knows no kernel", []string{"agent/api", "overlay"}},
	{"overlay/linux/echo", "it speaks from within a namespace, and programs nothing", []string{"overlay", "overlay/linux/netns"}},
	{"overlay/linux/inside", "it looks and tries, and programs nothing", []string{"overlay", "overlay/linux/netns", "overlay/linux/nft"}},
	{"agent/page", "it shows what the API answers, and knows nothing else", []string{"agent/api"}},
	{"agent/peers", "it carries questions and answers, and knows neither", []string{"discovery"}},
	{"agent/conflist", "it writes files for runtimes, and makes no interface", []string{"agent/api", "agent/datadir", "discovery"}},
	{"agent/endpoint", "it serves every runtime, so it knows none of their protocols; the pool and gossip are behind interfaces", []string{"agent/api",
		"agent/datadir", "agent/event", "agent/hostport", "agent/journal", "agent/plan", "agent/resolvers", "discovery", "discovery/boltfile", "discovery/strict", "discovery/ipam", "discovery/pace", "dns", "overlay"}},
	{"agent/membership", "it knows the pool's records and the files, and neither kernel nor endpoints", []string{"agent/api", "agent/config",
		"agent/datadir", "discovery", "discovery/boltfile", "discovery/strict", "discovery/pace", "discovery/pool"}},
	{"agent/docker/book", "it translates Docker's calls into steps of endpoints", []string{"agent/api", "agent/docker", "agent/endpoint", "agent/hostport",
		"agent/journal", "agent/networks", "agent/plan", "discovery", "discovery/boltfile", "discovery/strict", "discovery/ipam", "overlay"}},
	{"agent/rows", "it is pure: it writes what it is handed", []string{"agent/api", "agent/endpoint", "agent/journal", "agent/plan", "agent/tunnel", "discovery", "overlay"}},
	{"agent/diagnose", "it is pure: it judges the facts that it is handed", []string{"agent/api", "agent/config", "agent/datadir", "agent/docker/setup",
		"agent/endpoint", "agent/history", "agent/membership", "agent/tunnel", "discovery", "discovery/boltfile", "discovery/strict", "discovery/gossip", "discovery/ipam", "discovery/pool", "dns", "overlay"}},
	{"agent/metrics", "it is pure: it writes the facts that it is handed", []string{"agent/api", "agent/endpoint", "agent/tunnel", "discovery", "discovery/gossip", "discovery/ipam", "discovery/pool",
		"dns", "overlay"}},
	{"agent", "the only place where the parts meet", []string{"overlay", "overlay/linux", "overlay/linux/inside", "overlay/linux/echo", "discovery", "discovery/...",
		"dns", "agent/..."}},
	{"cmd/agentd", "main reads flags and waits: everything else can be called from a test", []string{"agent", "agent/api", "agent/config", "cmd/manpage"}},
	{"cmd/agentctl", "the command has no powers but those of the API and of whoever runs it", []string{"agent/api", "agent/page", "agent/docker/setup",
		"agent/environment", "agent/environment/survey", "cmd/manpage"}},
	{"cmd/manpage", "it is told what to print", nil},
	{"cmd/manpage/markdown", "it turns one text into another when the package is built", []string{"cmd/manpage"}},
	{"cmd/weft-cni", "the plugin has no powers but those of the API", []string{"agent/cni"}},
	{"cmd/weft-netavark", "the plugin has no powers but those of the API", []string{"agent/api", "agent/netavark"}},
}

// foreign are the modules that only one package may import, with the reason. With
// /... those below it may, too.
var foreign = []struct{ path, only, why string }{
	{"github.com/vishvananda/netlink", "overlay/linux/...", "one place speaks to the kernel"},
	{"github.com/google/nftables", "overlay/linux/nft", "one place speaks to the kernel"},
	{"golang.zx2c4.com/wireguard/wgctrl", "overlay/linux/...", "one place speaks to the kernel"},
	{"github.com/hashicorp/memberlist", "discovery/gossip", "one place moves gossip"},
	{"github.com/hashicorp/consul/api", "discovery/pool", "one place reads and writes the pool"},
	{"github.com/miekg/dns", "dns", "one place speaks DNS"},
	{"github.com/containernetworking/cni", "agent/cni", "one place speaks CNI"},
	{"github.com/moby/moby/client", "agent/docker", "one place speaks to Docker"},
	{"github.com/moby/moby/api", "agent/docker", "one place speaks to Docker"},
	{"github.com/prometheus/client_golang", "agent/metrics", "one place speaks Prometheus: what counts keeps plain numbers"},
	{"github.com/prometheus/common", "agent/metrics", "one place speaks Prometheus: what counts keeps plain numbers"},
	{"github.com/coreos/go-systemd/v22", "cmd/agentd", "who starts the process is main's business: an agent in a test has no service manager"},
}

// never are modules that a package must not depend on, at any distance.
var never = []struct {
	name, why string
	deps      []string
}{
	{"agent/endpoint", "an endpoint is one whichever runtime asks for it, and wherever its address comes from",
		[]string{"agent/docker", "agent/cni", "agent/netavark", "discovery/gossip", "discovery/pool", "overlay/linux", "github.com/moby/moby/client", "github.com/containernetworking/cni"}},
	{"agent/plan", "what is planned depends on its arguments alone",
		[]string{"agent/config", "agent/journal", "discovery/ipam", "discovery/gossip", "discovery/pool", "overlay/linux", "go.etcd.io/bbolt", "github.com/vishvananda/netlink"}},
}

// impure are the packages of the standard library that read, write or wait.
var impure = []string{"bufio", "context", "io", "log/slog", "math/rand/v2", "net", "net/http", "os", "os/exec", "sync", "syscall", "time"}

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath string
	Name       string
	Dir        string
	Doc        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func (p goPackage) short() string { return strings.TrimPrefix(p.ImportPath, module) }

// packages lists the module's packages that have code beside their tests.
func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Dir,Doc,GoFiles,Imports,Deps", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			list = append(list, p)
		}
	}
	if len(list) < 5 {
		t.Fatalf("go list found %d packages: this test would see nothing", len(list))
	}
	return list
}

func matches(pattern, name string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(name, below+"/")
	}
	return pattern == name
}

func TestPackagesDependOnNothingButWhatTheyMay(t *testing.T) {
	for _, p := range packages(t) {
		i := slices.IndexFunc(ours, func(r rule) bool { return r.name == p.short() })
		if i < 0 {
			t.Errorf("%s: a new package needs a row here, with the reason for what it may import", p.short())
			continue
		}
		for _, imported := range p.Imports {
			short, ok := strings.CutPrefix(imported, module)
			if ok && !slices.ContainsFunc(ours[i].may, func(m string) bool { return matches(m, short) }) {
				t.Errorf("%s imports %s: %s", p.short(), short, ours[i].why)
			}
		}
	}
}

func TestPackagesStayApart(t *testing.T) {
	for _, p := range packages(t) {
		for _, n := range never {
			for _, d := range n.deps {
				if p.short() == n.name && (slices.Contains(p.Deps, d) || slices.Contains(p.Deps, module+d)) {
					t.Errorf("%s depends on %s: %s", n.name, d, n.why)
				}
			}
		}
	}
}

func TestThePlanIsPure(t *testing.T) {
	for _, p := range packages(t) {
		for _, i := range impure {
			if p.short() == "agent/plan" && slices.Contains(p.Imports, i) {
				t.Errorf("%s imports %s: equal arguments would not give equal plans", p.short(), i)
			}
		}
	}
}

func TestForeignModulesHaveOnePlaceEach(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range foreign {
			inside := p.short() == strings.TrimSuffix(f.only, "/...") || matches(f.only, p.short())
			if !inside && slices.ContainsFunc(p.Imports, func(i string) bool { return i == f.path || strings.HasPrefix(i, f.path+"/") }) {
				t.Errorf("%s imports %s, which belongs to %s: %s", p.short(), f.path, f.only, f.why)
			}
		}
	}
}

// The command is started for every line of a script, and the plugins for every
// container: what only a daemon needs must not come with them.
func TestThinClientsStayThin(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name != "main" || p.short() == "cmd/agentd" {
			continue
		}
		for _, f := range foreign {
			if slices.Contains(p.Deps, f.path) {
				t.Errorf("%s depends on %s", p.short(), f.path)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + filepath.Base(p.ImportPath) + " "
		}
		if !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s: the package comment begins %q, want %q and its one job", p.short(), p.Doc, want)
		}
	}
}

// A package that the guide does not name is found by nobody who looks for it there.
func TestGuideNamesEveryPackage(t *testing.T) {
	guide, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages(t) {
		if !regexp.MustCompile(`(^|[^a-z/])` + regexp.QuoteMeta(p.short()) + `($|[^a-z/]|\n)`).Match(guide) {
			t.Errorf("CONTRIBUTING.md does not name %s", p.short())
		}
	}
}

// dumps are the calls of the netlink library that read a whole table, each of
// which may come back incomplete because the table changed meanwhile.
var dumps = []string{"LinkList", "AddrList", "RouteList", "RouteListFiltered", "RouteListFilteredIter", "RuleList", "NeighList",
	"NeighListExecute", "NeighProxyList", "LinkGetProtinfo", "BridgeVlanList", "ConntrackTableList", "ConntrackDeleteFilter", "ConntrackDeleteFilters"}

// One place repeats a dump that the kernel had to interrupt.
func TestNobodyDumpsButByTheHelperThatRepeats(t *testing.T) {
	found := 0
	for _, p := range packages(t) {
		if !slices.Contains(p.Imports, "github.com/vishvananda/netlink") {
			continue
		}
		for _, file := range p.GoFiles {
			set := token.NewFileSet()
			tree, err := parser.ParseFile(set, filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			repeated := map[ast.Node]bool{} // calls inside what dump and repeat are given
			ast.Inspect(tree, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				dump, _ := call.Fun.(*ast.Ident)
				repeat, _ := call.Fun.(*ast.SelectorExpr)
				if dump != nil && dump.Name == "dump" || repeat != nil && repeat.Sel.Name == "Repeat" {
					ast.Inspect(call, func(n ast.Node) bool {
						repeated[n] = true
						return true
					})
				}
				f, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains(dumps, f.Sel.Name) {
					return true
				}
				if found++; !repeated[call] {
					t.Errorf("%s: %s outside dump: it may be incomplete", set.Position(call.Pos()), f.Sel.Name)
				}
				return true
			})
		}
	}
	if found < 3 {
		t.Errorf("%d dumps found: this test would see nothing", found)
	}
}

// A function that ends the process cannot be called from a test, and skips
// what others have deferred.
func TestOnlyMainEndsTheProgram(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name == "main" {
			continue
		}
		for _, file := range p.GoFiles {
			tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if name := selector(call.Fun); name == "os.Exit" || strings.HasPrefix(name, "log.Fatal") {
					t.Errorf("%s/%s: %s outside main", p.short(), file, name)
				}
				return true
			})
		}
	}
}

// selector writes the x.Name of a call.
func selector(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + s.Sel.Name
}
