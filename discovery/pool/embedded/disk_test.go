package embedded_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
	"github.com/weft-net/weft/discovery/pool/embedded"
)

// On a disk that takes no writes a change is refused with the file and the reason, and
// what is there is answered. It is served whole again once the disk takes writes.
func TestStoreOnADiskThatTakesNoWrites(t *testing.T) {
	disk := agenttest.NewDisk(t, filepath.Join(t.TempDir(), "disk"), "1m")
	cfg := embedded.Config{File: filepath.Join(disk.Dir, "store.db"), Socket: filepath.Join(t.TempDir(), "s")}
	s, stop := run(t, cfg)
	large := strings.Repeat("x", 20_000)
	if _, err := put(t.Context(), s.Client(), "weft/v1/there", large); err != nil {
		t.Fatal(err)
	}
	check := func(why string) {
		t.Helper()
		for range 2 {
			if _, err := put(t.Context(), s.Client(), "weft/v1/new", large); err == nil || !strings.Contains(err.Error(), why) ||
				!strings.Contains(err.Error(), cfg.File) || !strings.Contains(err.Error(), "507") {
				t.Errorf("a change: %v, want 507 with %s", err, why)
			}
		}
		if n, err := index(t.Context(), s.Client(), "weft/v1/there?recurse"); err != nil || n == 0 {
			t.Errorf("what is there: %d, %v", n, err)
		}
	}
	disk.Fill()
	check("no space left on device")
	disk.Free()
	if _, err := put(t.Context(), s.Client(), "weft/v1/new", large); err != nil {
		t.Error(err)
	}
	stop()

	disk.ReadOnly()
	s, stop = run(t, cfg)
	check("read-only file system")
	other, stopOther := run(t, cfg) // it asks the one that serves
	if n, err := index(t.Context(), other.Client(), "weft/v1/there?recurse"); err != nil || n == 0 {
		t.Errorf("asked by another agent: %d, %v", n, err)
	}
	disk.Writable()
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := put(t.Context(), other.Client(), "weft/v1/later", large)
		if err == nil {
			break
		}
		if time.Now().After(late) {
			t.Fatal(err)
		}
	}
	stopOther()
	stop()
}
