package why

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/overlay"
)

// Here are the steps between the two sandboxes, and the try.

// kernel judges what one host has programmed for the two.
func (w *walk) kernel(host string, side Side) (string, *finding) {
	if !w.Dst.Addr.IsValid() || host == "" {
		return "", nil
	}
	switch {
	case len(side.Drift) > 0:
		return "", &finding{fmt.Sprintf("the kernel of %s is not as wanted; what is missing: %s", host, side.Drift[0]), "agentctl verify --repair # on " + host}
	case side.Out != "":
		return "", &finding{fmt.Sprintf("%s has no route to %s: %s", host, w.Dst.Addr, side.Out), "ip route get " + w.Dst.Addr.String() + " # on " + host}
	case side.Taken != "":
		return "", &finding{fmt.Sprintf("another program's route on %s takes what is for %s: %s", host, w.Dst.Addr, side.Taken), "ip route # on " + host}
	case w.routed() && slices.ContainsFunc(side.Filters, forwards):
		f := side.Filters[slices.IndexFunc(side.Filters, forwards)]
		return "", &finding{fmt.Sprintf("another program's packet filter on %s drops what endpoints send or are sent: nft table %s %s, chain %s", host, f.Family, f.Table, f.Chain),
			strings.Join(f.Accept(), "\n")}
	}
	return "as wanted", nil
}

func forwards(f overlay.ForeignFilter) bool { return !f.Input }

// routed: the way leads through the host's own routing.
func (w *walk) routed() bool { return w.Dst.Kind == Outside || w.Src.Kind == Outside }

// tunnel judges the way between the hosts.
func (w *walk) tunnel() (string, *finding) {
	if !w.Tunnel.Crossed {
		return "", nil
	}
	for _, end := range []struct {
		host, other string
		drops       []overlay.InsideDrop
	}{{w.Src.Host, w.Dst.Host, w.Here.Tunnel}, {w.Dst.Host, w.Src.Host, w.There.Tunnel}} {
		if len(end.drops) == 0 {
			continue
		}
		d := end.drops[0]
		what := fmt.Sprintf("drops what %s sends to it", end.other)
		if d.Hook == "output" {
			what = fmt.Sprintf("drops what it sends to %s", end.other)
		}
		return "", &finding{fmt.Sprintf("%s %s on udp port %d: nft table %s %s, chain %s", end.host, what, w.Tunnel.Port, d.Family, d.Table, d.Chain),
			fmt.Sprintf("nft insert rule %s udp dport %d accept # on %s", d.ForeignFilter, w.Tunnel.Port, end.host)}
	}
	switch {
	case w.Trial == overlay.TrialAnswered || w.Trial == overlay.TrialRefused:
		return fmt.Sprintf("what %s sends comes back from %s", w.Src.Host, w.Dst.Host), nil
	case w.Tunnel.OK:
		return fmt.Sprintf("udp port %d passes both ways between %s and %s", w.Tunnel.Port, w.Src.Host, w.Dst.Host), nil
	case w.Dst.Status == "dead" || w.Dst.Status == "left":
		return "", &finding{fmt.Sprintf("%s, which %s is on, is %s", w.Dst.Host, w.Dst.Name, w.Dst.Status), "agentctl members"}
	}
	return "", &finding{w.Tunnel.Why, w.Tunnel.Hint}
}

// far judges DST's host.
func (w *walk) far() (string, *finding) {
	if w.Dst.Host == "" || w.Dst.Host == w.Src.Host {
		return "", nil
	}
	switch {
	case w.There.Unknown:
		return "", &finding{fmt.Sprintf("%s has no endpoint %s any more", w.Dst.Host, w.Dst.Name), "agentctl endpoint ls --host " + w.Dst.Host}
	case w.There.Err != "" && w.Trial == overlay.TrialAnswered:
		return "it works, although " + w.There.Err, nil
	case w.There.Err != "" && w.Trial == overlay.TrialRefused:
		return "it is reached, although " + w.There.Err, nil
	case w.There.Err != "":
		return "", &finding{fmt.Sprintf("%s cannot be asked: %s", w.Dst.Host, w.There.Err), "systemctl status agentd # on " + w.Dst.Host}
	}
	return w.kernel(w.Dst.Host, w.There)
}

// try is what a packet met.
func (w *walk) try() (string, *finding) {
	what := strings.ToUpper(w.Proto)
	switch w.Trial {
	case "":
		if w.TrialErr != "" {
			return "", &finding{"a try could not be made: " + w.TrialErr, w.within(w.Src, "ip addr")}
		}
		return "", nil
	case overlay.TrialAnswered:
		return what + ": " + w.how(), nil
	case overlay.TrialRefused:
		return "", &finding{fmt.Sprintf("the way is open, and nothing listens on %d/%s there", w.Port, w.Proto), w.within(w.Dst, "ss -lnp")}
	case overlay.TrialSilent:
		if w.works() {
			return what + ": sent, no answer, which a datagram needs not", nil
		}
		return "", &finding{fmt.Sprintf("%s to %s is not answered", what, w.Dst.Addr), w.within(w.Dst, "tcpdump -ni any host "+w.Src.Addr.String())}
	}
	return "", &finding{fmt.Sprintf("%s to %s: %s", what, w.Dst.Addr, w.Trial), w.within(w.Src, "ip route get "+w.Dst.Addr.String())}
}
