package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/discovery"
)

// onDisk is a member whose data directory is a small file system, with an endpoint.
type onDisk struct {
	*flowHost
	disk *agenttest.Disk
	web  api.Attachment
	lost int // leases without an endpoint
}

func newOnDisk(t *testing.T) *onDisk {
	t.Helper()
	one, _ := pair(t)
	d := &onDisk{flowHost: one.flow.host(3)}
	d.stop()
	d.data = filepath.Join(d.dir, "data")
	d.disk = agenttest.NewDisk(t, d.data, "2m")
	d.start()
	made := readToken(t, filepath.Join(one.dir, datadir.TokenFile))
	if _, err := d.Join(t.Context(), api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: made}, nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.web, err = d.attach("web", 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.stop() }) // before its disk goes
	return d
}

func (d *onDisk) attach(name string, sandbox int) (api.Attachment, error) {
	return d.Attach(d.t.Context(), api.AttachRequest{Network: "blue", Netns: fmt.Sprintf("/run/sandbox/%d", sandbox), Name: name})
}

// refused checks that what runs is served, that nothing new is, and that status and the
// answer say why.
func (d *onDisk) refused(why, hint string) {
	d.t.Helper()
	d.eventually("status names the disk", func() error {
		st, err := d.Status(d.t.Context())
		if err != nil {
			return err
		}
		for _, c := range st.Checks {
			if c.Name == "disk" && c.State == api.CheckFail && st.State == "degraded" &&
				strings.Contains(c.Detail, d.data) && strings.Contains(c.Detail, why) && strings.Contains(c.Hint, hint) {
				return nil
			}
		}
		return fmt.Errorf("%s: %+v", st.State, st.Checks)
	})
	_, err := d.attach("new", 1)
	wantKind(d.t, err, api.KindFailed, why)
	if e, ok := errors.AsType[*api.Error](err); !ok || !strings.Contains(e.Message, d.data) || !strings.Contains(e.Hint, hint) {
		d.t.Errorf("attach: %v, want the directory and the hint %s", err, hint)
	}
	d.runs()
	if all := d.agent.member().leases.Leases(); len(all) != 1+d.lost {
		d.t.Errorf("leases: %+v, want that of web", all)
	}
	if _, there := d.agent.member().endpoints.Journal.Find(d.agent.member().endpoints.Journal.All()[0].Endpoint.Network, 301, "eth0"); there {
		d.t.Error("the endpoint that was refused is in the journal")
	}
}

// runs checks that web is served.
func (d *onDisk) runs() {
	d.t.Helper()
	d.eventually("web is served", func() error {
		all, err := d.Endpoints(d.t.Context(), api.EndpointFilter{Network: "blue"})
		switch {
		case err != nil:
			return err
		case len(all) != 1 || all[0].ID != d.web.ID || all[0].Name != "web":
			return fmt.Errorf("endpoints: %+v", all)
		case !d.names.has("web"):
			return errors.New("its name is not answered")
		}
		return nil
	})
	if !strings.Contains(d.kernel.String(), d.web.ID) {
		d.t.Errorf("its interface is gone:\n%s", d.kernel)
	}
}

// works checks that the host attaches again, without any help.
func (d *onDisk) works() {
	d.t.Helper()
	d.eventually("attached", func() error { _, err := d.attach("new", 1); return err })
	if err := d.Detach(d.t.Context(), "blue", "new"); err != nil {
		d.t.Error(err)
	}
	d.runs()
	d.eventually("status is ok", func() error {
		st, err := d.Status(d.t.Context())
		if err == nil && st.State != "ok" {
			err = fmt.Errorf("%+v", st.Checks)
		}
		return err
	})
}

func (d *onDisk) incarnation() uint64 { return d.agent.member().host.Host().Incarnation }

func TestFullDataDirectoryWhileTheAgentRuns(t *testing.T) {
	d := newOnDisk(t)
	before := d.incarnation()
	// What a disk leaves that fills up between the lease and the journal.
	n, _ := d.agent.member().networks.Lookup("blue")
	if _, err := d.agent.member().leases.Lease(t.Context(), n, discovery.EndpointID{7}, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	d.lost = 1
	d.disk.Fill()
	d.refused("no space left on device", "df -h "+d.data)
	d.disk.Free()
	d.works()
	if d.incarnation() != before {
		t.Error("the membership was begun anew, which was not needed")
	}
	d.within(60*time.Second, "the lease is free", func() error {
		d.disk.Fill() // the agent may not have looked meanwhile
		time.Sleep(1500 * time.Millisecond)
		d.disk.Free()
		time.Sleep(1500 * time.Millisecond)
		if all := d.agent.member().leases.Leases(); len(all) != 1 {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
}

func TestFullDataDirectoryAtARestart(t *testing.T) {
	d := newOnDisk(t)
	d.stop()
	d.disk.Fill()
	d.start()
	d.refused("no space left on device", "df -h "+d.data)
	d.disk.Free()
	d.works()
	d.stop()
	d.start()
	d.works()
}

func TestReadOnlyDataDirectoryAtARestart(t *testing.T) {
	d := newOnDisk(t)
	said := d.incarnation()
	d.stop()
	d.disk.ReadOnly()
	for range 2 {
		d.start()
		d.refused("read-only file system", "mount -o remount,rw "+d.data)
		if now := d.incarnation(); now <= said {
			t.Errorf("incarnation %d after %d", now, said)
		}
		said = d.incarnation()
		if st, err := d.Status(t.Context()); err != nil || st.State != "degraded" {
			t.Errorf("%+v, %v", st, err)
		}
		d.stop()
	}
	d.start()
	d.disk.Writable()
	d.works()
	var h datadir.Host
	d.eventually("the new count is on the disk", func() error {
		if err := d.agent.dir.Read(datadir.HostFile, &h); err != nil || h.Incarnation <= said {
			return fmt.Errorf("%+v, %v, want more than %d", h, err, said)
		}
		return nil
	})
	d.stop()
	d.start()
	d.works()
	if now := d.incarnation(); now <= h.Incarnation {
		t.Errorf("incarnation %d after %d", now, h.Incarnation)
	}
}

// A join writes its key and name down in the end: on a disk that takes nothing it must
// not get as far as the pool.
func TestJoinOnAFullDiskChangesNothing(t *testing.T) {
	one, _ := pair(t)
	three := one.flow.host(3)
	three.stop()
	three.data = filepath.Join(three.dir, "data")
	disk := agenttest.NewDisk(t, three.data, "2m")
	disk.Fill()
	three.start()
	t.Cleanup(func() { three.stop() })
	token := readToken(t, filepath.Join(one.dir, datadir.TokenFile))
	_, err := three.Join(t.Context(), api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: token}, nil)
	wantKind(t, err, api.KindFailed, "no space left on device")
	if hosts, err := one.agent.member().pool.Records.Hosts(t.Context()); err != nil || len(hosts) != 2 {
		t.Errorf("the pool lists %+v, %v", hosts, err)
	}
	disk.Free()
	three.eventually("joined", func() error {
		_, err := three.Join(t.Context(), api.JoinRequest{Addresses: []string{"192.0.2.1"}, Token: token}, nil)
		return err
	})
}
