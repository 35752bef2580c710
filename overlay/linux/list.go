package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
)

// List reads everything that could be ours: seven dumps, whatever their size,
// and the rules of other filters, where there are any.
func (k *Kernel) List(ctx context.Context) ([]overlay.Object, error) {
	var l listing
	for _, read := range []struct {
		what string
		do   func(*Kernel) error
	}{
		{"links", l.links},
		{"addresses", l.addresses},
		{"routes", l.routes},
		{"entries", l.entries},
		{"settings", l.settings},
		{"iptables", func(k *Kernel) error { return k.listAccepts(&l) }},
	} {
		if err := read.do(k); err != nil {
			return nil, fmt.Errorf("list %s: %w", read.what, err)
		}
	}
	filters, err := k.nft.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list nftables: %w", err)
	}
	return append(l.objects, filters...), nil
}

// listing is one reading of the kernel in progress.
type listing struct {
	host, fabric map[int]*device
	objects      []overlay.Object
}

func (l *listing) add(o overlay.Object) { l.objects = append(l.objects, o) }

func byIndex(all []device) map[int]*device {
	m := make(map[int]*device, len(all))
	for i := range all {
		m[all[i].Attrs().Index] = &all[i]
	}
	return m
}

func (l *listing) links(k *Kernel) error {
	host, err := k.host.devices()
	if err != nil {
		return err
	}
	fabric, err := k.fabric.devices()
	if err != nil {
		return err
	}
	l.host, l.fabric = byIndex(host), byIndex(fabric)
	for i := range host {
		if isGateway(host[i]) {
			l.add(l.object(overlay.Host, &host[i]))
		}
		l.conf4(&host[i])
	}
	for i := range fabric {
		if a := fabric[i].Attrs(); ours(a.Name) || overlay.OursByAlias(a.Alias) && a.Name != "lo" {
			l.add(l.object(overlay.Fabric, &fabric[i]))
		}
		l.port(&fabric[i])
		l.tunnelConf(&fabric[i])
	}
	return nil
}

// isGateway tells our gateway ports from the host's own devices.
func isGateway(l netlink.Link) bool {
	a := l.Attrs()
	return l.Type() == "veth" && (overlay.OursByAlias(a.Alias) || ours(a.Name) && a.Name[0] == 'g')
}

// ours reports whether a name is one that we give: a letter, and the VNI or
// the beginning of an endpoint's id in hex.
func ours(name string) bool {
	if name == "" {
		return false
	}
	_, err := strconv.ParseUint(name[1:], 16, 64)
	switch name[0] {
	case 'b', 'v', 'g', 'p':
		return err == nil && len(name) == 7
	case 'k', 'w':
		return err == nil && len(name) == 13
	}
	return false
}

// object is a device as an object.
func (l *listing) object(place overlay.Place, d *device) overlay.Link {
	a := d.Attrs()
	o := overlay.Link{Place: place, Name: a.Name, MTU: a.MTU, Group: a.Group, Alias: a.Alias}
	copy(o.MAC[:], a.HardwareAddr)
	switch link := d.Link.(type) {
	case *netlink.Bridge:
		o.Kind, o.Other = overlay.Bridge, bridgeOther(link, d)
	case *netlink.Vxlan:
		o.Kind, o.VNI, o.Local, o.Port, o.Other = overlay.VXLAN, uint32(link.VxlanId), toAddr(link.SrcAddr), uint16(link.Port), vxlanOther(link)
	case *netlink.Veth:
		l.veth(&o, a)
	}
	if a.Flags&net.FlagUp == 0 {
		o.Other += " down"
	}
	return o
}

func (l *listing) veth(o *overlay.Link, a *netlink.LinkAttrs) {
	peers := l.host
	if o.Place == overlay.Host {
		peers, o.Kind = l.fabric, overlay.Gateway
	} else if o.Kind = overlay.GatewayPeer; a.Name[0] == 'k' {
		o.Kind, o.MAC = overlay.EndpointPeer, overlay.MAC{}
		return
	}
	if peer := peers[a.ParentIndex]; peer != nil && peer.Attrs().ParentIndex == a.Index && peerNS(a) >= 0 {
		o.Peer = peer.Attrs().Name
	}
}

