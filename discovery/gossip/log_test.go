package gossip

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

// The lines are memberlist's own.
func TestOnlyTroubleIsWarnedOf(t *testing.T) {
	for line, want := range map[string]slog.Level{
		"[WARN] memberlist: Refuting a suspect message (from: 5e0f)":                                            slog.LevelDebug,
		"[WARN] memberlist: Refuting a dead message (from: 5e0f)":                                               slog.LevelDebug,
		"[WARN] memberlist: Got ping for unexpected node '5e0f' from=192.0.2.1:4798":                            slog.LevelDebug,
		"[WARN] memberlist: ignoring alive message for '5e0f': forgotten":                                       slog.LevelDebug,
		"[ERR] memberlist: Failed fallback TCP ping: 5e0f: EOF":                                                 slog.LevelDebug,
		"[ERR] memberlist: Failed to send UDP ping: connect: no route to host":                                  slog.LevelDebug,
		"[ERR] memberlist: Push/Pull with 5e0f failed: dial tcp: i/o timeout":                                   slog.LevelDebug,
		"[ERR] memberlist: failed to receive and remove the stream label header: EOF from=192.0.2.1:4798":       slog.LevelDebug,
		"[ERR] memberlist: failed to receive: read tcp: connection reset by peer from=192.0.2.1:4798":           slog.LevelDebug,
		"[WARN] memberlist: Was able to connect to 5e0f over TCP but UDP probes failed, network may be mis…":    slog.LevelWarn,
		"[ERR] memberlist: Decrypt packet failed: No installed keys could decrypt the message from=192.0.2.1:9": slog.LevelWarn,
		"[ERR] memberlist: discarding packet with unacceptable label \"x\": from=192.0.2.1:9":                   slog.LevelWarn,
		"[WARN] memberlist: handler queue full, dropping message (8) from=192.0.2.1:9":                          slog.LevelWarn,
		"[ERR] memberlist: Encryption of message failed: no key":                                                slog.LevelWarn,
		"[DEBUG] memberlist: Stream connection from=192.0.2.1:9":                                                slog.LevelDebug,
		"[INFO] memberlist: Marking 5e0f as failed, suspect timeout reached (0 peer confirmations)":             slog.LevelDebug,
	} {
		var out bytes.Buffer
		junk := 0
		b := newLogBridge(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), func(netip.Addr) { junk++ })
		if _, err := b.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "level="+want.String()+" ") {
			t.Errorf("%s: logged as %q, want level %v", line, out.String(), want)
		}
		if came := want == slog.LevelWarn && strings.Contains(line, " from="); (junk == 1) != came {
			t.Errorf("%s: counted %d times", line, junk)
		}
	}
}
