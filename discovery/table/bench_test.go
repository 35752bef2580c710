package table_test

import (
	"testing"

	"github.com/weft-net/weft/discovery"
)

// BenchmarkView is what a host does on every change anywhere in a cluster of a
// thousand hosts with a hundred endpoints each.
func BenchmarkView(b *testing.B) {
	x := thousandOwners(b)
	x.View()
	for b.Loop() {
		x.Announce([]discovery.Endpoint{endpoint(0, 200)}, nil)
		x.Announce(nil, []discovery.EndpointID{endpointID(0, 200)})
		x.View()
	}
}

// BenchmarkSave is what a host writes down after changes in such a cluster.
func BenchmarkSave(b *testing.B) {
	x := thousandOwners(b)
	for b.Loop() {
		if _, err := x.MarshalBinary(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJoin is what a new host and the one that it asks do until the new one
// holds the states of such a cluster.
func BenchmarkJoin(b *testing.B) {
	x := thousandOwners(b)
	for i := 0; b.Loop(); i++ {
		converge(x, exchange(b, 5000+i, header(5000)))
	}
}