// setting is a number in the kernel beside the one that we set.
type setting struct {
	name      string
	got, want uint32
}

// deviation names the settings that differ from ours.
func deviation(settings ...setting) string {
	var b strings.Builder
	for _, s := range settings {
		if s.got == s.want {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s %d", s.name, s.got)
	}
	return b.String()
}

// vxlanOther is what deviates from the tunnel device that we make.
func vxlanOther(v *netlink.Vxlan) string {
	return deviation(setting{"ttl", uint32(v.TTL), tunnelTTL}, setting{"learning", number(v.Learning), 0}, setting{"proxy", number(v.Proxy), 1})
}

// bridgeOther is what deviates from the bridge that we make.
func bridgeOther(b *netlink.Bridge, d *device) string {
	var ageing, snooping, mask uint32
	if b.AgeingTime != nil {
		ageing = *b.AgeingTime
	}
	if b.MulticastSnooping != nil {
		snooping = number(*b.MulticastSnooping)
	}
	if b.GroupFwdMask != nil {
		mask = uint32(*b.GroupFwdMask)
	}
	return deviation(setting{"stp_state", d.stp, 0}, setting{"forward_delay", d.delay, 0}, setting{"ageing_time", ageing, 0},
		setting{"mcast_snooping", snooping, 0}, setting{"group_fwd_mask", mask, 0})
}

func (l *listing) port(d *device) {
	bridge := l.fabric[d.Attrs().MasterIndex]
	if bridge == nil || !d.isPort {
		return
	}
	p := d.port
	p.Dev, p.Bridge = d.Attrs().Name, bridge.Attrs().Name
	l.add(p)
}

// Positions in the conf arrays: IPV4_DEVCONF_* less one (linux/ip.h) and
// DEVCONF_* (linux/ipv6.h).
const (
	conf4Forwarding    = 0
	conf4SendRedirects = 5
	conf4RPFilter      = 7
	conf4ARPAnnounce   = 17
	conf4ARPIgnore     = 18
	conf4RouteLocalnet = 25
	conf6AcceptRA      = 3
	conf6Disable       = 26
)

// conf4 reads the settings of a host device out of its link message, which
// saves a file each. Of a device that is not ours only what an uplink
// needs; a port of a bridge is none.
func (l *listing) conf4(d *device) {
	set := func(family, name string, value uint32) {
		l.add(overlay.Sysctl{Place: overlay.Host, Name: overlay.Conf(family, d.Attrs().Name, name), Value: strconv.Itoa(int(value))})
	}
	switch {
	case isGateway(d):
		set("ipv4", "rp_filter", conf(d.conf4, conf4RPFilter))
		set("ipv4", "arp_ignore", conf(d.conf4, conf4ARPIgnore))
		set("ipv4", "arp_announce", conf(d.conf4, conf4ARPAnnounce))
		set("ipv4", "route_localnet", conf(d.conf4, conf4RouteLocalnet))
		set("ipv4", "send_redirects", conf(d.conf4, conf4SendRedirects))
		set("ipv4", "forwarding", conf(d.conf4, conf4Forwarding))
		set("ipv6", "accept_ra", conf(d.conf6, conf6AcceptRA))
		set("ipv6", "disable_ipv6", disabled(d))
	case d.Attrs().MasterIndex == 0 && d.Attrs().Name != "lo":
		set("ipv4", "forwarding", conf(d.conf4, conf4Forwarding))
		set("ipv6", "accept_ra", conf(d.conf6, conf6AcceptRA))
	}
}

// disabled is 1 also where the kernel has no IPv6 at all.
func disabled(d *device) uint32 {
	if d.conf6 == nil {
		return 1
	}
	return conf(d.conf6, conf6Disable)
}

func (l *listing) tunnelConf(d *device) {
	if d.Type() != "vxlan" {
		return
	}
	mode := d.genMode
	if d.conf6 == nil {
		mode = 1 // as good as none
	}
	name := d.Attrs().Name
	l.add(overlay.Sysctl{Place: overlay.Fabric, Name: overlay.Conf("ipv6", name, "disable_ipv6"), Value: strconv.Itoa(int(disabled(d)))})
	l.add(overlay.Sysctl{Place: overlay.Fabric, Name: overlay.Conf("ipv6", name, "addr_gen_mode"), Value: strconv.Itoa(int(mode))})
}

func (l *listing) addresses(k *Kernel) error {
	all, err := k.host.addresses()
	if err != nil {
		return err
	}
	for i := range all {
		dev := l.host[all[i].LinkIndex]
		if dev == nil || !isGateway(dev) && !isOwnLocal(dev.Attrs().Name, all[i]) {
			continue
		}
		if o, ok := addressObject(&all[i], dev.Attrs().Name); ok {
			l.add(o)
		}
	}
	return nil
}

// isOwnLocal tells the one address on lo that is ours: nobody else has business
// with it.
func isOwnLocal(dev string, a netlink.Addr) bool {
	return dev == "lo" && toPrefix(a.IPNet).Addr() == overlay.DNSAddr
}

func (l *listing) routes(k *Kernel) error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := k.host.ownRoutes(family)
		if err != nil {
			return err
		}
		for i := range all {
			if o, ok := prohibitObject(&all[i]); ok {
				l.add(o)
			} else if dev := l.host[all[i].LinkIndex]; dev != nil {
				l.add(routeObject(&all[i], dev.Attrs().Name))
			}
		}
	}
	return nil
}

