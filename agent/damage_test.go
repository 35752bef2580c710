package agent

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/overlay"
)

// damaged is a host whose files are about to be damaged, with what runs on it.
type damaged struct {
	*flowHost
	other *flowHost
	web   api.Attachment
	ports string
	disk  map[string][]byte // the files of its data directory
}

// endangered makes a cluster of two: on the first host run a namespace's endpoint with a
// port and a container of Docker's, and it stops.
func endangered(t *testing.T) *damaged {
	t.Helper()
	one, two := pair(t)
	d := &damaged{flowHost: one, other: two, disk: map[string][]byte{}}
	var err error
	d.web, err = one.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/0", Name: "web", Aliases: []string{"www"}})
	if err != nil {
		t.Fatal(err)
	}
	driver, n := one.dockered()
	one.bound(n, dockerID("1"), netip.Addr{})
	if _, err := driver.Join(t.Context(), dockerID("1"), "/run/docker/netns/1"); err != nil {
		t.Fatal(err)
	}
	if err := driver.Describe(t.Context(), dockerID("1"), docker.Container{ID: dockerID("c"), Name: "app"}); err != nil {
		t.Fatal(err)
	}
	d.ports = d.links()
	one.stop()
	d.save()
	return d
}

// links are the endpoints' interfaces, and what lets their packets through.
func (d *damaged) links() string {
	var out []string
	for line := range strings.Lines(d.kernel.String()) {
		if strings.Contains(line, " k") || strings.Contains(line, "ports") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// inRunDir is the copy of the journal in the run directory, which is one with the data
// directory here.
const inRunDir = "journal.json"

func (d *damaged) save() {
	for _, name := range []string{datadir.LeasesDB, datadir.ViewDB, inRunDir, datadir.HostFile, datadir.ClusterFile, datadir.HostFile + ".copy", datadir.ClusterFile + ".copy"} {
		body, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			d.t.Fatal(err)
		}
		d.disk[name] = body
	}
}

// with starts the agent with a file that holds something else, nil for none, and
// puts everything back.
func (d *damaged) with(t *testing.T, files map[string][]byte, check func(t *testing.T)) {
	t.Helper()
	for name, body := range d.disk {
		if other, ok := files[name]; ok {
			body = other
		}
		path := filepath.Join(d.dir, name)
		if body == nil {
			_ = os.Remove(path)
			continue
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.flowHost.t = t
	d.start()
	defer d.stop()
	check(t)
}

// served checks that whatever runs on the host goes on, and is known by its name.
func (d *damaged) served(t *testing.T, names ...string) {
	t.Helper()
	d.eventually("everything was read", func() error {
		st, err := d.Status(t.Context())
		if err == nil && (st.State != "ok" || !d.agent.member().snapshot().Complete) {
			err = fmt.Errorf("%+v", st.Checks)
		}
		return err
	})
	if err := d.agent.member().Settle(t.Context()); err != nil {
		t.Error(err)
	}
	if now := d.links(); now != d.ports {
		t.Errorf("the endpoints' interfaces were:\n%s\nand are:\n%s", d.ports, now)
	}
	for _, name := range names {
		if !d.names.has(name) {
			t.Errorf("%s is not answered", name)
		}
	}
	// Nobody gets an address that is in use.
	a, err := d.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/4", Name: "next"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range d.agent.member().endpoints.Journal.All() {
		if e.Endpoint.ID.String() != a.ID && e.Addrs[0].String() == a.Address {
			t.Errorf("%s was given twice", a.Address)
		}
	}
	if err := d.Detach(t.Context(), "blue", "next"); err != nil {
		t.Error(err)
	}
	d.eventually("the interface of next is gone", func() error {
		if d.links() != d.ports {
			return errors.New(d.links())
		}
		return nil
	})
}

func TestDamagedDatabaseTakesNoEndpointAway(t *testing.T) {
	d := endangered(t)
	for _, name := range []string{datadir.LeasesDB, datadir.ViewDB} {
		whole := d.disk[name]
		for what, body := range map[string][]byte{
			"missing": nil, "empty": {}, "half": whole[:len(whole)/2], "half a page": whole[:2048], "text": []byte("hello\n"),
			"0xff in its middle": garbled(whole, len(whole)/2, 4096), "0xff from its start": garbled(whole, 0, 8192),
			"0xff behind its start": garbled(whole, 8192, 4096),
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				d.with(t, map[string][]byte{name: body}, func(t *testing.T) { d.served(t, "web", "app") })
			})
		}
	}
	for what, body := range map[string][]byte{"missing": nil, "garbled": []byte("x")} {
		files := map[string][]byte{datadir.LeasesDB: body, datadir.ViewDB: body}
		t.Run("both "+what, func(t *testing.T) {
			d.with(t, files, func(t *testing.T) { d.served(t, "web", "app") })
		})
		// Without the run directory, which nothing takes away while a sandbox lives, the
		// kernel tells no name.
		files[inRunDir] = body
		t.Run("all three "+what, func(t *testing.T) { d.with(t, files, func(t *testing.T) { d.served(t) }) })
	}
}

