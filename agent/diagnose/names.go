package diagnose

import (
	"fmt"
	"strings"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/dns"
)

// NameFacts are what a member knows of how names are answered here.
type NameFacts struct {
	Zone      dns.Zone // of the last pass
	Listeners []error  // that the DNS server could not bind
	Upstreams dns.Upstreams
	// Called is this host's name as its machine or its configuration has it now, Known
	// the one that it joined with.
	Called, Known string
	// NoResolvConf says that /etc/resolv.conf is missing, empty: it is there. NamedFiles
	// are the namespaces whose file is bound over it.
	NoResolvConf string
	NamedFiles   []string
}

// names says whether this host answers names, ours and others.
func names(f NameFacts) api.Check {
	var all, hints []string
	look := func(looks ...func(NameFacts) (detail, hint string)) (found bool) {
		for _, l := range looks {
			if detail, hint := l(f); detail != "" {
				all, hints, found = append(all, detail), append(hints, hint), true
			}
		}
		return found
	}
	c := api.Check{Name: "dns", State: api.CheckOK, Detail: "answering"}
	switch fails, warns := look(listeners, upstreams, namedFiles), look(unservable, neverAsked, renamed); {
	case fails:
		c.State, c.Detail = api.CheckFail, strings.Join(all, "; ")
	case warns:
		c.State, c.Detail = api.CheckWarn, "answering, but "+strings.Join(all, "; ")
	}
	c.Hint = strings.Join(hints, "\n")
	return c
}

func listeners(f NameFacts) (detail, hint string) {
	var all []string
	for _, err := range f.Listeners {
		all = append(all, err.Error())
	}
	return strings.Join(all, "; "), "ss -lntup # traffic works; names are answered again when the port is free"
}

// unservable are names that a runtime takes and DNS does not.
func unservable(f NameFacts) (detail, hint string) {
	names := Unservable(f.Zone)
	if len(names) == 0 {
		return "", ""
	}
	return "these are no names that DNS can carry: " + strings.Join(names, ", "),
		"agentctl endpoint ls # give them an alias of letters, digits, - and _, at most 63"
}

// neverAsked are names that nobody asks a server for.
func neverAsked(f NameFacts) (detail, hint string) {
	names := namesThat(f.Zone, func(name string) bool { return dns.NeverAsked(name) != "" })
	if len(names) == 0 {
		return "", ""
	}
	return "programs take these for addresses, unless the network stands behind them: " + strings.Join(names, ", "),
		"agentctl endpoint ls # ask for NAME.NETWORK, or give them an alias with a letter"
}

// renamed is a host that the cluster knows by another name.
func renamed(f NameFacts) (detail, hint string) {
	if f.Called == f.Known {
		return "", ""
	}
	return fmt.Sprintf("this host is called %s now and is %s to the cluster: %s.host.%s does not resolve", f.Called, f.Known, f.Called, f.Zone.Domain),
		"agentctl members # ask for " + f.Known + ".host; the name changes with agentctl leave and join"
}

// upstreams says that nobody answers the names of others.
func upstreams(f NameFacts) (detail, hint string) {
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
func namedFiles(f NameFacts) (detail, hint string) {
	if f.NoResolvConf == "" || len(f.NamedFiles) == 0 {
		return "", ""
	}
	return fmt.Sprintf("%s: ip netns exec gives no resolver to %s", f.NoResolvConf, strings.Join(f.NamedFiles, ", ")),
		`install -D /dev/null "$(readlink -m /etc/resolv.conf)" # or start the service that writes it`
}

// Unservable are the names and aliases of a zone that DNS cannot carry, each as
// "NAME on NETWORK".
func Unservable(z dns.Zone) []string {
	return namesThat(z, func(name string) bool { return !dns.Servable(name) })
}

func namesThat(z dns.Zone, are func(string) bool) (out []string) {
	for _, n := range z.Networks {
		for _, e := range n.Names {
			for _, name := range append([]string{e.Name}, e.Aliases...) {
				if are(name) {
					out = append(out, name+" on "+n.Name)
				}
			}
		}
	}
	return out
}
