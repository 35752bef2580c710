package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
	"github.com/weft-net/weft/agent/conflist"
	"github.com/weft-net/weft/agent/datadir"
	"github.com/weft-net/weft/agent/diagnose"
	"github.com/weft-net/weft/agent/docker"
	"github.com/weft-net/weft/agent/endpoint"
	"github.com/weft-net/weft/agent/membership"
	"github.com/weft-net/weft/agent/recent"
	"github.com/weft-net/weft/agent/tunnel"
	"github.com/weft-net/weft/discovery/boltfile"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/pool/embedded"
	"github.com/weft-net/weft/discovery/strict"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux"
	"github.com/weft-net/weft/overlay/linux/inside"
)

// New makes an agent of the real parts: this host's kernel, memberlist, Consul
// or the embedded store. The zero Sockets are bound by the agent itself.
func New(cfg config.Config, sockets Sockets, log *slog.Logger) *Agent {
	log, lines := recent.Keep(log)
	names := dns.New(dns.Config{
		TTL: cfg.DNS.TTL, Upstreams: cfg.DNS.Upstreams, ResolvConf: cfg.DNS.ResolvConf,
		ForwardSingleLabel: cfg.DNS.ForwardSingle, RedirectPort: overlay.RedirectPort, Log: log,
	})
	return Assemble(cfg, Parts{
		OpenDocker:    openDocker(cfg, sockets.Docker, log),
		Lines:         lines,
		Names:         names,
		Sockets:       sockets,
		Host:          host{fabric: linux.FabricPath(cfg.Fabric)},
		Within:        sandboxes{},
		Rooms:         rooms{},
		OpenOverlay:   func(repaired func(overlay.Repair)) (Overlay, error) { return openKernel(cfg, repaired, log) },
		OpenPool:      openPool(log),
		OpenDirectory: func(c gossip.Config) (Directory, error) { return opened[Directory](gossip.New(c)) },
		OpenLeases:    func(c ipam.Config) (Leases, error) { return opened[Leases](ipam.New(c)) },
		OpenDB:        datadir.OpenDB,
	}, log)
}

// openDocker opens the side of Docker, unless several agents share this machine
// and this one was not told which plugin socket is its own.
func openDocker(cfg config.Config, l net.Listener, log *slog.Logger) func(docker.Agent) Docker {
	if cfg.Docker.Plugin == "" && l == nil {
		return nil
	}
	return func(a docker.Agent) Docker {
		return docker.New(docker.Config{Socket: cfg.Docker.Socket, Plugin: cfg.Docker.Plugin, Listener: l, Log: log}, a)
	}
}

// kernelSide is the overlay with what the agent asks of the kernel beside it.
type kernelSide struct {
	*overlay.Overlay
	*linux.Kernel
}

func openKernel(cfg config.Config, repaired func(overlay.Repair), log *slog.Logger) (Overlay, error) {
	k, err := linux.Open(linux.Config{Fabric: cfg.Fabric, Log: log})
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	o := overlay.New(k, filepath.Base(cfg.Fabric), log)
	o.OnRepair(repaired)
	return kernelSide{o, k}, nil
}

// Clean, Identify and Inspect are the overlay's, not the bare kernel's.
func (k kernelSide) Clean(ctx context.Context) error { return k.Overlay.Clean(ctx) }

func (k kernelSide) Identify(ctx context.Context, sandbox string) (uint64, error) {
	return k.Overlay.Identify(ctx, sandbox)
}

func (k kernelSide) Inspect(ctx context.Context, ep overlay.Endpoint) ([]string, error) {
	return k.Overlay.Inspect(ctx, ep)
}

func (k kernelSide) OpenProbe(vni uint32) (tunnel.Socket, error) {
	return opened[tunnel.Socket](k.Kernel.OpenProbe(vni))
}

func (k kernelSide) OpenBulk(vni uint32) (tunnel.Bulk, error) {
	return opened[tunnel.Bulk](k.Kernel.OpenBulk(vni))
}

func (k kernelSide) OpenTap(v6 bool, port uint16, vni uint32) (tunnel.Tap, error) {
	return opened[tunnel.Tap](k.Kernel.OpenTap(v6, port, vni))
}

