package tunnel

import (
	"log/slog"

	"github.com/weft-net/weft/agent/event"
	"github.com/weft-net/weft/discovery"
)

// teller says in the log and in the history what became of the tunnel to a member.
// What was said already is its caller's to know.
type teller struct {
	log  *slog.Logger
	sink event.Sink
}

func (t teller) failing(to peer, proof, why, hint string) {
	t.log.Warn("the tunnel does not work", discovery.LogMember(to.name, to.id), "proof", proof, "why", why, "hint", hint)
	t.emit(event.TunnelFailing, to, why, map[string]any{"proof": proof, "hint": hint})
}

func (t teller) ok(to peer, proof, text string) {
	t.log.Info("the tunnel works again", discovery.LogMember(to.name, to.id), "proof", proof)
	t.emit(event.TunnelOK, to, text, map[string]any{"proof": proof})
}

// lowered says that the networks' MTU follows what passes.
func (t teller) lowered(to peer, passes int, why, hint string) {
	t.log.Warn("large packets are lost in the tunnel", discovery.LogMember(to.name, to.id), "why", why, "hint", hint)
	t.emit(event.MTULowered, to, why, map[string]any{"passes": passes, "hint": hint})
}

func (t teller) emit(kind event.Kind, to peer, text string, detail map[string]any) {
	detail["id"] = to.id.String()
	t.sink.Emit(event.Event{Kind: kind, Subject: to.name, Addr: to.addr.String(), Text: text, Detail: detail})
}
