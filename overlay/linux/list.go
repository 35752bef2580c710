package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
)

// List reads everything that could be ours: seven dumps, whatever their size,
// and the rules of other filters, where there are any.
func (k *Kernel) List(ctx context.Context) ([]overlay.Object, error) {
	var l listing
	for _, read := range []struct {
		what string
		do   func(*listing) error
	}{
		{"links", k.listLinks},
		{"addresses", k.listAddrs},
		{"routes", k.listRoutes},
		{"entries", k.listEntries},
		{"settings", k.listSysctls},
		{"iptables", k.listAccepts},
	} {
		if err := read.do(&l); err != nil {
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
	host, fabric map[int]*link
	objects      []overlay.Object
}

func (l *listing) add(o overlay.Object) { l.objects = append(l.objects, o) }

func byIndex(all []link) map[int]*link {
	m := make(map[int]*link, len(all))
	for i := range all {
		m[all[i].index] = &all[i]
	}
	return m
}

func (k *Kernel) listLinks(l *listing) error {
	host, err := k.host.links()
	if err != nil {
		return err
	}
	fabric, err := k.fabric.links()
	if err != nil {
		return err
	}
	l.host, l.fabric = byIndex(host), byIndex(fabric)
	for i := range host {
		if isGateway(&host[i]) {
			l.add(l.object(overlay.Host, &host[i]))
		}
		l.conf4(&host[i])
	}
	for i := range fabric {
		if ours(fabric[i].name) || overlay.OursByAlias(fabric[i].alias) && fabric[i].name != "lo" {
			l.add(l.object(overlay.Fabric, &fabric[i]))
		}
		l.port(&fabric[i])
		l.tunnelConf(&fabric[i])
	}
	return nil
}

// isGateway tells our gateway ports from the host's own devices.
func isGateway(h *link) bool {
	return h.kind == "veth" && (overlay.OursByAlias(h.alias) || ours(h.name) && h.name[0] == 'g')
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
func (l *listing) object(place overlay.Place, d *link) overlay.Link {
	o := overlay.Link{Place: place, Name: d.name, MAC: d.mac, MTU: d.mtu, Group: d.group, Alias: d.alias}
	switch d.kind {
	case "bridge":
		o.Kind, o.Other = overlay.Bridge, parseBridge(d.data)
	case "vxlan":
		v := parseVXLAN(d.data)
		o.Kind, o.VNI, o.Local, o.Port, o.Other = overlay.VXLAN, v.vni, v.local, v.port, v.other
	case "veth":
		l.veth(&o, d)
	}
	if !d.up {
		o.Other += " down"
	}
	return o
}

func (l *listing) veth(o *overlay.Link, d *link) {
	peers := l.host
	if o.Place == overlay.Host {
		peers, o.Kind = l.fabric, overlay.Gateway
	} else if o.Kind = overlay.GatewayPeer; d.name[0] == 'k' {
		o.Kind, o.MAC = overlay.EndpointPeer, overlay.MAC{}
		return
	}
	if peer := peers[d.peer]; peer != nil && peer.peer == d.index && d.peerNS >= 0 {
		o.Peer = peer.name
	}
}

func (l *listing) port(d *link) {
	bridge := l.fabric[d.master]
	if bridge == nil || d.slaveKind != "bridge" {
		return
	}
	p := parsePort(d.slaveData)
	p.Dev, p.Bridge = d.name, bridge.name
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
func (l *listing) conf4(d *link) {
	set := func(family, name string, value uint32) {
		l.add(overlay.Sysctl{Place: overlay.Host, Name: overlay.Conf(family, d.name, name), Value: strconv.Itoa(int(value))})
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
	case d.master == 0 && d.name != "lo":
		set("ipv4", "forwarding", conf(d.conf4, conf4Forwarding))
		set("ipv6", "accept_ra", conf(d.conf6, conf6AcceptRA))
	}
}

// disabled is 1 also where the kernel has no IPv6 at all.
func disabled(d *link) uint32 {
	if d.conf6 == nil {
		return 1
	}
	return conf(d.conf6, conf6Disable)
}

func (l *listing) tunnelConf(d *link) {
	if d.kind != "vxlan" {
		return
	}
	mode := d.genMode
	if d.conf6 == nil {
		mode = 1 // as good as none
	}
	l.add(overlay.Sysctl{Place: overlay.Fabric, Name: overlay.Conf("ipv6", d.name, "disable_ipv6"), Value: strconv.Itoa(int(disabled(d)))})
	l.add(overlay.Sysctl{Place: overlay.Fabric, Name: overlay.Conf("ipv6", d.name, "addr_gen_mode"), Value: strconv.Itoa(int(mode))})
}

func (k *Kernel) listAddrs(l *listing) error {
	all, err := k.host.addresses()
	if err != nil {
		return err
	}
	for i := range all {
		dev := l.host[all[i].dev]
		if dev == nil || !isGateway(dev) && !isOwnLocal(dev, all[i].prefix) {
			continue
		}
		if o, ok := all[i].object(dev.name); ok {
			l.add(o)
		}
	}
	return nil
}

// isOwnLocal tells the one address on lo that is ours: nobody else has business
// with it.
func isOwnLocal(dev *link, p netip.Prefix) bool {
	return dev.name == "lo" && p.Addr() == overlay.DNSAddr
}

func (k *Kernel) listRoutes(l *listing) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		all, err := k.host.ownRoutes(family)
		if errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
		for i := range all {
			if dev := l.host[all[i].dev]; dev != nil {
				l.add(all[i].object(dev.name))
			}
		}
	}
	return nil
}

func (k *Kernel) listEntries(l *listing) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
		all, err := k.fabric.neighbours(family, l.entry)
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
	tunnel := dev.kind == "vxlan"
	if n.family != unix.AF_BRIDGE {
		if !tunnel {
			return nil, false
		}
		return n.neigh(dev.name)
	}
	var bridge string
	if b := l.fabric[n.master]; b != nil {
		bridge = b.name
	}
	return n.fdb(dev.name, bridge, tunnel)
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

func (k *Kernel) listSysctls(l *listing) error {
	if err := k.readSettings(l, overlay.Fabric, fabricSettings); err != nil {
		return err
	}
	return k.readSettings(l, overlay.Host, hostSettings)
}

func (k *Kernel) readSettings(l *listing, place overlay.Place, names []string) error {
	return within(k.space(place).ns, func() error {
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
