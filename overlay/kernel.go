package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Kernel is the boundary to the running system. An implementation holds no
// desired state: it lists, puts and deletes what it is told.
type Kernel interface {
	// List returns every object of ours in the kernel, and those that stand
	// where ours belong.
	List(ctx context.Context) ([]Object, error)
	// Put makes each object so, whether it exists or not. One that fails stops
	// no other; the error holds an *ObjectError for each.
	Put(ctx context.Context, objects ...Object) error
	// Delete removes each object. An absent one is no error; otherwise as Put.
	Delete(ctx context.Context, objects ...Object) error
	// Plug makes the endpoint's link and leaves nothing behind when it fails.
	// It is idempotent for an equal Endpoint.
	Plug(ctx context.Context, ep Endpoint) error
	// Unplug removes the endpoint's link; nil when there is none.
	Unplug(ctx context.Context, id string) error
	// Announce tells the endpoints of this host, and the host, of new hardware
	// addresses.
	Announce(ctx context.Context, all ...Announcement) error
	// Plugged returns the ids of the endpoints whose link exists.
	Plugged(ctx context.Context) ([]string, error)
	// Identify returns the cookie of the network namespace at a path, which is
	// never given to another one until the next boot.
	Identify(ctx context.Context, sandbox string) (uint64, error)
	// Inspect returns how an endpoint's interface differs from what Plug made, in
	// words. Without differences it is empty; os.ErrNotExist: no such sandbox.
	Inspect(ctx context.Context, ep Endpoint) ([]string, error)
	// Uplinks returns the devices through which packets of endpoints leave and
	// reach the host: that of the default route and that of the VTEP.
	Uplinks(ctx context.Context, vtep netip.Addr) (Uplinks, error)
	// Bridges returns the bridges of the host behind which only namespaces and
	// machines of this host are, such as Docker's own, sorted.
	Bridges(ctx context.Context) ([]string, error)
	// Guards returns the chains of other programs' packet filters in which
	// forwarded packets may end, as the last List found them.
	Guards(ctx context.Context) ([]Guard, error)
	// Around returns what other programs have in the way of endpoints' packets. What
	// changes of it afterwards is signalled.
	Around(ctx context.Context, about Interest) (Surroundings, error)
	// Changes signals that something may have changed. Signals are coalesced;
	// the channel is closed when ctx ends.
	Changes(ctx context.Context) <-chan struct{}
	// Clean removes everything of ours and the fabric namespace.
	Clean(ctx context.Context) error
}

// ObjectError is the failure of one object, named by its command.
type ObjectError struct {
	Object   Object
	Deleting bool
	Err      error  // the kernel's word
	Fabric   string // its namespace in the command; empty: weft
}

// Error is the command and what the kernel said to it.
func (e *ObjectError) Error() string {
	return fmt.Sprintf("%s: %v", named(Command(e.Object, e.Deleting), e.Fabric), e.Err)
}

// Unwrap returns the kernel's error.
func (e *ObjectError) Unwrap() error { return e.Err }

// Command is what an operator would type to put or delete the object where the
// fabric namespace has its usual name, weft.
func Command(o Object, deleting bool) string {
	if !deleting {
		return o.String()
	}
	if d, ok := o.(interface{ Deletion() string }); ok {
		return d.Deletion()
	}
	return "undo " + o.String()
}

// named is a Command where the fabric namespace has another name.
func named(command, fabric string) string {
	if fabric == "" || fabric == "weft" {
		return command
	}
	return strings.NewReplacer(
		" -n weft ", " -n "+fabric+" ", " netns weft ", " netns "+fabric+" ", " netns exec weft ", " netns exec "+fabric+" ",
		"/run/netns/weft", "/run/netns/"+fabric,
	).Replace(command)
}

// Remedy is an error with the command to type against it.
type Remedy struct {
	Err     error
	Command string // works as it is; what follows # is a comment
}

// Error is that of Err.
func (r *Remedy) Error() string { return r.Err.Error() }

// Unwrap returns Err.
func (r *Remedy) Unwrap() error { return r.Err }

// failures joins the errors of one pass. A broken device may fail thousands of
// entries, so the text names the first few and counts the rest.
type failures []error

const failuresShown = 8

func (f failures) Error() string {
	var b strings.Builder
	for i, err := range f {
		if i == failuresShown {
			fmt.Fprintf(&b, "\nand %d more", len(f)-failuresShown)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

func (f failures) Unwrap() []error { return f }

func (f failures) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// objectErrors returns the failures in err by object, and what in it belongs to
// no object.
func objectErrors(err error) (byKey map[Key]*ObjectError, rest error) {
	byKey = map[Key]*ObjectError{}
	var others []error
	var walk func(error)
	walk = func(err error) {
		// The tree is walked node by node: errors.As would stop at the first.
		switch e := any(err).(type) {
		case nil:
		case *ObjectError:
			byKey[e.Object.Key()] = e
		case interface{ Unwrap() []error }:
			for _, e := range e.Unwrap() {
				walk(e)
			}
		default:
			others = append(others, err)
		}
	}
	walk(err)
	return byKey, errors.Join(others...)
}

// Uplinks are a host's ways to the world.
type Uplinks struct {
	Devices []string // sorted
	Routed  bool     // by net.ipv4.ip_forward, which is never ours, the host routes between any of its devices
}
