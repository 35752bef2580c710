package bench_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/agent/agenttest"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
)

// crowdVariable makes this test binary one member of a cluster that announces
// thousands of endpoints, none of which it has: the members that hear of them
// are what is measured.
const crowdVariable = "WEFT_TEST_CROWD"

// crowd says which member to be.
type crowd struct {
	Token   string // of the cluster
	Bind    netip.AddrPort
	Join    netip.AddrPort
	Network discovery.NetworkID
	VNI     uint32
	Subnet  netip.Prefix // the endpoints have its addresses, from the end
	Size    int
}

// beCrowd is the crowd's whole life: it ends when it is killed.
func beCrowd(arguments string) error {
	var c crowd
	if err := json.Unmarshal([]byte(arguments), &c); err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	g, err := gossip.New(cfg)
	if err != nil {
		return err
	}
	ctx := context.Background()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	if _, err := g.Join(ctx, []netip.AddrPort{c.Join}, func(string) {}); err != nil {
		return err
	}
	return <-ended
}

func (c crowd) config() (gossip.Config, error) {
	cluster, key, err := secretsOf(c.Token)
	if err != nil {
		return gossip.Config{}, err
	}
	cfg := gossip.Config{
		Self: discovery.HostID{0xcc}, Name: "crowd", Version: "0", Incarnation: 1, Nonce: 1,
		Bind: c.Bind, Cluster: cluster, Keys: [][]byte{key},
		Header: discovery.Header{
			VTEP: c.Bind.Addr(), TunnelPort: 4799, MTU: 1500,
			Networks: []discovery.HeaderNetwork{{VNI: c.VNI, ID: c.Network}},
		},
	}
	first := c.Subnet.Addr().As4()
	last := binary.BigEndian.Uint32(first[:]) + 1<<(32-c.Subnet.Bits()) - 2
	for i := range c.Size {
		var e discovery.Endpoint
		binary.BigEndian.PutUint64(e.ID[:], uint64(i+1)<<32)
		var addr [4]byte
		binary.BigEndian.PutUint32(addr[:], last-uint32(i))
		e.Network, e.IPv4, e.Seq = c.Network, netip.AddrFrom4(addr), 1
		e.MAC = discovery.MAC{0x0e, 0x01, addr[0], addr[1], addr[2], addr[3]}
		e.Name, e.Runtime = fmt.Sprintf("crowd%d", i), "netns"
		cfg.Endpoints = append(cfg.Endpoints, e)
	}
	return cfg, nil
}

// secretsOf reads the cluster id and the gossip key out of a join token.
func secretsOf(token string) (cluster [16]byte, key []byte, err error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(token), "weft1."))
	if err != nil || len(b) < 4 {
		return cluster, nil, fmt.Errorf("token: %d bytes, %w", len(b), err)
	}
	var t struct {
		Cluster string `json:"c"`
		Key     []byte `json:"k"`
	}
	if err := json.Unmarshal(b[:len(b)-4], &t); err != nil {
		return cluster, nil, err
	}
	_, err = hex.Decode(cluster[:], []byte(t.Cluster))
	return cluster, t.Key, err
}

// What an agent's memory grows by when it hears of ten thousand endpoints of
// another host, resolves their names and programs their entries.
func BenchmarkMemoryOfTenThousandRemoteEndpoints(b *testing.B) {
	const size = 10_000
	l := agenttest.NewLab(b, agenttest.Config{Hosts: 3})
	one, two, empty := l.Host(1), l.Host(2), l.Host(3)
	one.Start()
	two.Start()
	one.Init()
	two.Join(one)
	n := one.CreateNetwork("blue", "--subnet", "10.96.0.0/16")
	s, _ := one.Endpoint("blue", "here", "--ip", "10.96.1.9") // the crowd has the last ones
	dns := s.Resolver(n.Gateway())
	before := residentMemory(b, one)

	join(b, empty, crowd{Token: read(b, one.TokenFile()), Bind: netip.AddrPortFrom(empty.Addr, 4798),
		Join: netip.AddrPortFrom(one.Addr, 4798), Network: networkID(b, n.ID), VNI: n.VNI,
		Subnet: netip.MustParsePrefix("10.96.0.0/16"), Size: size})
	took := agenttest.Eventually(b, time.Minute, "the crowd is programmed", func() error {
		held := strings.Count(one.Fabric.Must(b, "ip", "neigh", "show", "nud", "permanent"), "\n")
		if held < size {
			return fmt.Errorf("%d neighbour entries", held)
		}
		if r, err := dns.Ask(agenttest.FQDN("crowd9999", "blue"), time.Second); err != nil || len(r.Addrs) != 1 {
			return fmt.Errorf("the last name of the crowd: %+v, %v", r, err)
		}
		return nil
	})
	after := residentMemory(b, one)
	b.Logf("%d remote endpoints: resident memory %.1f MiB, %.1f MiB without them; resolved and programmed %v after the join began",
		size, after, before, took.Round(time.Millisecond))
	b.ReportMetric(after, "MiB")
}

// join starts the crowd on a host that has no agent.
func join(b *testing.B, h *agenttest.Host, c crowd) {
	b.Helper()
	arguments, err := json.Marshal(c)
	if err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	at := &agenttest.Sandbox{NS: h.NS, Host: h}
	at.Background("env", crowdVariable+"="+string(arguments), self)
}

func read(b *testing.B, path string) string {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

func networkID(b *testing.B, text string) (id discovery.NetworkID) {
	b.Helper()
	if err := id.UnmarshalText([]byte(text)); err != nil {
		b.Fatal(err)
	}
	return id
}
