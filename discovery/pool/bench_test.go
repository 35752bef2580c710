package pool_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/weft-net/weft/discovery/discoverytest"
	"github.com/weft-net/weft/discovery/pool"
)

// BenchmarkClaim claims blocks from 16 hosts at once; one op is one claim.
func BenchmarkClaim(b *testing.B) {
	b.Run("embedded", func(b *testing.B) { benchClaim(b, embeddedStore(b)) })
	b.Run("consul", func(b *testing.B) {
		benchClaim(b, store{url: discoverytest.StartConsul(b, discoverytest.ConsulConfig{}).URL})
	})
}

func benchClaim(b *testing.B, s store) {
	c := newCluster(b, s)
	n := c.network(b, "blue", "11.0.0.0/8") // 262144 blocks: none is met twice often
	type member struct {
		p *pool.Pool
		h pool.Host
	}
	members := make(chan member, 16)
	for i := range cap(members) {
		p, h := c.member(b, fmt.Sprint("host", i), byte(i+10))
		members <- member{p, h}
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for range cap(members) {
		m := <-members
		wg.Go(func() {
			own := map[netip.Prefix]bool{}
			for i := range b.N / cap(members) {
				got, err := m.p.ClaimBlock(b.Context(), n, m.h.ID, uint64(i), false, func(p netip.Prefix) bool { return own[p] })
				if err != nil {
					b.Error(err)
					return
				}
				own[got.Prefix] = true
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
}
