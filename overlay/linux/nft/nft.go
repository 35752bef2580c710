// Package nft keeps the packet filter of overlay/linux: one nftables table in the
// host's namespace and one in the fabric's. overlay writes the rules as a text.
// nft(8) loads the text into an empty namespace, and the kernel tells this package
// what that made: just this is installed, and compared with the tables. The
// elements of sets and maps, which overlay chooses, go to the kernel directly: no
// attachment waits for a program.
package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"

	"github.com/weft-net/weft/overlay"
)

// Config says where the tables are.
type Config struct {
	// Host and Fabric are open network namespaces. They stay the caller's, who
	// closes them after the Tables.
	Host, Fabric *os.File
	// Guards are chains of the filter of iptables(8) whose changes are signalled
	// like those of our tables.
	Guards []string
	// Moved is told which published ports came and went, after it has happened. May
	// be nil.
	Moved func(came, gone []overlay.NFElement) error
	Log   *slog.Logger // nil: discarded
}

// Tables are our two tables. Its methods are safe for concurrent use.
type Tables struct {
	host, fabric *table
}

// New opens a socket in each namespace. It changes nothing.
func New(cfg Config) (*Tables, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h, err := open(cfg, cfg.Host, overlay.Host, nftables.Table{Name: "weft", Family: nftables.TableFamilyINet})
	if err != nil {
		return nil, err
	}
	f, err := open(cfg, cfg.Fabric, overlay.Fabric, nftables.Table{Name: "weft", Family: nftables.TableFamilyBridge})
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return &Tables{h, f}, nil
}

// Close releases the sockets. What is in the kernel stays.
func (t *Tables) Close() error { return errors.Join(t.host.close(), t.fabric.close()) }

func (t *Tables) both() []*table { return []*table{t.host, t.fabric} }

// List returns the tables that there are, and the elements of their sets. The
// Rules of a table are those that Put last made, if the kernel has just them;
// otherwise, and before the first Put, each line is a comment.
func (t *Tables) List(ctx context.Context) (all []overlay.Object, err error) {
	for _, one := range t.both() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		objects, err := one.list()
		if err != nil {
			return nil, fmt.Errorf("list nftables in the %s namespace: %w", one.place, err)
		}
		all = append(all, objects...)
	}
	return all, nil
}

// Put makes the tables among objects so, and then adds the elements. A table
// that is as it should be is left alone; another one is replaced in one
// transaction with the elements that it had and those among objects. What fails
// stops nothing else; the error holds an *overlay.ObjectError for each.
func (t *Tables) Put(ctx context.Context, objects ...overlay.Object) error {
	if !slices.ContainsFunc(objects, isTable) { // an attachment's: no thread is woken for them
		return errors.Join(t.host.put(ctx, objects), t.fabric.put(ctx, objects))
	}
	var errs [2]error
	var wg sync.WaitGroup
	for i, one := range t.both() {
		wg.Go(func() { errs[i] = one.put(ctx, objects) })
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func isTable(o overlay.Object) bool {
	_, ok := o.(overlay.NFTable)
	return ok
}

// Delete removes elements and tables. An absent one is no error; otherwise as
// Put.
func (t *Tables) Delete(ctx context.Context, objects ...overlay.Object) error {
	return errors.Join(t.host.delete(ctx, objects), t.fabric.delete(ctx, objects))
}

// HasFilter reports whether the host's namespace has the table that iptables(8)
// makes for its filter.
func (t *Tables) HasFilter(ipv6 bool) (bool, error) {
	family := nftables.TableFamilyIPv4
	if ipv6 {
		family = nftables.TableFamilyIPv6
	}
	return t.host.has(nftables.Table{Name: "filter", Family: family})
}
