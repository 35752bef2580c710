package ipam

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"

	"github.com/weft-net/weft/discovery"
)

// A panic in what ipam calls is an error of that call: addresses, blocks and the
// claim under way are held over such a call, and whoever waits for them would wait
// for ever.

// caught makes a panic the error of the function that defers it.
func caught(log *slog.Logger, what string, err *error) {
	if p := recover(); p != nil {
		log.Error("a call panicked", "call", what, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("%s: internal error: %v", what, p)
	}
}

// caughtPool is a Pool that does not panic.
type caughtPool struct {
	Pool
	log *slog.Logger
}

func (p caughtPool) ClaimBlock(ctx context.Context, n discovery.Network, host discovery.HostID, nonce uint64, v6 bool, taken func(netip.Prefix) bool) (b discovery.Block, err error) {
	defer caught(p.log, "claim block", &err)
	return p.Pool.ClaimBlock(ctx, n, host, nonce, v6, taken)
}

func (p caughtPool) ReleaseBlock(ctx context.Context, b discovery.Block) (err error) {
	defer caught(p.log, "release block", &err)
	return p.Pool.ReleaseBlock(ctx, b)
}

func (p caughtPool) Blocks(ctx context.Context, n discovery.Network) (all []discovery.Block, err error) {
	defer caught(p.log, "list blocks", &err)
	return p.Pool.Blocks(ctx, n)
}

func (p caughtPool) BlockAt(ctx context.Context, n discovery.Network, a netip.Addr) (b discovery.Block, held bool, err error) {
	defer caught(p.log, "find block", &err)
	return p.Pool.BlockAt(ctx, n, a)
}

func (p caughtPool) Reserve(ctx context.Context, n discovery.Network, a netip.Addr, host discovery.HostID, lent *discovery.Block) (seq uint64, err error) {
	defer caught(p.log, "reserve", &err)
	return p.Pool.Reserve(ctx, n, a, host, lent)
}

func (p caughtPool) Unreserve(ctx context.Context, id discovery.NetworkID, a netip.Addr, host discovery.HostID) (err error) {
	defer caught(p.log, "give back", &err)
	return p.Pool.Unreserve(ctx, id, a, host)
}

func (p caughtPool) Reserved(ctx context.Context, id discovery.NetworkID, within netip.Prefix) (all map[netip.Addr]discovery.Reservation, err error) {
	defer caught(p.log, "list reservations", &err)
	return p.Pool.Reserved(ctx, id, within)
}
