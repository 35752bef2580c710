package membership

import (
	"log/slog"
	"os"
	"testing"
	"testing/synctest"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery"
)

// kept is a membership that is on the disk.
func kept(t *testing.T) (*Membership, *datadir.Dir) {
	t.Helper()
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	m, err := New(Config{Dir: dir, Host: NewHost("host1"), Log: slog.New(slog.DiscardHandler),
		Cluster: datadir.Cluster{Schema: datadir.Schema, ID: "c1", Keys: [][]byte{make([]byte, 32)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Keep(); err != nil {
		t.Fatal(err)
	}
	return m, dir
}

func TestForgottenIsToldOnce(t *testing.T) {
	m, _ := kept(t)
	told := 0
	m.cfg.Forgotten = func() { told++ }
	if err := m.Usable(); err != nil {
		t.Errorf("a member: %v", err)
	}
	m.Forget("by one")
	m.Forget("by another")
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
	if err := m.Usable(); api.KindOf(err) != api.KindConflict {
		t.Errorf("got %v, want a conflict", err)
	}
}

// What this host knows of itself is answered while the disk hangs: attach asks for it.
func TestADiskThatHangsHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := kept(t)
		hangs, goes := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(goes)
			_ = m.owe(func(all []discovery.HostID) []discovery.HostID {
				<-hangs
				return append(all, discovery.HostID{9})
			})
		}()
		synctest.Wait()
		answered := false
		go func() {
			_ = m.Usable()
			m.Meta()
			m.SetLeaving(false)
			answered = true
		}()
		synctest.Wait()
		if !answered {
			t.Error("a fact of this host waits for a file")
		}
		close(hangs)
		<-goes
		if got := m.owed(); len(got) != 1 {
			t.Errorf("owed: %v, want one host", got)
		}
	})
}

func TestUnfreedHostsSurviveARestart(t *testing.T) {
	m, dir := kept(t)
	add := func(all []discovery.HostID) []discovery.HostID { return append(all, discovery.HostID{9}) }
	if err := m.owe(add); err != nil {
		t.Fatal(err)
	}
	next, err := New(m.cfg)
	if err != nil || len(next.owed()) != 1 {
		t.Fatalf("after a restart: %v, %v", next.owed(), err)
	}
	if err := next.owe(func([]discovery.HostID) []discovery.HostID { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir.File(datadir.UnfreedFile)); !os.IsNotExist(err) {
		t.Errorf("the empty list stays on the disk: %v", err)
	}
}

func TestWhereConsulIsAsked(t *testing.T) {
	for name, tt := range map[string]struct {
		cluster    datadir.Cluster
		configured string
		want       string
	}{
		"embedded":                       {datadir.Cluster{}, "http://file", ""},
		"as the token has it":            {datadir.Cluster{Consul: "http://token"}, "", "http://token"},
		"as join was told":               {datadir.Cluster{Consul: "http://token", OwnConsul: "http://join"}, "", "http://join"},
		"as the file says":               {datadir.Cluster{Consul: "http://token"}, "http://file", "http://file"},
		"told while the file said so":    {datadir.Cluster{Consul: "http://token", OwnConsul: "http://join", ConfiguredConsul: "http://file"}, "http://file", "http://join"},
		"the file was changed since":     {datadir.Cluster{Consul: "http://token", OwnConsul: "http://join", ConfiguredConsul: "http://file"}, "http://other", "http://other"},
		"the file says nothing any more": {datadir.Cluster{Consul: "http://token", OwnConsul: "http://join", ConfiguredConsul: "http://file"}, "", "http://join"},
		"init was told something else":   {datadir.Cluster{Consul: "http://init", ConfiguredConsul: "http://file"}, "http://file", "http://init"},
	} {
		if got := tt.cluster.ConsulFor(tt.configured); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

// A word calls the very host that it names: two may differ in case alone.
func TestTheHostThatIsRemovedIsTheOneNamed(t *testing.T) {
	v := discovery.View{Members: []discovery.Member{
		{ID: discovery.HostID{1}, Name: "db1", Status: discovery.StatusDead},
		{ID: discovery.HostID{2}, Name: "DB1", Status: discovery.StatusDead},
		{ID: discovery.HostID{3}, Name: "Web", Status: discovery.StatusDead},
		{ID: discovery.HostID{4}, Name: "app", Status: discovery.StatusAlive},
	}}
	for name, want := range map[string]byte{"db1": 1, "DB1": 2, "web": 3, "Web": 3, "Db1": 0, "nobody": 0, discovery.HostID{2}.String(): 2} {
		dead, err := deadMembers(v, name, false)
		if err != nil || (len(dead) > 0) != (want > 0) || len(dead) > 1 || want > 0 && dead[0].ID[0] != want {
			t.Errorf("%s: got %v (%v), want host %d", name, dead, err, want)
		}
	}
	if _, err := deadMembers(v, "APP", false); err == nil {
		t.Error("a living host in another spelling is removed")
	}
	v.Self = discovery.HostID{4}
	if _, err := deadMembers(v, "app", true); err == nil {
		t.Error("a host removes itself by force")
	}
	v.Self = discovery.HostID{5}
	if living, err := deadMembers(v, "app", true); err != nil || len(living) != 1 {
		t.Errorf("a living host that must go: got %v (%v)", living, err)
	}
}
