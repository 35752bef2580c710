package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/bundle"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/environment/survey"
	"github.com/weft-net/weft/agent/peers"
	"github.com/weft-net/weft/discovery"
)

// bundleWait is how long a member may take for its bundle.
const bundleWait = 25 * time.Second

// packed is a member's bundle on its way.
type packed struct {
	Archive []byte `json:"archive"`
}

// Bundle implements api.Service.
func (a service) Bundle(ctx context.Context, all bool) ([]byte, error) {
	c := collector{a}
	parts := c.ownParts()
	if m := a.member(); all && m != nil {
		parts = append(parts, bundlesOf(ctx, m)...)
	}
	return c.pack(ctx, parts)
}

// bundleFor answers a member whose user asked for the bundles of all.
func (a service) bundleFor(ctx context.Context, _ discovery.HostID, _ struct{}) (packed, error) {
	c := collector{a}
	archive, err := c.pack(ctx, c.ownParts())
	return packed{archive}, err
}

// collector makes the parts of a bundle out of the agent's own answers.
type collector struct{ service }

// pack writes a bundle of this host's.
func (a collector) pack(ctx context.Context, parts []bundle.Part) ([]byte, error) {
	now := time.Now().UTC()
	name := a.cfg.Name
	return bundle.Write(ctx, "weft-"+name+"-"+now.Format("20060102T150405"), fmt.Sprintf("What agentd %s saw of host %s at %s.", api.Release(), name, now.Format(time.RFC3339)), parts, a.secrets())
}

// bundlesOf are the files of the other members' bundles. One that did not answer is a
// part that fails, with the reason.
func bundlesOf(ctx context.Context, m *member) (parts []bundle.Part) {
	running, down := others(m)
	for _, one := range peers.All[packed](ctx, m.directory.Call, running, bundleWait, "bundle", struct{}{}) {
		dir := "members/" + one.Host.Name
		err := one.Err
		if err == nil {
			var files []bundle.Part
			files, err = bundle.Of(one.Answer.Archive, dir)
			parts = append(parts, files...)
		}
		if err != nil {
			parts = append(parts, failing(dir, unasked(one.Host, err).Why))
		}
	}
	for _, o := range down {
		parts = append(parts, failing("members/"+o.Name, "it is "+o.Status.String()))
	}
	return parts
}

// failing is a part that is not there.
func failing(name, why string) bundle.Part {
	return bundle.Part{Name: name, Make: func(context.Context) ([]byte, error) { return nil, errors.New(why) }}
}

// secrets are what no bundle may have in it.
func (a collector) secrets() bundle.Secrets {
	var all [][]byte
	file := func(path string) {
		if b, err := os.ReadFile(path); err == nil {
			all = append(all, b)
		}
	}
	var cluster datadir.Cluster
	if a.dir.Has(datadir.ClusterFile) && a.dir.Read(datadir.ClusterFile, &cluster) == nil {
		all = append(all, cluster.Keys...)
	}
	if m := a.member(); m != nil { // the file may be damaged
		all = append(all, m.host.Cluster().Keys...)
	}
	file(a.dir.File(datadir.TokenFile))
	for _, path := range []string{a.cfg.Store.TokenFile, os.Getenv("CONSUL_HTTP_TOKEN_FILE")} {
		if path != "" {
			file(path)
		}
	}
	all = append(all, []byte(os.Getenv("CONSUL_HTTP_TOKEN")))
	for one := range strings.SplitSeq(a.config().Store.Consul, ",") {
		if u, err := url.Parse(one); err == nil && u.User != nil {
			password, _ := u.User.Password()
			all = append(all, []byte(password))
		}
	}
	return bundle.NewSecrets(all...)
}

