package dns

import (
	"errors"

	"golang.org/x/sys/unix"
)

// devices looks devices up by name (netdevice(7)), with one socket for all of
// them: a host may carry hundreds of networks, and all are looked at every
// second.
type devices struct {
	fd  int
	err error
}

func openDevices() devices {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return devices{fd, err}
}

func (d devices) close() {
	if d.err == nil {
		unix.Close(d.fd)
	}
}

// index returns the device's index; unix.ENODEV if there is none of that name.
func (d devices) index(name string) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(d.fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, err
	}
	return int(req.Uint32()), nil
}

// replaced reports whether the device that was index is gone. If that cannot
// be found out it is not: a working socket is not given up on a guess.
func (d devices) replaced(name string, index int) bool {
	now, err := d.index(name)
	return errors.Is(err, unix.ENODEV) || err == nil && now != index
}
