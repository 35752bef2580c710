package discoverytest

import (
	"fmt"
	"testing"
	"time"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/table"
)

// restarted is hosts that all began anew at once, each with what it remembers of the
// others: no member's view is complete.
func restarted(t *testing.T, n int, cut func(a, b int) bool) (c *Cluster, nodes []*Node) {
	t.Helper()
	c = New(time.Unix(1e9, 0), uint64(n))
	index := map[discovery.HostID]int{}
	id := func(i int) (id discovery.HostID) {
		for k := range id {
			id[k] = byte((i + 1) * (2*k + 37))
		}
		id[15] = byte(i)
		index[id] = i
		return id
	}
	c.SetFaults(Faults{Drop: func(a, b discovery.HostID, _ table.Kind) bool { return cut(index[a], index[b]) }})
	start := func(i int, inc uint64, saved []byte) *Node {
		node, err := c.Start(Config{Self: id(i), Incarnation: inc, Header: discovery.Header{Name: fmt.Sprintf("h%d", i)}, Saved: saved})
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	for i := range n {
		nodes = append(nodes, start(i, 1, nil))
	}
	if _, err := c.Await(time.Minute, c.Converged); err != nil {
		t.Fatal(err)
	}
	saved := make([][]byte, n)
	for i, node := range nodes {
		saved[i] = node.Kill()
	}
	c.wires = nil // what was under way arrives nowhere
	for i := range nodes {
		nodes[i] = start(i, 2, saved[i])
	}
	return c, nodes
}

func complete(nodes []*Node) error {
	for i, n := range nodes {
		if !n.View().Complete {
			return fmt.Errorf("host %d is not complete", i)
		}
	}
	return nil
}

func TestAllHostsStartAtOnce(t *testing.T) {
	for _, n := range []int{2, 3, 17, 40, 120} {
		c, nodes := restarted(t, n, func(int, int) bool { return false })
		took, err := c.Await(10*time.Second, func() error { return complete(nodes) })
		if err != nil {
			t.Errorf("%d hosts: %v", n, err)
		}
		t.Logf("%d hosts complete after %v", n, took)
	}
}

// Each host has one that it never hears itself, though others say that it lives, and
// nobody is complete whose word would do instead.
func TestEverybodyHasOneWhomHeNeverHears(t *testing.T) {
	cut := func(a, b int) bool { return a/2 == b/2 }
	c, nodes := restarted(t, 4, cut)
	for _, n := range nodes {
		n.probed = c.now.Add(time.Hour) // that probes go by others is played below
	}
	took, err := c.Await(3*time.Minute, func() error {
		for i, n := range nodes {
			j := c.rand.IntN(len(nodes))
			if i == j || cut(i, j) || c.rand.IntN(50) > 0 {
				continue
			}
			if err := n.x.Acked(c.now, nodes[j].t.Self(), nodes[j].x.Ack()); err != nil {
				return err
			}
		}
		return complete(nodes)
	})
	if err != nil || took < time.Minute {
		t.Errorf("complete after %v, %v, want it a minute after the start", took, err)
	}
}
