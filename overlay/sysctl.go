package overlay

import (
	"fmt"
	"strings"
)

// Sysctl is a network setting of the kernel. Name is written as sysctl(8)
// writes it: a dot in a device's name becomes a slash.
type Sysctl struct {
	Place Place
	Name  string
	Value string
}

// sysctlKey is the name in its namespace.
type sysctlKey struct {
	Place Place
	Name  string
}

// Conf names a setting of one device: Conf("ipv4", "eth0.7", "forwarding") is
// net.ipv4.conf.eth0/7.forwarding.
func Conf(family, dev, setting string) string {
	return "net." + family + ".conf." + strings.ReplaceAll(dev, ".", "/") + "." + setting
}

// ConfDevice is the device that a setting belongs to, or "".
func (s Sysctl) ConfDevice() string {
	f := strings.Split(s.Name, ".")
	if len(f) != 5 || f[2] != "conf" || f[3] == "all" || f[3] == "default" {
		return ""
	}
	return strings.ReplaceAll(f[3], "/", ".")
}

// Key is the setting's name.
func (s Sysctl) Key() Key { return sysctlKey{s.Place, s.Name} }

// forwardIPv6 makes every device of a namespace a router's. Of those that do not
// accept router advertisements all the same the kernel then forgets the routes that
// came by them: so it is written after the settings of devices.
const forwardIPv6 = "net.ipv6.conf.all.forwarding"

// Rank places the settings of a device after the device and before its
// addresses, and those of a namespace before everything.
func (s Sysctl) Rank() Rank {
	if s.ConfDevice() != "" || s.Name == forwardIPv6 {
		return RankConf
	}
	return RankSysctl
}

// String is the sysctl(8) command.
func (s Sysctl) String() string {
	if s.Place == Fabric {
		return fmt.Sprintf("ip netns exec weft sysctl -w %s=%s", s.Name, s.Value)
	}
	return fmt.Sprintf("sysctl -w %s=%s", s.Name, s.Value)
}

func (s Sysctl) device() LinkKey { return LinkKey{s.Place, s.ConfDevice()} }
