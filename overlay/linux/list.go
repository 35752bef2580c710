package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
	k.quiet.begin()
	for _, read := range []struct {
		what string
		do   func(*Kernel) error
	}{
		{"links", l.links},
		{"addresses", l.addresses},
		{"routes", l.routes},
		{"entries", l.entries},
		{"settings", l.settings},
		{"fabric", l.mount},
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
	k.host.renamed(host)
	k.fabric.renamed(fabric)
	var gateways, tunnels []int // whose settings change without notice
	for i := range host {
		switch a := host[i].Attrs(); {
		case isGateway(host[i]):
			l.add(l.object(overlay.Host, &host[i]))
			gateways = append(gateways, a.Index)
		case marked(host[i]): // somebody moved it here
			l.add(l.object(overlay.Host, &host[i]))
		case ours(a.Name) && a.Name[0] == 'g':
			l.add(foreignLink(overlay.Host, &host[i]))
		}
		l.conf4(&host[i])
	}
	for i := range fabric {
		switch a := fabric[i].Attrs(); {
		case marked(fabric[i]) || isPeer(l.host[a.ParentIndex], &fabric[i]):
			l.add(l.object(overlay.Fabric, &fabric[i]))
		case ours(a.Name):
			l.add(foreignLink(overlay.Fabric, &fabric[i]))
		}
		l.port(&fabric[i])
		if fabric[i].Type() == "vxlan" {
			l.tunnelConf(&fabric[i])
			tunnels = append(tunnels, fabric[i].Attrs().Index)
		}
	}
	k.quiet.watch(gateways, tunnels)
	return nil
}

func (l *listing) mount(k *Kernel) error {
	if netns.Named(k.path, k.fabric.ns) {
		l.add(overlay.Mount{})
	}
	return nil
}

// isGateway tells our gateway ports from the host's own devices.
func isGateway(l netlink.Link) bool { return l.Type() == "veth" && marked(l) }

// marked reports whether a device is ours: by its alias, or, while it is being made,
// by its group and its name. A name alone says nothing: any program may use it.
func marked(l netlink.Link) bool {
	a := l.Attrs()
	if a.Name == "lo" {
		return false // its alias has what the host was like
	}
	return overlay.OursByAlias(a.Alias) || ours(a.Name) && a.Group >= overlay.Group && a.Group <= overlay.GroupDoomed
}

// isPeer reports whether a device of the fabric is the other end of a gateway port: it
// gets its marks a moment later.
func isPeer(gateway, d *device) bool {
	return gateway != nil && isGateway(gateway) && d.Type() == "veth" && gateway.Attrs().ParentIndex == d.Attrs().Index
}

// foreignLink is a device of somebody else with a name of ours.
func foreignLink(place overlay.Place, l netlink.Link) overlay.Link {
	return overlay.Link{Place: place, Name: l.Attrs().Name, Kind: overlay.Foreign, Other: l.Type()}
}

// refuse is the error for a device that has no mark of ours.
func refuse(place overlay.Place, l netlink.Link) error {
	if marked(l) {
		return nil
	}
	return overlay.ForeignDevice(overlay.LinkKey{Place: place, Name: l.Attrs().Name}, l.Type())
}

// renamed gives devices of ours that somebody renamed their names in the listing. The
// device as such is put right later.
func (s *space) renamed(all []device) {
	found := map[string]int{}
	defer func() { s.index.setRenamed(found) }()
	for i := range all {
		a := all[i].Attrs()
		name, ok := overlay.AliasName(a.Alias, all[i].Type(), s.place)
		if !ok || name == a.Name || slices.ContainsFunc(all, func(d device) bool { return d.Attrs().Name == name }) {
			continue
		}
		found[name] = a.Index
		all[i].other = words("name "+a.Name, all[i].other)
		a.Name = name
	}
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
		o.Kind = overlay.Bridge
	case *netlink.Vxlan:
		o.Kind, o.VNI, o.Local, o.Port = overlay.VXLAN, uint32(link.VxlanId), toAddr(link.SrcAddr), uint16(link.Port)
	case *netlink.Veth:
		l.veth(&o, a)
	}
	o.Other = d.deviates(o.Kind)
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

func (l *listing) port(d *device) {
	bridge := l.fabric[d.Attrs().MasterIndex]
	if bridge == nil || !d.isPort {
		return
	}
	p := d.port
	p.Dev, p.Bridge = d.Attrs().Name, bridge.Attrs().Name
	l.add(p)
}

// place is a setting's position in a conf array: IPV4_DEVCONF_* less one
// (linux/ip.h) or DEVCONF_* (linux/ipv6.h).
type place struct {
	name string
	at   int
}

// Settings of a gateway port, and of any device that may be an uplink.
var (
	gateway4 = []place{
		{"forwarding", 0}, {"proxy_arp", 2}, {"accept_redirects", 3}, {"send_redirects", 5}, {"rp_filter", 7},
		{"accept_source_route", 8}, {"arp_filter", 12}, {"arp_announce", 17}, {"arp_ignore", 18}, {"accept_local", 22},
		{"proxy_arp_pvlan", 24}, {"route_localnet", 25}, {"drop_gratuitous_arp", 30}, {"bc_forwarding", 31},
	}
	gateway6 = []place{{"accept_ra", 3}, {"accept_redirects", 4}, {"proxy_ndp", 22}, {"drop_unsolicited_na", 41}}
	uplink4  = []place{{"forwarding", 0}}
	uplink6  = []place{{"accept_ra", 3}}
)

const conf6Disable = 26

// conf4 reads the settings of a host device out of its link message, which
// saves a file each. Of a device that is not ours only what an uplink
// needs; a port of a bridge is none.
func (l *listing) conf4(d *device) {
	set := func(family, name string, value uint32) {
		l.add(overlay.Sysctl{Place: overlay.Host, Name: overlay.Conf(family, d.Attrs().Name, name), Value: strconv.Itoa(int(value))})
	}
	of4, of6 := uplink4, uplink6
	switch {
	case isGateway(d):
		of4, of6 = gateway4, gateway6
		set("ipv6", "disable_ipv6", disabled(d))
	case d.Attrs().MasterIndex != 0 || d.Attrs().Name == "lo":
		return
	}
	for _, p := range of4 {
		set("ipv4", p.name, conf(d.conf4, p.at))
	}
	for _, p := range of6 {
		set("ipv6", p.name, conf(d.conf6, p.at))
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
