package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

const (
	nobody = 65534
	team   = 54321 // a group that no user of the host is in
)

// otherUser is the program that asUser starts: it calls the agent and prints
// the kind of each failure.
func otherUser() int {
	c := api.NewClient(os.Getenv("WEFT_TEST_CLIENT"))
	ctx := context.Background()
	_, status := c.Status(ctx)
	_, version := c.Version(ctx)
	_, members := c.Members(ctx)
	remove := c.NetworkRemove(ctx, "blue", false)
	for _, err := range []error{status, version, members, remove} {
		if err == nil {
			fmt.Println("done")
			continue
		}
		e, _ := errors.AsType[*api.Error](err)
		fmt.Println(api.KindOf(err), err, "hint:", e.Hint)
	}
	return 0
}

// asUser calls the agent at socket as nobody with the groups, and returns a
// line each for status, version, members and network rm.
func asUser(t *testing.T, socket string, gid uint32, groups ...uint32) []string {
	t.Helper()
	cmd := exec.Command(ownBinary(t))
	cmd.Env = []string{"WEFT_TEST_CLIENT=" + socket}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: gid, Groups: groups}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// ownBinary is a copy of this test where every user can reach it.
func ownBinary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft-t-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(dir, "client")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// teamSocket serves f on a socket of the group team that everybody can open.
func teamSocket(t *testing.T, f *fake, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weft-t-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "agentd.sock")
	l, err := api.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(socket, 0, team); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, mode); err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, f)
	return socket
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it calls the agent as another user")
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	needsRoot(t)
	open, refused := "done", "permission"
	tests := []struct {
		name   string
		mode   os.FileMode
		gid    uint32
		groups []uint32
		want   []string // status, version, members, network rm
	}{
		{"a stranger who can open the socket reads what is public", 0o666, nobody, nil, []string{open, open, open, refused}},
		{"a stranger who cannot open the socket", 0o660, nobody, nil, []string{refused, refused, refused, refused}},
		{"the primary group of the socket", 0o660, team, nil, []string{open, open, open, open}},
		{"a supplementary group", 0o660, nobody, []uint32{7, team}, []string{open, open, open, open}},
		{"more groups than fit at first", 0o660, nobody, append(manyGroups(200), team), []string{open, open, open, open}},
		{"some other group", 0o666, nobody, manyGroups(200), []string{open, open, open, refused}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{}
			got := asUser(t, teamSocket(t, f, tt.mode), tt.gid, tt.groups...)
			if len(got) != len(tt.want) {
				t.Fatalf("got %q", got)
			}
			for i := range got {
				if kind, _, _ := strings.Cut(got[i], " "); kind != tt.want[i] {
					t.Errorf("call %d: %q, want %q", i, got[i], tt.want[i])
				}
			}
			if removed := f.last != nil; removed != (tt.want[3] == open) {
				t.Errorf("the service saw %v", f.last)
			}
		})
	}
}

func manyGroups(n int) []uint32 {
	groups := make([]uint32, n)
	for i := range groups {
		groups[i] = uint32(100000 + i)
	}
	return groups
}

func TestRefusalNamesTheRemedy(t *testing.T) {
	needsRoot(t)
	for _, mode := range []os.FileMode{0o660, 0o666} { // refused by the kernel, and by the agent
		got := asUser(t, teamSocket(t, &fake{}, mode), nobody)
		if want := "hint: sudo usermod -aG weft USER # or run the command as root"; !strings.HasSuffix(got[3], want) {
			t.Errorf("mode %o: %q", mode, got[3])
		}
	}
}

func TestHandlerAloneTrustsItsCaller(t *testing.T) {
	srv := httptest.NewServer(handlerOf(&fake{}))
	defer srv.Close()
	res, err := http.Get(srv.URL + "/v1/members")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status = %s", res.Status)
	}
}
