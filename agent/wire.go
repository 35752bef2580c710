package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/discovery/gossip"
	"github.com/weft-net/weft/discovery/ipam"
	"github.com/weft-net/weft/discovery/pool"
	"github.com/weft-net/weft/discovery/pool/embedded"
	"github.com/weft-net/weft/dns"
	"github.com/weft-net/weft/overlay"
	"github.com/weft-net/weft/overlay/linux"
)

// New makes an agent of the real parts: this host's kernel, memberlist, Consul
// or the embedded store.
func New(cfg Config, log *slog.Logger) *Agent {
	names := dns.New(dns.Config{
		TTL: cfg.DNS.TTL, Upstreams: cfg.DNS.Upstreams, ResolvConf: cfg.DNS.ResolvConf,
		ForwardSingleLabel: cfg.DNS.ForwardSingle, Log: log,
	})
	return Assemble(cfg, Parts{
		Names:         names,
		Host:          host{fabric: linux.FabricPath(cfg.Fabric)},
		OpenOverlay:   func() (Overlay, error) { return openKernel(cfg, log) },
		OpenPool:      openPool(log),
		OpenDirectory: func(c gossip.Config) (Directory, error) { return opened[Directory](gossip.New(c)) },
		OpenLeases:    func(c ipam.Config) (Leases, error) { return opened[Leases](ipam.New(c)) },
		OpenDB:        openBolt,
	}, log)
}

// kernelSide is the overlay with what the agent asks of the kernel beside it.
type kernelSide struct {
	*overlay.Overlay
	*linux.Kernel
}

func openKernel(cfg Config, log *slog.Logger) (Overlay, error) {
	k, err := linux.Open(linux.Config{Fabric: cfg.Fabric, Log: log})
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	return kernelSide{overlay.New(k, filepath.Base(cfg.Fabric), log), k}, nil
}

// Clean and Identify are the overlay's, not the bare kernel's.
func (k kernelSide) Clean(ctx context.Context) error { return k.Overlay.Clean(ctx) }

func (k kernelSide) Identify(ctx context.Context, sandbox string) (uint64, error) {
	return k.Overlay.Identify(ctx, sandbox)
}

func (k kernelSide) OpenProbe(vni uint32) (Probe, error) {
	return opened[Probe](k.Kernel.OpenProbe(vni))
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
func openPool(log *slog.Logger) func(StoreConfig, string, string) (Pool, EmbeddedStore, error) {
	return func(c StoreConfig, file, cluster string) (Pool, EmbeddedStore, error) {
		if c.Consul != "" {
			p, err := opened[Pool](newPool(c, cluster, nil, log))
			return p, nil, err
		}
		if c.Embedded != "" {
			file = c.Embedded + ".db"
		}
		store := embedded.New(embedded.Config{File: file, Socket: c.Embedded, Log: log})
		p, err := opened[Pool](newPool(c, cluster, store.Client(), log))
		return p, store, err
	}
}

func newPool(c StoreConfig, cluster string, client *http.Client, log *slog.Logger) (*pool.Pool, error) {
	return pool.New(pool.Config{
		Address: c.Consul, Cluster: cluster, HTTPClient: client, Prefix: c.Prefix,
		TokenFile: c.TokenFile, CAFile: c.CAFile, Log: log,
	})
}

// host answers the agent's questions about the machine.
type host struct{ fabric string }

func (host) Privileged() error                { return linux.Privileged() }
func (host) DefaultAddr() (netip.Addr, error) { return linux.DefaultAddr() }
func (host) Routes() ([]netip.Prefix, error)  { return linux.LocalRoutes() }
func (h host) FabricPath() string             { return h.fabric }

// MakeFabric makes the fabric namespace, if it is not there.
func MakeFabric(cfg Config) error {
	if err := linux.MakeFabric(linux.FabricPath(cfg.Fabric)); err != nil {
		return fmt.Errorf("fabric: %w", err)
	}
	return nil
}

// Cleanup removes everything of ours from this host's kernel. The data
// directory is kept; a running agent is an error.
func Cleanup(ctx context.Context, cfg Config, log *slog.Logger) error {
	dir, err := openDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = dir.close() }()
	k, err := openKernel(cfg, log)
	if err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return errors.Join(k.Clean(ctx), k.Close())
}

// Hint is the next command to type after an error of the daemon itself.
func Hint(err error) string {
	if e, ok := errors.AsType[*api.Error](explain("agentd", err)); ok && e.Hint != "" {
		return e.Hint
	}
	return "agentd --help"
}
