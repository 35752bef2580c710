package main

import (
	"log/slog"
	"net"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/weft-net/weft/agent"
)

// handedOver returns the sockets that the service manager opened, by the name
// that their units give them (FileDescriptorName=): api and docker. Others are
// closed with a warning, so that their callers do not wait for ever.
func handedOver(log *slog.Logger) (agent.Sockets, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return agent.Sockets{}, err
	}
	var s agent.Sockets
	for name, list := range named {
		into := map[string]*net.Listener{"api": &s.API, "docker": &s.Docker}[name]
		for _, l := range list {
			if into != nil && *into == nil {
				*into = l
				continue
			}
			log.Warn("a socket of the service manager is not used", "name", name, "addr", l.Addr())
			_ = l.Close()
		}
	}
	return s, nil
}
