package diagnose

import (
	"fmt"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/dns"
)

// names says whether this host answers names, ours and others.
func names(f Facts) api.Check {
	c := api.Check{Name: "dns", State: api.CheckOK, Detail: "answering"}
	if names := Unservable(f.Zone); len(names) > 0 {
		c.State, c.Detail = api.CheckWarn, "answering, but these are no names that DNS can carry: "+strings.Join(names, ", ")
		c.Hint = "agentctl endpoint ls # give them an alias of letters, digits, - and _, at most 63"
	}
	var broken, hints []string
	for _, err := range f.Listeners {
		broken = append(broken, err.Error())
	}
	if len(broken) > 0 {
		hints = append(hints, "ss -lntup # traffic works; names are answered again when the port is free")
	}
	for _, look := range []func(Facts) (detail, hint string){upstreams, namedFiles} {
		if detail, hint := look(f); detail != "" {
			broken, hints = append(broken, detail), append(hints, hint)
		}
	}
	if len(broken) > 0 {
		c.State, c.Detail, c.Hint = api.CheckFail, strings.Join(broken, "; "), strings.Join(hints, "\n")
	}
	return c
}

// upstreams says that nobody answers the names of others.
func upstreams(f Facts) (detail, hint string) {
	u := f.Upstreams
	var dead []string
	for _, s := range u.Servers {
		if s.Err == nil {
			return "", ""
		}
		dead = append(dead, fmt.Sprintf("%s (%v)", s.Addr, s.Err))
	}
	other := "agentd config print-default # dns: upstreams, in agentd.yaml, names other resolvers"
	switch {
	case len(dead) > 0:
		return "no resolver answers for other names: " + strings.Join(dead, ", "), other
	case u.File == "":
		return "no resolver for other names: those of dns.upstreams are this host's own addresses", other
	case u.Err != nil && strings.HasPrefix(f.NoResolvConf, u.File+" "):
		return "no resolver for other names: " + f.NoResolvConf, other
	case u.Err != nil:
		return fmt.Sprintf("no resolver for other names: %v", u.Err), other
	}
	return "no resolver for other names: " + u.File + " names none", other
}

// namedFiles says that the files of named namespaces are of no use: ip-netns(8) binds
// each over a file that has to be there.
func namedFiles(f Facts) (detail, hint string) {
	if f.NoResolvConf == "" || len(f.NamedFiles) == 0 {
		return "", ""
	}
	return fmt.Sprintf("%s: ip netns exec gives no resolver to %s", f.NoResolvConf, strings.Join(f.NamedFiles, ", ")),
		`install -D /dev/null "$(readlink -m /etc/resolv.conf)" # or start the service that writes it`
}

// Unservable are the names and aliases of a zone that DNS cannot carry, each as
// "NAME on NETWORK".
func Unservable(z dns.Zone) (out []string) {
	for _, n := range z.Networks {
		for _, e := range n.Names {
			for _, name := range append([]string{e.Name}, e.Aliases...) {
				if !dns.Servable(name) {
					out = append(out, name+" on "+n.Name)
				}
			}
		}
	}
	return out
}
