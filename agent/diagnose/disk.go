package diagnose

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/boltfile"
)

// DiskFacts are about the data directory and the files in it.
type DiskFacts struct {
	Dir         string
	Err         error  // why it cannot be written; nil: it can
	Free, Files uint64 // bytes and files that it still takes
}

// Disk says whether the data directory takes writes.
func Disk(f DiskFacts) api.Check {
	c := api.Check{Name: "disk", State: api.CheckOK}
	if f.Err == nil {
		c.Detail = fmt.Sprintf("%s takes writes, %s free", f.Dir, size(f.Free))
		return c
	}
	c.State = api.CheckFail
	c.Detail = fmt.Sprintf("%v (%s and %d files free): what is attached goes on, nothing new is attached", f.Err, size(f.Free), f.Files)
	if why, ok := errors.AsType[*boltfile.WriteError](f.Err); ok {
		c.Hint = DiskHint(why)
	}
	return c
}

// DiskHint is what to type about a file system that takes no writes. The agent goes on by
// itself when it takes them again.
func DiskHint(e *boltfile.WriteError) string {
	dir := filepath.Dir(e.Path)
	switch {
	case errors.Is(e, syscall.EROFS):
		return "mount -o remount,rw " + e.Mount + " # dmesg says whether the disk failed"
	case errors.Is(e, syscall.EPERM):
		return "lsattr -d " + dir + " # chattr -i takes an i away"
	case errors.Is(e, syscall.EIO):
		return "dmesg # the disk fails"
	}
	return "df -h " + dir + " # make room; df -i shows how many files it takes"
}

// size is a number of bytes for people.
func size(n uint64) string {
	const unit = 1024
	for i, name := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < unit<<(10*i) {
			return fmt.Sprintf("%d %s", n>>(10*i), name)
		}
	}
	return fmt.Sprintf("%d TiB", n>>40)
}
