package membership

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/agent/config"
)

// Whatever ends with the cluster's domain is ours: it must not be where others have
// their names.
func TestADomainOfOthersIsRefused(t *testing.T) {
	cfg := config.Default()
	cfg.Advertise = netip.MustParseAddr("192.0.2.1")
	for domain, ok := range map[string]bool{
		"": true, "weft.internal": true, "corp.example.com": true, "example.org": true, "lan": true, "internal": true, "weft": true,
		"com": false, "DEV.": false, "co.uk": false, "github.io": false, "arpa": false,
	} {
		_, err := NewCluster(api.InitRequest{Domain: domain}, cfg)
		if ok != (err == nil) || !ok && api.KindOf(err) != api.KindMisuse {
			t.Errorf("%q: %v, want it taken: %v", domain, err, ok)
		}
	}
}