// opened makes an interface of a part that was opened, and a nil interface of
// one that was not: a nil pointer in an interface is not nil.
func opened[I any, T interface{ *E }, E any](part T, err error) (I, error) {
	var none I
	if err != nil {
		return none, err
	}
	return any(part).(I), nil
}

// openPool opens the one client code path to either store.
func openPool(log *slog.Logger) func(config.Store, string, string, *strict.Ledger) (Pool, EmbeddedStore, error) {
	return func(c config.Store, file, cluster string, refused *strict.Ledger) (Pool, EmbeddedStore, error) {
		cfg := pool.Config{Address: c.Consul, Cluster: cluster, Prefix: c.Prefix, TokenFile: c.TokenFile, CAFile: c.CAFile,
			UserAgent: api.UserAgent(), Refused: refused, Log: log}
		if c.Consul != "" {
			p, err := pool.New(cfg)
			return PoolOf(p), nil, err
		}
		if c.Embedded != "" {
			file = c.Embedded + ".db"
		}
		store := embedded.New(embedded.Config{File: file, Socket: c.Embedded, Log: log, Damaged: func(d boltfile.Damage) {
			refused.Add(strict.Files, ofDamage(d, "the members write back what they have"))
		}})
		cfg.HTTPClient, cfg.Socket = store.Client(), c.Embedded
		p, err := pool.New(cfg)
		return PoolOf(p), store, err
	}
}

// host answers the agent's questions about the machine.
type host struct{ fabric string }

func (host) Privileged() error                { return linux.Privileged() }
func (host) DefaultAddr() (netip.Addr, error) { return linux.DefaultAddr() }
func (host) Routes() ([]netip.Prefix, error)  { return linux.LocalRoutes() }
func (host) Addrs() ([]netip.Addr, error)     { return linux.LocalAddrs() }
func (h host) FabricPath() string             { return h.fabric }

func (host) Neighbours() ([]overlay.NeighbourTable, error) { return linux.NeighbourTables() }

// sandboxes are looked into by the package that can.
type sandboxes struct{}

func (sandboxes) Look(sandbox string, c overlay.Crossing, arrives bool) (overlay.Inside, error) {
	return inside.Look(sandbox, c, arrives)
}

func (sandboxes) Try(ctx context.Context, sandbox string, c overlay.Crossing) (overlay.Trial, time.Duration, error) {
	return inside.Try(ctx, sandbox, c)
}

func (sandboxes) Ping(ctx context.Context, sandbox string, e overlay.Echoes) ([]overlay.Echo, error) {
	return inside.Ping(ctx, sandbox, e)
}

func (host) HasAddr(a netip.Addr) (bool, error) { return linux.HasAddr(a) }

func (host) BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// MakeFabric makes the fabric namespace, if it is not there.
func MakeFabric(cfg config.Config) error {
	if err := linux.MakeFabric(linux.FabricPath(cfg.Fabric)); err != nil {
		return fmt.Errorf("fabric: %w", err)
	}
	return nil
}

// Cleanup removes everything of ours from this host's kernel, and the resolv.conf
// files of named namespaces. The data directory is kept; a running agent is an
// error.
func Cleanup(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	dir, err := datadir.Open(cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	conflist.New(cfg.ConflistDir(), cfg.Socket(), log).Set(nil, true)
	k, err := openKernel(cfg, nil, log)
	if err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return errors.Join(k.Clean(ctx), k.Close(), endpoint.CleanResolv(dir))
}

// IsCopy reports whether the agent ended because its host runs elsewhere: to start it
// again does not help.
func IsCopy(err error) bool { return errors.Is(err, membership.ErrCloned) }

// Hint is the next command to type after an error of the daemon itself.
func Hint(err error) string {
	if e, ok := errors.AsType[*membership.ClonedError](err); ok {
		return e.Hint()
	}
	if e, ok := errors.AsType[*api.Error](diagnose.Explain("agentd", err)); ok && e.Hint != "" {
		return e.Hint
	}
	return "agentd --help"
}
