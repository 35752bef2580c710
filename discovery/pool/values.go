package pool

import (
	"encoding/json"
	"maps"
	"net/netip"
	"time"

	"github.com/weft-net/weft/discovery"
)

// genValue serialises the creation and deletion of networks: whoever changes
// one changes it too, so nobody decides by a list that is no longer true.
type genValue struct {
	N       uint64 `json:"n"`
	NextVNI uint32 `json:"next_vni"`
}

// firstVNI leaves the low numbers to what is not a network of the pool.
const firstVNI = 4096

// lastVNI is the largest in 24 bits; behind it the numbers begin anew.
const lastVNI = 1<<24 - 1

// netValue is a network, and who asked for its end.
type netValue struct {
	discovery.Network
	DeletedBy string `json:"deleted_by,omitempty"`
}

type netGoneValue struct {
	Name string    `json:"name"`
	VNI  uint32    `json:"vni"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
}

type goneValue struct {
	Name string    `json:"name"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
}

type blockValue struct {
	Host    discovery.HostID `json:"host"`
	Nonce   uint64           `json:"nonce"`
	State   string           `json:"state"`
	Seq     uint64           `json:"seq"`
	ClaimID string           `json:"claim,omitempty"` // random: a claim without an answer is known again by it
}

type ipValue struct {
	Host discovery.HostID `json:"host"`
	Seq  uint64           `json:"seq"`
}

type hostValue struct {
	Name        string         `json:"name"`
	Nonce       uint64         `json:"nonce"`
	VTEP        netip.Addr     `json:"vtep"`
	Gossip      netip.AddrPort `json:"gossip"`
	Version     string         `json:"version"`
	Incarnation uint64         `json:"inc"`
	Joined      time.Time      `json:"joined"`
	Machine     string         `json:"machine_hint"`
}

// encode writes a value. The types of this package have nothing in them that
// JSON could refuse.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// rewrite writes the fields of v over those of an older value, and keeps the
// others: a newer version may have put them there.
func rewrite(old []byte, v any) []byte {
	var fields, ours map[string]json.RawMessage
	if json.Unmarshal(old, &fields) != nil || fields == nil {
		return encode(v)
	}
	_ = json.Unmarshal(encode(v), &ours) // what we have just written
	maps.Copy(fields, ours)
	return encode(fields)
}
