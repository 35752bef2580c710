package stage

import (
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/weft-net/weft/agent/api"
)

// What a Question asks a host to do.
const (
	Open    = "open"    // begin a run
	Touch   = "touch"   // keep it
	Enter   = "enter"   // attach an Actor
	Exit    = "exit"    // detach it
	Attempt = "attempt" // make Tries
	Close   = "close"   // remove everything
)

// Question is what the host that asks for a run says to each other one, and to itself.
type Question struct {
	Run   string `json:"run"`
	Do    string `json:"do"`
	By    string `json:"by,omitempty"` // of Open: who asked for the run, and where
	Actor *Actor `json:"actor,omitempty"`
	Tries []Try  `json:"tries,omitempty"`
}

// Actor is an endpoint in a namespace of its own, with an echo server.
type Actor struct {
	Name    string   `json:"name"`
	Network string   `json:"network"`
	Aliases []string `json:"aliases,omitempty"`
	IP      string   `json:"ip,omitempty"`
	Ports   []string `json:"ports,omitempty"`
	// Container: it is one of Docker's, and has neither alias nor port.
	Container bool `json:"container,omitempty"`
}

// The kinds of tries.
const (
	TCP     = "tcp"
	UDP     = "udp"
	Echo    = "icmp"
	Name    = "name"    // the address of a name
	Reverse = "reverse" // the name of an address
	Rate    = "rate"    // how long Size bytes take over TCP, there and back
	RTT     = "rtt"     // the fastest of some echoes
)

// Try is one thing to try. It is tried again until it comes out as wanted, or Patience
// is over: what was just made has to be told to all hosts first.
type Try struct {
	From     string         `json:"from,omitempty"` // an actor; empty: the host itself
	Kind     string         `json:"kind"`
	To       netip.AddrPort `json:"to,omitzero"` // without a port of Echo and Reverse
	Asked    string         `json:"asked,omitempty"`
	Want     string         `json:"want,omitempty"` // who answers, or which address, or which name
	Size     int            `json:"size,omitempty"`
	Whole    bool           `json:"whole,omitempty"`  // packets are not fragmented
	Silent   bool           `json:"silent,omitempty"` // it must not be answered
	Patience time.Duration  `json:"patience,omitempty"`
}

// Answer is what the host says. Refused and Busy are those of Open.
type Answer struct {
	Refused  string   `json:"refused,omitempty"`   // it takes part in no run
	Busy     string   `json:"busy,omitempty"`      // whose run is under way
	NoDocker string   `json:"no_docker,omitempty"` // of Open: why there can be no Container here
	Placed   *Placed  `json:"placed,omitempty"`    // of Enter
	Results  []Result `json:"results,omitempty"`   // of Attempt, in the order of the tries
}

// Placed is where an Actor is.
type Placed struct {
	Addr netip.Addr `json:"addr"`
	MTU  int        `json:"mtu"` // bytes
}

// Result is how a Try came out.
type Result struct {
	OK   bool          `json:"ok"`
	Says string        `json:"says,omitempty"` // what was seen instead
	Took time.Duration `json:"took"`
}

// NetworkName is what a network of a run is called.
func NetworkName(run, which string) string { return "weft-test-" + run + "-" + which }

// RunOf is the run that made a network. A label alone, which every user may give, does
// not make a network one of a run.
func RunOf(n api.Network) (run string, ok bool) {
	run = n.Labels[LabelRun]
	return run, validRun(run) && strings.HasPrefix(n.Name, NetworkName(run, ""))
}

var runPattern = regexp.MustCompile(`^[0-9a-f]{8}$`)

// validRun keeps what others call a run out of names and logs.
func validRun(id string) bool { return runPattern.MatchString(id) }
