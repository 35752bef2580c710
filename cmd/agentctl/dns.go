package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newDNS(a *app) *cobra.Command {
	return group("dns COMMAND", "Ask the agent's DNS server", "Ask the agent's DNS server.", "  agentctl dns query web.backend", newDNSQuery(a))
}

func newDNSQuery(a *app) *cobra.Command {
	var q api.DNSQuery
	var out output
	cmd := &cobra.Command{
		Use:   "query NAME|IP [TYPE] [--from ENDPOINT]",
		Short: "Resolve a name as an endpoint or as this host",
		Long: `Resolve a name as the endpoint of --from would, else as this host; exits 4 when
there is no record.

TYPE is A when it is left out, or AAAA, PTR, SRV and so on. Of an address the
name is asked for.`,
		Example: "  agentctl dns query web --from db",
		Args:    wants(1, 2, "a NAME and a TYPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			q.Name, q.Type = args[0], queryType(args)
			return a.call(cmd, shortCall, func(ctx context.Context, agent api.Service) error {
				res, err := agent.Query(ctx, q)
				if err != nil {
					return err
				}
				if err := out.print(a.out, res, func(w io.Writer) { showRecords(w, res.Answer) }); err != nil {
					return err
				}
				return noRecord(q, res)
			})
		},
		ValidArgsFunction: a.completeFirst(endpointNames),
	}
	cmd.Flags().StringVar(&q.From, "from", "", "ask as this `ENDPOINT`, a name or an id")
	cmd.RegisterFlagCompletionFunc("from", a.complete(endpointNames))
	out.addFlags(cmd, "table")
	return cmd
}

// queryType is the type that was asked for: of an address its name, else an
// address.
func queryType(args []string) string {
	if len(args) > 1 {
		return strings.ToUpper(args[1])
	}
	if _, err := netip.ParseAddr(args[0]); err == nil {
		return "PTR"
	}
	return "A"
}

// showRecords splits records in presentation format (RFC 1035, section 5.1)
// into columns; the class is always IN.
func showRecords(w io.Writer, records []string) {
	if len(records) == 0 {
		return
	}
	line(w, "NAME", "TTL", "TYPE", "DATA")
	for _, r := range records {
		if f := strings.Fields(r); len(f) >= 5 {
			line(w, f[0], f[1], f[3], strings.Join(f[4:], " "))
		} else {
			fmt.Fprintln(w, oneLine(r))
		}
	}
}

// noRecord is the error of an answer without what was asked for.
func noRecord(q api.DNSQuery, res api.DNSAnswer) error {
	switch {
	case res.Rcode == "NXDOMAIN":
		return api.Errorf(api.KindNotFound, "dns query %s: no such name (NXDOMAIN)", q.Name).WithHint("agentctl endpoint ls")
	case res.Rcode != "NOERROR":
		return api.Errorf(api.KindFailed, "dns query %s: %s", q.Name, res.Rcode)
	case len(res.Answer) == 0:
		return api.Errorf(api.KindNotFound, "dns query %s: the name has no %s record", q.Name, q.Type)
	}
	return nil
}
