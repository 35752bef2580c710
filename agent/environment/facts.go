package environment

import (
	"net/netip"
	"time"
)

// Facts are what a survey found. What is nil or empty was not looked at, and no check is
// made of it.
type Facts struct {
	Host      string // this one's name
	Carried   int    // networks with devices here
	Conntrack *Conntrack
	Uplink    *Uplink
	Ways      []Way
	Space     []Space
	Ports     []Port
	Firewall  *Firewall
	Programs  []Program
	Clocks    []Clock
	Resolvers []Resolver
	Store     *Store
	Releases  []Release
}

// Conntrack is the table of connections that the kernel tracks.
type Conntrack struct {
	Count, Most int
	Err         error // it cannot be read; one that is not loaded is no error
	None        bool  // the kernel tracks nothing here
}

// Uplink is the device with this host's address.
type Uplink struct {
	Addr       netip.Addr
	Dev        string // empty: no device has the address
	MTU        int
	Driver     string
	Offloads   []string // of tunnel packets, that are on
	Forwarding string   // as the kernel has it, "" when it does not say
	RPFilter   string   // the stricter one of the device's and of all
}

// Way is how packets to a member leave.
type Way struct {
	Host string
	Dev  string // empty: there is no route
	Err  error
}

// Space is what a directory's file system still takes.
type Space struct {
	What, Dir          string
	Free, Files        uint64 // bytes and files
	NeedFree, Dangered uint64 // below the first it deserves a look, below the second it fails
	Err                error
}

// Port is one that the agent listens on, or would.
type Port struct {
	What    string
	Proto   string // tcp or udp
	Number  uint16
	Holders []string // programs; none: it is free
	Own     bool     // one of them is the agent, or its tunnel device
	Wanted  bool     // the agent has it while all is well
}

// Firewall is which packet filters have rules in this namespace.
type Firewall struct {
	Legacy []string // tables of the old iptables
	NFT    []string // tables of nftables, weft's own left out
	Err    error    // why nftables could not be read
}

// Program is one that the agent calls.
type Program struct {
	Name, For string
	Version   string
	Err       error // it is not there, or does not run
}

// Clock is a member's, compared with this host's.
type Clock struct {
	Host   string
	Ahead  time.Duration
	Within time.Duration // half of the time that the question took
	Err    error
}

// Resolver is one that is asked for names that are not ours.
type Resolver struct {
	Addr netip.AddrPort
	Took time.Duration
	Err  error
}

// Store is the store that the cluster's records are in.
type Store struct {
	Where            string
	Took             time.Duration // of one reading, just now
	Err              error
	Requests, Failed uint64 // since the agent's start
}

// Release is what a member runs.
type Release struct{ Host, Version string }
