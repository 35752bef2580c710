package diagnose

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/boltfile"
)

func TestDiskNamesThePathTheCauseAndTheCommand(t *testing.T) {
	const dir = "/var/lib/weft"
	if c := Disk(DiskFacts{Dir: dir, Free: 3 << 30}); c.State != api.CheckOK || c.Detail != dir+" takes writes, 3 GiB free" {
		t.Errorf("got %+v", c)
	}
	for name, tt := range map[string]struct {
		err          boltfile.WriteError
		detail, hint string
	}{
		"full":      {boltfile.WriteError{Path: dir + "/", Err: syscall.ENOSPC}, dir + "/ cannot be written: no space left on device (12 KiB and 7 files free)", "df -h " + dir + " "},
		"of a file": {boltfile.WriteError{Path: dir + "/leases.db", Err: syscall.EDQUOT}, "leases.db cannot be written: disk quota exceeded", "df -h " + dir + " "},
		"read-only": {boltfile.WriteError{Path: dir + "/", Err: syscall.EROFS, Mount: "/var"}, "read-only file system", "mount -o remount,rw /var "},
		"broken":    {boltfile.WriteError{Path: dir + "/leases.db", Err: syscall.EIO}, "input/output error", "dmesg "},
		"immutable": {boltfile.WriteError{Path: dir + "/", Err: syscall.EPERM}, "operation not permitted", "lsattr -d " + dir + " "},
	} {
		c := Disk(DiskFacts{Dir: dir, Err: &tt.err, Free: 12 << 10, Files: 7})
		if c.State != api.CheckFail || !strings.Contains(c.Detail, tt.detail) || !strings.HasPrefix(c.Hint, tt.hint) {
			t.Errorf("%s: got %+v", name, c)
		}
		var e *api.Error
		if err := Explain("attach web", fmt.Errorf("lease: %w", &tt.err)); err != nil {
			e = err.(*api.Error)
		}
		if e == nil || e.Kind != api.KindFailed || e.Hint != c.Hint || !strings.HasPrefix(e.Message, "attach web: ") {
			t.Errorf("%s: an attach is refused with %+v", name, e)
		}
	}
}