// Who this host is, and of which cluster, is there twice.
func TestDamagedIdentityIsTakenFromItsCopy(t *testing.T) {
	d := endangered(t)
	for _, name := range []string{datadir.HostFile, datadir.ClusterFile} {
		whole := d.disk[name]
		flipped := bytes.Replace(whole, []byte(`"id": "`), []byte(`"id": "0`), 1)
		for what, body := range map[string][]byte{"missing": nil, "empty": {}, "half": whole[:len(whole)/2], "flipped": flipped} {
			t.Run(name+" "+what, func(t *testing.T) {
				d.with(t, map[string][]byte{name: body}, func(t *testing.T) { d.served(t, "web", "app") })
			})
		}
	}
	t.Run("copies missing", func(t *testing.T) {
		none := map[string][]byte{datadir.HostFile + ".copy": nil, datadir.ClusterFile + ".copy": nil}
		d.with(t, none, func(t *testing.T) { d.served(t, "web", "app") })
	})
}

// Without them, or with those of a newer agent, it does not start, and says what to do.
func TestLostIdentityIsRefusedWithFileAndCommand(t *testing.T) {
	d := endangered(t)
	for what, tt := range map[string]struct {
		body []byte
		want string
	}{
		"torn": {[]byte("{"), "join.token --replace"}, "newer": {[]byte(`{"schema": 99}`), "newer agent"},
	} {
		for _, name := range []string{datadir.HostFile, datadir.ClusterFile} {
			for file, body := range d.disk {
				if strings.HasPrefix(file, name) {
					body = tt.body
				}
				if err := os.WriteFile(filepath.Join(d.dir, file), body, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg := config.Default()
			cfg.Name, cfg.Advertise, cfg.RunDir, cfg.DataDir = d.name, d.addr, d.dir, d.dir
			log := slog.New(slog.DiscardHandler)
			err := Assemble(cfg, d.parts(log), log).Run(t.Context())
			if err == nil || !strings.Contains(err.Error()+Hint(err), tt.want) || !strings.Contains(err.Error(), d.dir) {
				t.Errorf("%s %s: %v, hint %q", what, name, err, Hint(err))
			}
			if d.links() != d.ports {
				t.Error("an endpoint was taken away")
			}
		}
	}
}

func garbled(body []byte, at, length int) []byte {
	out := bytes.Clone(body)
	for i := at; i < min(at+length, len(out)); i++ {
		out[i] = 0xff
	}
	return out
}

// One bit of each page of each database, at several places of the page.
func TestFlippedBitTakesNoEndpointAway(t *testing.T) {
	d := endangered(t)
	for _, name := range []string{datadir.LeasesDB, datadir.ViewDB} {
		whole := d.disk[name]
		for page := range len(whole) / 4096 {
			for _, at := range []int{10, 40, 300} {
				if body := bytes.Clone(whole); !bytes.Equal(body[page*4096:(page+1)*4096], make([]byte, 4096)) {
					body[page*4096+at] ^= 4
					t.Run(fmt.Sprintf("%s page %d byte %d", name, page, at), func(t *testing.T) {
						d.with(t, map[string][]byte{name: body}, func(t *testing.T) { d.served(t, "web", "app") })
					})
				}
			}
		}
	}
}

// README recommends a copy of the data directory. What was attached after it was made
// keeps its interface, and its name.
func TestRestoredBackupTakesNoEndpointAway(t *testing.T) {
	d := endangered(t)
	d.start()
	later, err := d.Attach(t.Context(), api.AttachRequest{Network: "blue", Netns: "/run/sandbox/1", Name: "later"})
	if err != nil {
		t.Fatal(err)
	}
	d.ports = d.links()
	d.stop()
	delete(d.disk, inRunDir) // nobody copies the run directory
	d.with(t, nil, func(t *testing.T) {
		d.served(t, "web", "app")
		all := d.agent.member().endpoints.Journal.All()
		found := false
		for _, l := range all {
			found = found || l.Endpoint.Name == "later" && l.Sandbox == "/run/sandbox/1" && l.Endpoint.ID.String() == later.ID && l.Addrs[0].String() == later.Address && overlay.MAC(l.Endpoint.MAC).String() == later.MAC
		}
		if !found {
			t.Errorf("%s is not known: %+v", later.ID, all)
		}
	})
}
