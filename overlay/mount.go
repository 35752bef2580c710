package overlay

// Mount is the name of the fabric, a bind mount. The next agent and ip-netns(8) find
// the namespace by it; without it the fabric ends with the last process that holds it.
type Mount struct{}

// Key is the only one of its kind.
func (m Mount) Key() Key { return m }

// Rank places it first: it needs nothing.
func (m Mount) Rank() Rank { return RankSysctl }

// String is the command, but for the number of a process with the namespace open.
func (m Mount) String() string { return "mount --bind /proc/PID/fd/N /run/netns/weft" }
