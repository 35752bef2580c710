package agenttest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// labs is the parent of every lab's directory. Not t.TempDir: the path of a
// unix socket must fit into 107 bytes (unix(7)), and a test's name may be long.
const labs = "/tmp/weft-labs"

// Namespaces of labs begin with prefix and their lab's id.
const prefix = "wt"

var labCount atomic.Uint32

// claim makes the directory of a new lab. Its lock is held until this process
// ends or release is called: that is how a sweep tells the living from the
// dead, also when a process number is used again.
func claim(t testing.TB) (id, dir string, release func()) {
	t.Helper()
	defer lockLabs(t)()
	sweep(t)
	id = prefix + strconv.FormatInt(int64(os.Getpid()), 36) + "-" + strconv.FormatUint(uint64(labCount.Add(1)), 36)
	dir = filepath.Join(labs, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := flock(filepath.Join(dir, "lock"), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		t.Fatal(err)
	}
	return id, dir, func() { lock.Close() }
}

// lockLabs makes claims and sweeps of all processes take turns.
func lockLabs(t testing.TB) (unlock func()) {
	t.Helper()
	if err := os.MkdirAll(labs, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := flock(filepath.Join(labs, "lock"), unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	return func() { lock.Close() }
}

// flock opens and locks a file; closing it, as the end of the process does,
// unlocks it.
func flock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// sweep removes what the labs of killed processes left.
func sweep(t testing.TB) {
	t.Helper()
	dirs, err := filepath.Glob(labs + "/" + prefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		lock, err := flock(filepath.Join(dir, "lock"), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // its test is running
		}
		if err := remove(filepath.Base(dir)); err != nil {
			t.Logf("what the lab %s left: %v", filepath.Base(dir), err)
		}
		lock.Close()
	}
}

// remove ends the processes of a lab and removes its namespaces and its
// directory, the directory last: while there is something to sweep, it says so.
func remove(id string) error {
	dir := filepath.Join(labs, id)
	if err := removePodmans(dir); err != nil {
		return err
	}
	names, err := filepath.Glob("/run/netns/" + id + "-*")
	if err != nil {
		return err
	}
	for _, host := range []bool{true, false} { // agents first, so that none repairs what is removed
		for _, path := range names {
			if n := Netns(filepath.Base(path)); isHost(n, id) == host {
				if err := n.delete(); err != nil {
					return err
				}
			}
		}
	}
	removeCgroups(id)
	if err := unmountBelow(dir); err != nil {
		return err
	}
	// What was killed a moment ago may still be writing.
	_, err = Await(5*time.Second, func() error { return os.RemoveAll(dir) })
	return err
}

// unmountBelow undoes what runtimes mount for their containers, the innermost
// first.
func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			if err := unix.Unmount(f[1], unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", f[1], err)
			}
		}
	}
	return nil
}

// removeCgroups removes the control groups of a lab's containers, which their
// runtime leaves when it is killed. The kernel refuses those in use.
func removeCgroups(id string) {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*/" + id + "-*")
	more, _ := filepath.Glob("/sys/fs/cgroup/" + id + "-*")
	for _, top := range append(tops, more...) {
		Run("", "find", top, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";")
	}
}

// isHost tells the namespaces of hosts (h1, h2, …) from the rest.
func isHost(n Netns, id string) bool {
	role := strings.TrimPrefix(string(n), id+"-")
	return strings.HasPrefix(role, "h") && !strings.Contains(role, "-")
}
