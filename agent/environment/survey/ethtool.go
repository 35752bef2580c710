package survey

import (
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tunnelOffloads are what a device does for tunnel packets by itself (ethtool -k).
var tunnelOffloads = []string{"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "rx-udp_tunnel-port-offload"}

// Of linux/ethtool.h.
const (
	ethtoolSsetInfo = 0x37
	ethtoolStrings  = 0x1b
	ethtoolFeatures = 0x3a
	setFeatures     = 4  // ETH_SS_FEATURES
	lenString       = 32 // ETH_GSTRING_LEN
	mostFeatures    = 256
)

// ethtoolRequest is struct ifreq with a pointer.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// offloads are the driver of a device and those of tunnelOffloads that are on. What the
// device does not tell is left out.
func offloads(dev string) (driver string, on []string) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil
	}
	defer func() { _ = unix.Close(s) }()
	if info, err := unix.IoctlGetEthtoolDrvinfo(s, dev); err == nil {
		driver = unix.ByteSliceToString(info.Driver[:])
	}
	names := featureNames(s, dev)
	if len(names) == 0 {
		return driver, nil
	}
	blocks := (len(names) + 31) / 32
	var f struct {
		cmd, size uint32
		blocks    [mostFeatures / 32]struct{ available, requested, active, neverChanged uint32 }
	}
	f.cmd, f.size = ethtoolFeatures, uint32(blocks)
	if !ethtool(s, dev, unsafe.Pointer(&f)) {
		return driver, nil
	}
	for i, name := range names {
		if f.blocks[i/32].active&(1<<(i%32)) != 0 && slices.Contains(tunnelOffloads, name) {
			on = append(on, name)
		}
	}
	return driver, on
}

// featureNames are in the order of their bits.
func featureNames(s int, dev string) (names []string) {
	var info struct {
		cmd, reserved uint32
		mask          uint64
		count         uint32
	}
	info.cmd, info.mask = ethtoolSsetInfo, 1<<setFeatures
	if !ethtool(s, dev, unsafe.Pointer(&info)) || info.mask == 0 || info.count == 0 || info.count > mostFeatures {
		return nil
	}
	var all struct {
		cmd, set, count uint32
		text            [mostFeatures * lenString]byte
	}
	all.cmd, all.set, all.count = ethtoolStrings, setFeatures, info.count
	if !ethtool(s, dev, unsafe.Pointer(&all)) {
		return nil
	}
	for i := range int(min(all.count, info.count)) {
		names = append(names, strings.TrimRight(unix.ByteSliceToString(all.text[i*lenString:(i+1)*lenString]), "\x00"))
	}
	return names
}

func ethtool(s int, dev string, data unsafe.Pointer) bool {
	r := ethtoolRequest{data: data}
	if len(dev) >= len(r.name) {
		return false
	}
	copy(r.name[:], dev)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	return errno == 0
}
