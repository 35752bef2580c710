package netns

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The process is seen where it was before, whichever of its threads made a
// namespace: the first one's namespace is what /proc shows of it.
func TestMakeLeavesTheProcessWhereItIs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 64 {
		path := fmt.Sprintf("/run/netns/wt%d-mf%d", os.Getpid(), i)
		err := Make(path)
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if after, err := os.Readlink("/proc/self/ns/net"); err != nil || after != before {
		t.Errorf("the process was in %s and is in %s, %v", before, after, err)
	}
}
