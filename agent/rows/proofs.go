package rows

import (
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/tunnel"
)

// Proofs writes what was proven of the tunnel.
func Proofs(all []tunnel.Proof) []api.Proof {
	out := make([]api.Proof, 0, len(all))
	for _, p := range all {
		out = append(out, api.Proof{
			Peer: p.Name, Shares: p.Shares, Out: string(p.Out), In: string(p.In), Size: string(p.Size), Bulk: string(p.Bulk), MTU: p.MTU,
			Last: p.Last.Microseconds(), Median: p.Median.Microseconds(), Worst: p.Worst.Microseconds(),
			Loss: p.Loss, At: p.At, Why: p.Why, Hint: p.Hint,
		})
	}
	return out
}

// Ways are the proofs, each with what it comes to.
func Ways(all []tunnel.Proof) []api.MeshWay {
	out := make([]api.MeshWay, 0, len(all))
	for i, p := range Proofs(all) {
		out = append(out, api.MeshWay{State: string(all[i].State()), Proof: p})
	}
	return out
}

// Tunnels puts what was proven of the tunnel to them beside the members.
func Tunnels(members []api.Member, proofs []tunnel.Proof, now time.Time) {
	by := make(map[string]tunnel.Proof, len(proofs))
	for _, p := range proofs {
		by[p.Peer.String()] = p
	}
	for i := range members {
		p, ok := by[members[i].ID]
		if !ok || !p.Alive {
			continue
		}
		members[i].Tunnel = string(p.State())
		if !p.At.IsZero() {
			members[i].TunnelAge = now.Sub(p.At).Seconds()
		}
	}
}
