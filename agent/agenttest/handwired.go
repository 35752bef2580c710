package agenttest

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// HandWired is two sandboxes on two hosts, joined by the devices that a network
// engineer would make with ip(8) and bridge(8): a VXLAN device and a bridge in
// a namespace of their own, as the product has them.
type HandWired struct {
	One, Two *Sandbox
	AddrTwo  netip.Addr
}

// handVNI is no network of the product: those count up from 4096.
const handVNI = 900

// HandWire wires a sandbox on each of the two hosts. The packets leave through
// the hosts' tables as the product's do, if the hosts have any, since the UDP
// port is the same. Given the product's endpoints on the two hosts, the bridge
// rules of their fabrics are made for the hand's sandboxes as well.
func (l *Lab) HandWire(one, two *Host, likeOne, likeTwo *Endpoint) *HandWired {
	l.t.Helper()
	a, b := newHandEnd(one, 1), newHandEnd(two, 2)
	a.wire(b)
	b.wire(a)
	if likeOne != nil {
		a.guard(likeOne)
		b.guard(likeTwo)
	}
	return &HandWired{One: a.sandbox, Two: b.sandbox, AddrTwo: b.addr}
}

type handEnd struct {
	host    *Host
	fabric  Netns
	sandbox *Sandbox
	addr    netip.Addr
	mac     string
}

func newHandEnd(h *Host, number byte) *handEnd {
	e := &handEnd{
		host:    h,
		fabric:  Netns(string(h.NS) + "-hand"),
		sandbox: h.Sandbox("handbox"),
		addr:    netip.AddrFrom4([4]byte{10, 88, 0, number}),
		mac:     fmt.Sprintf("0e:58:0a:58:00:%02x", number),
	}
	e.fabric.add(h.lab.t)
	return e
}

func (e *handEnd) wire(other *handEnd) {
	t := e.host.lab.t
	t.Helper()
	mtu := e.host.lab.cfg.UnderlayMTU - 50
	e.host.NS.batch(t, fmt.Sprintf("link add v%d mtu %d netns %s type vxlan id %d local %s dstport 4799 nolearning proxy ttl 64",
		handVNI, mtu, e.fabric, handVNI, e.host.Addr))
	e.fabric.batch(t,
		fmt.Sprintf("link add b%d mtu %d type bridge stp_state 0 mcast_snooping 0 ageing_time 0", handVNI, mtu),
		fmt.Sprintf("link add k%d mtu %d type veth peer name eth0 address %s mtu %d netns %s", handVNI, mtu, e.mac, mtu, e.sandbox.NS),
		fmt.Sprintf("link set v%d master b%d up", handVNI, handVNI),
		fmt.Sprintf("link set k%d master b%d up", handVNI, handVNI),
		fmt.Sprintf("link set b%d up", handVNI),
		fmt.Sprintf("neigh add %s lladdr %s dev v%d nud permanent", other.addr, other.mac, handVNI))
	mustFeed(t, strings.Join([]string{
		fmt.Sprintf("link set dev v%d learning off", handVNI),
		fmt.Sprintf("link set dev k%d learning off flood off", handVNI),
		fmt.Sprintf("fdb add %s dev k%d master static", e.mac, handVNI),
		fmt.Sprintf("fdb add %s dev v%d dst %s self permanent", other.mac, handVNI, other.host.Addr),
	}, "\n"), "bridge", "-n", string(e.fabric), "-batch", "-")
	e.sandbox.NS.batch(t,
		fmt.Sprintf("addr add %s/24 dev eth0", e.addr),
		"link set eth0 up")
}

// Endpoint is an attached sandbox.
type Endpoint struct {
	Sandbox    *Sandbox
	Attachment Attachment
}

// guard copies the bridge rules of the product's fabric on this host, as they
// are for the endpoint, with the hand's device and addresses in its place.
func (e *handEnd) guard(like *Endpoint) {
	t := e.host.lab.t
	t.Helper()
	rules := must(t, "ip", "netns", "exec", string(like.Sandbox.Host.Fabric), "nft", "list", "ruleset")
	a := like.Attachment
	// nft cannot read back what it prints of this rule; no IPv4 packet meets it.
	rules = regexp.MustCompile(`(?m)^.*@th,64,128.*\n`).ReplaceAllString(rules, "")
	rules = strings.NewReplacer(
		"k"+a.ID[:12], fmt.Sprintf("k%d", handVNI),
		a.MAC, e.mac,
		a.Addr().String(), e.addr.String(),
	).Replace(rules)
	mustFeed(t, rules, e.fabric.Enter("nft", "-f", "-")...)
}
