package table

// The messages are this package's own. Tests from outside, which may use
// discoverytest, see them under these names.
type (
	Message     = message
	Op          = op
	Delta       = delta
	Announce    = announce
	Seen        = seen
	Pull        = pull
	PullEntry   = pullEntry
	Section     = section
	State       = state
	Gone        = gone
	Digest      = digest
	DigestEntry = digestEntry
)

const (
	OpUpsert    = opUpsert
	OpDelete    = opDelete
	OpHeader    = opHeader
	MaxDatagram = maxDatagram
	MaxState    = maxState
)

// Parse and ShortOf are parseMessage and shortOf.
var (
	Parse   = parseMessage
	ShortOf = shortOf
)
