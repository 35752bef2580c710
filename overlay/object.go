package overlay

// Object is one thing in the kernel that we set: a link, an address, an FDB
// entry, a rule set. It is a comparable value that holds only what we set, so
// that a dumped object equals a wanted one if and only if nothing has to be
// done. String is the command an operator would type for it (ip(8), bridge(8),
// nft(8)).
type Object interface {
	// Key is what the kernel indexes by: of two objects with one key the kernel
	// can hold only one. Keys are comparable; their dynamic type tells the
	// kinds of objects apart.
	Key() Key
	Rank() Rank
	String() string
}

// Key identifies an object in one kernel.
type Key any

// Rank orders creation: objects of a lower rank are put first and deleted last.
type Rank uint8

// The ranks, in the order in which the kernel needs them: rules stand before
// the first packet can flow, an entry needs its device.
const (
	RankSysctl  Rank = iota
	RankTable        // nftables tables with their chains, sets and maps
	RankElement      // elements of those sets and maps
	RankLink         // bridges, VXLAN devices, gateway ports
	RankPort         // links enslaved to a bridge
	RankConf         // sysctls of one device
	RankAddr
	RankRoute
	RankEntry // FDB and neighbour entries
)

// Place is the network namespace of an object.
type Place uint8

const (
	Host   Place = iota // the namespace that agentd runs in
	Fabric              // the namespace of bridges and VXLAN devices
)

// Marks of what is ours in the kernel: groups of links (ip-link(8), group), by
// which rules and sweeps know them, and the protocol of routes and neighbour
// entries (ip-route(8), protocol).
const (
	Group         = 0x4f56    // links of ordinary networks
	GroupInternal = Group + 1 // links of internal networks
	GroupDoomed   = Group + 2 // links that are being deleted
	Protocol      = 0x4f
)
