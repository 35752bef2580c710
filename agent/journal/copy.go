package journal

import (
	"encoding/json"

	"github.com/weft-net/weft/discovery"
	"github.com/weft-net/weft/discovery/boltfile"
)

// backup is the table as it is kept in another file.
type backup struct {
	Locals []Local `json:"locals"`
}

var backupKey = []byte("own")

// Backup is the whole table, for another file. It is what is left of names, sandboxes
// and ports when leases.db is lost.
func (j *Journal) Backup() ([]byte, error) {
	raw, err := json.Marshal(backup{j.All()})
	if err != nil {
		return nil, err
	}
	return boltfile.Seal(backupKey, raw), nil
}

// ReadBackup reads what Backup wrote, by id. What is not whole is left out.
func ReadBackup(b []byte) (map[discovery.EndpointID]Local, error) {
	out := map[discovery.EndpointID]Local{}
	if len(b) == 0 {
		return out, nil
	}
	var all backup
	raw, err := boltfile.Unseal(backupKey, b)
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	for _, l := range all.Locals {
		if l.check() == nil {
			out[l.Endpoint.ID] = l
		}
	}
	return out, err
}
