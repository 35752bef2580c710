// Package metrics writes what an agent knows of itself in Prometheus' text format. It
// is pure but for the process and the Go runtime, of which it asks: facts are handed
// in, and it counts nothing by itself.
package metrics

import (
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
)

// ContentType is that of what Write writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Facts are what one scrape tells.
type Facts struct {
	Build  api.Version
	Status api.Status // with every check
	Names  dns.Stats
	// Upstreams are those that Names asks.
	Upstreams []dns.Upstream
	Member    *Member // nil: this host is none
}

// Member is what only a member has.
type Member struct {
	View     discovery.View
	Tunnels  []tunnel.Proof
	Networks []discovery.Network
	Active   int                       // networks with devices here
	Blocks   []discovery.HeaderNetwork // of this host
	Leases   []ipam.Owned              // of this host

	Gossip    gossip.Stats
	Pool      pool.Stats
	Overlay   overlay.Stats
	Drops     []overlay.Drop
	Endpoints endpoint.Stats
}

// Write writes one scrape.
func Write(w io.Writer, f Facts) error {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector(f))
	families, err := r.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
	}
	return nil
}

// collector is facts as a prometheus.Collector.
type collector Facts

// Describe implements prometheus.Collector. It says nothing: which series there are
// depends on the facts.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := sink(out)
	s.gauge(build, 1, c.Build.Version, c.Build.Commit, c.Build.Go)
	s.status(c.Status)
	s.names(c.Names, c.Upstreams)
	if m := c.Member; m != nil {
		s.members(m.View)
		s.tunnels(m.Tunnels)
		s.networks(m)
		s.gossip(m.Gossip)
		s.store(m.Pool)
		s.kernel(m.Overlay, m.Drops)
		s.requests(m.Endpoints)
	}
}

// sink takes metrics.
type sink chan<- prometheus.Metric

func (s sink) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func (s sink) counter(d *prometheus.Desc, value uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

// took is how often something was done, and the time of all of it.
func (s sink) took(d *prometheus.Desc, count uint64, sum time.Duration, labels ...string) {
	s <- prometheus.MustNewConstSummary(d, count, sum.Seconds(), nil, labels...)
}
