package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-net/weft/agent/tunnel"
)

// The series of the tunnel to each member.
var (
	tunnelUp   = series("tunnel_up", "1 while packets pass the tunnel from this host to a member (out) and from it (in), 0 while they do not; no line while it is not known.", "peer", "direction")
	tunnelSize = series("tunnel_mtu_bytes", "The largest underlay packet that passes the tunnel to a member.", "peer")
	tunnelBulk = series("tunnel_bulk_up", "1 while many packets at once pass the tunnel to a member, 0 while they do not; no line while it is not known.", "peer")
	tunnelRTT  = series("tunnel_rtt_seconds", "Round trip in the tunnel to a member, the median of the last minute.", "peer")
	tunnelLoss = series("tunnel_loss_ratio", "Requests in the tunnel to a member that had no reply, of the last ten minutes.", "peer")
	tunnelAt   = series("tunnel_proven_timestamp_seconds", "When the tunnel to a member was last proven or found failing.", "peer")
)

// tunnels says what is proven of the tunnel to each member that is alive.
func (s sink) tunnels(proofs []tunnel.Proof) {
	told := map[string]bool{}
	for _, p := range proofs {
		if told[p.Name] || !p.Alive {
			continue
		}
		told[p.Name] = true
		s.proven(tunnelUp, p.Out, p.Name, "out")
		s.proven(tunnelUp, p.In, p.Name, "in")
		s.proven(tunnelBulk, p.Bulk, p.Name)
		if p.MTU > 0 {
			s.gauge(tunnelSize, float64(p.MTU), p.Name)
		}
		if p.Median > 0 {
			s.gauge(tunnelRTT, p.Median.Seconds(), p.Name)
		}
		if !p.At.IsZero() {
			s.gauge(tunnelLoss, p.Loss/100, p.Name)
			s.gauge(tunnelAt, float64(p.At.UnixMilli())/1000, p.Name)
		}
	}
}

// proven writes a proof that is known: what is stale is not.
func (s sink) proven(d *prometheus.Desc, state tunnel.State, labels ...string) {
	if state == tunnel.OK || state == tunnel.Failing {
		s.gauge(d, truth(state == tunnel.OK), labels...)
	}
}
