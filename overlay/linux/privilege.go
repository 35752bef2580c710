package linux

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay/linux/nft"
)

// Privileged returns nil when this process can program the kernel. The error
// names the missing capability (capabilities(7)) and is os.ErrPermission, or it
// is overlay.ErrNoNFT.
func Privileged() error {
	var data [2]unix.CapUserData
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&head, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}} {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			return fmt.Errorf("%s is missing: %w", c.name, os.ErrPermission)
		}
	}
	return nft.Installed()
}
