package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux/netns"
	"github.com/weft-net/weft/overlay/linux/nft"
)

// need is a part of the kernel with the way to find out whether it is there: a call
// within an empty namespace, or rules that nft(8) loads into one. Trying loads a
// module that is not loaded yet, as the first use would.
type need struct {
	module, since, what string
	rest                bool // works without it
	try                 func(ns *os.File) error
	rules               string
}

// needs are all of them.
var needs = []need{
	{module: "veth", since: "2.6.24", what: "endpoints", try: canMake("veth")},
	{module: "bridge", since: "4.18", what: "networks", try: canMake("bridge")},
	{module: "vxlan", since: "3.12", what: "traffic between hosts", try: canMake("vxlan")},
	{module: "af_packet", since: "2.2", rest: true, what: "probes of the tunnel; announcements of addresses with a new MAC address", try: canOpenPacket},
	{module: "nf_conntrack_netlink", since: "2.6.14", rest: true, try: canListConnections,
		what: "clients that keep sending UDP to a published port when it moves: they reach the endpoint of before"},
	{module: "ipv6", since: "2.2", rest: true, what: "networks with IPv6 subnets", try: hasIPv6},
	{module: "SO_NETNS_COOKIE", since: "5.14", rest: true, what: "endpoints: a namespace made again under its old name is taken for the old one", try: hasCookie},

	{module: "nf_tables", since: "3.18", what: "the packet filter: isolation, egress, published ports", rules: inet("filter", "prerouting", -300, "")},
	{module: "nf_tables_bridge", since: "3.18", what: "the guard against forged addresses",
		rules: "table bridge try { chain c { type filter hook prerouting priority -300; meta pkttype != other drop; }; }"},
	{module: "nft_ct", since: "3.18", what: "answers to what endpoints and hosts ask", rules: inet("filter", "forward", 0, "ct state established accept; ct status dnat accept")},
	{module: "nft_ct", since: "4.9", what: "tunnel packets and questions for names that are not tracked", rules: inet("filter", "prerouting", -300, "notrack")},
	{module: "nft_chain_nat", since: "5.2", what: "egress and published ports", rules: inet("nat", "prerouting", -100, "")},
	{module: "nft_masq", since: "5.2", what: "egress", rules: inet("nat", "postrouting", 100, "masquerade")},
	{module: "nft_nat", since: "5.2", what: "published ports", rules: inet("nat", "prerouting", -100, "dnat ip to 192.0.2.1")},
	{module: "nft_redir", since: "5.2", what: "answers to questions that endpoints ask other DNS servers", rules: inet("nat", "prerouting", -100, "meta l4proto udp redirect to :4797")},
	{module: "nft_fib_inet", since: "4.10", what: "published ports; tunnel packets of strangers", rules: inet("filter", "prerouting", -300, "fib daddr type local accept")},
	{module: "nft_reject_inet", since: "3.18", what: "an answer to a host that may not reach an endpoint: it waits instead", rules: inet("filter", "output", 0, "reject with icmpx type admin-prohibited")},
}

// inet is a table with one chain and a rule.
func inet(kind, hook string, priority int, rule string) string {
	return fmt.Sprintf("table inet try { chain c { type %s hook %s priority %d; %s; }; }", kind, hook, priority, rule)
}

// Needs tries all that weft uses of the kernel, in namespaces of its own. A missing
// nft(8) is not told here.
func Needs(ctx context.Context) []overlay.Need {
	all := make([]overlay.Need, len(needs))
	var texts []string
	for i, n := range needs {
		all[i] = overlay.Need{Module: n.module, Since: n.since, For: n.what, Rest: n.rest}
		if n.try == nil {
			texts = append(texts, n.rules)
		} else {
			all[i].Err = tried(n.try)
		}
	}
	errs := nft.Try(ctx, texts...)
	for i, n := range needs {
		if at := slices.Index(texts, n.rules); n.try == nil && at >= 0 {
			all[i].Err = errs[at]
		}
	}
	return all
}

// tried makes an empty namespace for one try.
func tried(try func(ns *os.File) error) error {
	ns, err := netns.Unnamed(func() error { return nil })
	if err != nil {
		return err
	}
	return errors.Join(try(ns), ns.Close())
}

func canMake(kind string) func(*os.File) error {
	return func(ns *os.File) error {
		h, err := netns.Handle(ns, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		a := netlink.LinkAttrs{Name: "try", TxQLen: -1}
		switch kind {
		case "veth":
			return h.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "try1"})
		case "vxlan":
			return h.LinkAdd(&netlink.Vxlan{LinkAttrs: a, VxlanId: 1, Port: 4799})
		}
		return h.LinkAdd(&netlink.Bridge{LinkAttrs: a})
	}
}

func canListConnections(ns *os.File) error {
	h, err := netns.Handle(ns, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = netns.Repeat(func() ([]*netlink.ConntrackFlow, error) {
		return h.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	})
	return err
}

func canOpenPacket(ns *os.File) error {
	return netns.Within(ns, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return os.NewSyscallError("socket", err)
	})
}

func hasIPv6(ns *os.File) error {
	return netns.Within(ns, func() error {
		_, err := os.Stat("/proc/sys/net/ipv6")
		return err
	})
}

func hasCookie(ns *os.File) error {
	_, err := netns.Cookie(ns)
	return err
}

// unsupported reports whether an error says that the kernel lacks what was asked for.
// Netfilter's netlink says so with EINVAL.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT)
}

// lacking names the module of a kind of device that the kernel does not know.
func lacking(module string, err error) error {
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return &overlay.Remedy{Err: fmt.Errorf("the kernel has no module %s: %w", module, err), Command: "modprobe " + module}
}