// ownParts are the files of a bundle of this host's.
func (a collector) ownParts() []bundle.Part {
	fabric := a.parts.Host.FabricPath()
	parts := []bundle.Part{
		asJSON("status.json", "what agentctl status shows", a.Status),
		asJSON("doctor.json", "what agentctl doctor shows", a.Doctor),
		asJSON("verify.json", "what of the kernel is not as wanted", func(ctx context.Context) (api.Verification, error) { return a.Verify(ctx, api.VerifyRequest{}) }),
		asJSON("proofs.json", "the tunnel to each member", func(ctx context.Context) ([]api.Proof, error) { return a.Proofs(ctx, false) }),
		asJSON("members.json", "what agentctl members shows", a.Members),
		asJSON("networks.json", "what agentctl network ls shows", a.Networks),
		asJSON("endpoints.json", "what agentctl endpoint ls --all shows", func(ctx context.Context) ([]api.Endpoint, error) {
			return a.Endpoints(ctx, api.EndpointFilter{All: true})
		}),
		{Name: "events.jsonl", About: "what happened on this host in the last day, one event a line", Make: a.lastDay},
		asJSON("version.json", "agentd, and what it was built with", a.Version),
		asJSON("config.json", "the configuration, by the keys of agentd.yaml", func(context.Context) (map[string]any, error) { return a.config().Shown(), nil }),
		{Name: "log.txt", About: "the last lines that the agent logged since its start", Make: a.lastLines},
		{Name: "metrics.txt", About: "what Prometheus scrapes", Make: a.Metrics},
		profile("goroutines.txt", "what each goroutine of the agent does", "goroutine", 2),
		profile("heap.txt", "what holds the agent's memory (go tool pprof reads it)", "heap", 1),
		{Name: "conntrack.txt", About: "how many connections the kernel tracks, and its counters", Make: conntrackText},
	}
	if os.Getenv("INVOCATION_ID") != "" { // started by systemd
		parts = append(parts, run("journal.txt", "the last lines of agentd in the journal, also of earlier starts", "journalctl", "-u", "agentd", "-n", "3000", "--no-pager", "-o", "short-iso"))
	}
	for _, c := range []struct{ name, about, line string }{
		{"kernel.txt", "the kernel", "uname -a"},
		{"links.txt", "devices, with their counters", "ip -d -s link"},
		{"addresses.txt", "addresses", "ip addr"},
		{"routes.txt", "routes of all tables", "ip route show table all"},
		{"rules.txt", "routing rules", "ip rule"},
		{"neighbours.txt", "neighbour entries", "ip neigh"},
		{"fdb.txt", "FDB entries", "bridge fdb"},
	} {
		line := strings.Fields(c.line)
		parts = append(parts, run("host/"+c.name, c.about+" of the host", line[0], line[1:]...))
		if c.name != "kernel.txt" {
			parts = append(parts, run("fabric/"+c.name, c.about+" of the fabric namespace", "nsenter", append([]string{"--net=" + fabric, "--"}, line...)...))
		}
	}
	parts = append(parts, run("host/nft.txt", "weft's own packet filter rules of the host", "nft", "list", "table", "inet", "weft"),
		run("fabric/nft.txt", "weft's own packet filter rules of the fabric namespace", "nsenter", "--net="+fabric, "--", "nft", "list", "table", "bridge", "weft"),
		run("host/tables.txt", "names of all packet filter tables of the host", "nft", "list", "tables"))
	files, _ := filepath.Glob(a.dir.File("*.json"))
	for _, path := range files {
		parts = append(parts, bundle.Part{Name: "data/" + filepath.Base(path), About: "of the data directory; what is secret is left out", Make: func(context.Context) ([]byte, error) {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			return bundle.JSON(b)
		}})
	}
	return append(parts, run("data/files.txt", "the files of the data directory, with sizes and times", "ls", "-lR", "--time-style=full-iso", a.dir.Path()))
}

// asJSON is a part that a call of the API answers.
func asJSON[A any](name, about string, call func(context.Context) (A, error)) bundle.Part {
	return bundle.Part{Name: name, About: about, Make: func(ctx context.Context) ([]byte, error) {
		v, err := call(ctx)
		if err != nil {
			return nil, err
		}
		return json.MarshalIndent(v, "", "  ")
	}}
}

// run is a part that a program prints.
func run(name, about, program string, args ...string) bundle.Part {
	return bundle.Part{Name: name, About: about + ": " + strings.Join(append([]string{program}, args...), " "), Make: func(ctx context.Context) ([]byte, error) {
		return survey.Run(ctx, program, args...)
	}}
}

// profile is a part that the Go runtime writes.
func profile(name, about, kind string, form int) bundle.Part {
	return bundle.Part{Name: name, About: about, Make: func(context.Context) ([]byte, error) {
		var out bytes.Buffer
		err := pprof.Lookup(kind).WriteTo(&out, form)
		return out.Bytes(), err
	}}
}

// lastDay are the events of this host.
func (a collector) lastDay(ctx context.Context) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	err := a.Events(ctx, api.EventQuery{Since: "24h"}, func(i api.EventItem) error {
		if i.Event == nil {
			return nil
		}
		return enc.Encode(i.Event)
	})
	return out.Bytes(), err
}

func (a collector) lastLines(context.Context) ([]byte, error) {
	if a.parts.Lines == nil {
		return nil, errors.New("nobody keeps the lines of this agent's log")
	}
	return a.parts.Lines.Text(), nil
}

// conntrackText are the counts of the connections that the kernel tracks.
func conntrackText(context.Context) ([]byte, error) {
	var out bytes.Buffer
	for _, file := range []string{"/proc/sys/net/netfilter/nf_conntrack_count", "/proc/sys/net/netfilter/nf_conntrack_max", "/proc/thread-self/net/stat/nf_conntrack"} {
		b, err := os.ReadFile(file)
		if err != nil {
			b = []byte(err.Error())
		}
		fmt.Fprintf(&out, "%s\n%s\n\n", file, bytes.TrimSpace(b))
	}
	return out.Bytes(), nil
}