func (l *listing) entries(k *Kernel) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
		all, err := dump(k.fabric, func(*netlink.Handle) ([]overlay.Object, error) { return k.fabric.raw.neighbours(family, l.entry) })
		if errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
		l.objects = append(l.objects, all...)
	}
	return nil
}

// entry is a neighbour or FDB entry as an object, if it is one that we could
// have made.
func (l *listing) entry(n *neighbour) (overlay.Object, bool) {
	dev := l.fabric[n.dev]
	if dev == nil {
		return nil, false // gone since the links were read
	}
	tunnel := dev.Type() == "vxlan"
	if n.family != unix.AF_BRIDGE {
		if !tunnel {
			return nil, false
		}
		return n.neigh(dev.Attrs().Name)
	}
	var bridge string
	if b := l.fabric[n.master]; b != nil {
		bridge = b.Attrs().Name
	}
	return n.fdb(dev.Attrs().Name, bridge, tunnel)
}

// absentValue is what a setting that does not exist amounts to: nobody filters
// bridged frames where br_netfilter is not loaded, nobody speaks IPv6 where the
// kernel has none.
func absentValue(name string) string {
	if strings.HasSuffix(name, ".disable_ipv6") || strings.HasSuffix(name, ".addr_gen_mode") {
		return "1"
	}
	return "0"
}

// Settings that belong to no device.
var (
	fabricSettings = []string{
		"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables", "net.bridge.bridge-nf-call-arptables",
		"net.ipv4.ip_forward", "net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6",
	}
	hostSettings = []string{"net.ipv6.conf.all.forwarding"}
)

func (l *listing) settings(k *Kernel) error {
	if err := l.read(overlay.Fabric, k.fabric.ns, fabricSettings); err != nil {
		return err
	}
	return l.read(overlay.Host, k.host.ns, hostSettings)
}

func (l *listing) read(place overlay.Place, ns *os.File, names []string) error {
	return netns.Within(ns, func() error {
		for _, name := range names {
			value, err := readSysctl(name)
			if errors.Is(err, fs.ErrNotExist) {
				value = absentValue(name)
			} else if err != nil {
				return err
			}
			l.add(overlay.Sysctl{Place: place, Name: name, Value: value})
		}
		return nil
	})
}
