package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

// maxToken is far above the size in bytes of any token: a wrong file is not
// read to its end.
const maxToken = 64 << 10

func newInit(a *app) *cobra.Command {
	var r api.InitRequest
	var out output
	cmd := &cobra.Command{
		Use:   "init [--consul URL] [--pool CIDR] [--domain NAME] [--tunnel-port PORT] [--profile lan|wan] [--adopt]",
		Short: "Make this host the first member of a new cluster",
		Long: `Make this host the first member of a new cluster, and print the command that
joins the next host.

Without --consul networks and addresses are kept in a store of this machine,
which other machines cannot join. Domain, pool, ports and profile are the same
on all hosts; what is not given is as agentd of this host was told.`,
		Example: "  agentctl init --consul http://192.0.2.10:8500",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			return a.call(cmd, longCall, func(ctx context.Context, agent api.Service) error {
				res, err := agent.Init(ctx, r, a.progress)
				if err != nil {
					return err
				}
				return out.print(a.out, res, func(w io.Writer) { showInit(w, res) })
			})
		},
	}
	cmd.Flags().Var(&commas{&r.Consul}, "consul", "`URL` of the Consul that keeps networks and addresses; several are asked in turn")
	cmd.Flags().StringVar(&r.Pool, "pool", "", "take automatic subnets from this `CIDR` (default 10.64.0.0/10)")
	cmd.Flags().StringVar(&r.Domain, "domain", "", "the `NAME` below which endpoints are found (default weft.internal)")
	cmd.Flags().Uint16Var(&r.GossipPort, "gossip-port", 0, "members talk on this `PORT`, tcp and udp (default 4798)")
	cmd.Flags().Uint16Var(&r.TunnelPort, "tunnel-port", 0, "packets of endpoints go to this `PORT`, udp (default 4799)")
	cmd.Flags().StringVar(&r.Profile, "profile", "", "how soon a silent host is dead, a `PROFILE`: lan or wan (default lan)")
	cmd.Flags().BoolVar(&r.Adopt, "adopt", false, "take over a store whose hosts are all gone, networks and all")
	out.addFlags(cmd, "table")
	return cmd
}

func showInit(w io.Writer, r api.InitResult) {
	fmt.Fprintf(w, "cluster %s: this host is its first member\n", oneLine(r.Cluster))
	fmt.Fprintf(w, "whoever has the token is a member: keep %s secret\n", oneLine(r.TokenFile))
	fmt.Fprintf(w, "with a copy of it on the next host, type there:\n\n    %s\n", oneLine(r.Join))
}

func newJoin(a *app) *cobra.Command {
	var r api.JoinRequest
	var out output
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "join ADDR... --token-file FILE|- [--consul URL] [--replace]",
		Short: "Make this host a member of a cluster",
		Long: `Make this host a member of the cluster that the members at ADDR are in; done
when they see each other.

ADDR is HOST or HOST:PORT. The token comes from --token-file (- is stdin) or
from WEFT_TOKEN.`,
		Example: "  agentctl join 192.0.2.1 --token-file weft.token",
		Args:    wants(1, -1, "the address of a member"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			r.Addresses = args
			var err error
			if r.Token, err = a.token(cmd, tokenFile); err != nil {
				return err
			}
			return a.call(cmd, longCall, func(ctx context.Context, agent api.Service) error {
				res, err := agent.Join(ctx, r, a.progress)
				if err != nil {
					return err
				}
				return out.print(a.out, res, func(w io.Writer) { showJoin(w, res) })
			})
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "read the token from `FILE`, - is stdin")
	cmd.Flags().Var(&commas{&r.Consul}, "consul", "`URL` of Consul as this host reaches it, also of a member already (default the token's)")
	cmd.Flags().BoolVar(&r.Replace, "replace", false, "take the name of a dead host, as a new one")
	out.addFlags(cmd, "table")
	return cmd
}

func showJoin(w io.Writer, r api.JoinResult) {
	verb := "joined"
	if r.Already {
		verb = "already a member of"
	}
	fmt.Fprintf(w, "%s cluster %s, seen by %s\n", verb, oneLine(r.Cluster), oneLine(strings.Join(r.Members, ", ")))
	if r.Store != "" {
		fmt.Fprintf(w, "its store is asked %s from now on\n", oneLine(r.Store))
	}
}

// commas is a flag that may be given several times, or once with commas.
type commas struct{ text *string }

func (c *commas) String() string { return *c.text }
func (c *commas) Type() string   { return "string" }

// Set implements pflag.Value.
func (c *commas) Set(s string) error {
	if *c.text != "" {
		s = *c.text + "," + s
	}
	*c.text = s
	return nil
}

// token is the one line that lets this host in, without white space: it may
// have been wrapped by a mail or a terminal.
func (a *app) token(cmd *cobra.Command, file string) (string, error) {
	text, from := a.env("WEFT_TOKEN"), "WEFT_TOKEN"
	if file != "" {
		b, err := a.read(file)
		if err != nil {
			return "", fileError(cmd, err).WithHint("agentctl join ADDRESS --token-file FILE # a copy of the file that agentctl init named")
		}
		text, from = string(b), file
	}
	token := strings.Join(strings.Fields(text), "")
	switch {
	case token == "" && file == "":
		return "", misuse(cmd, "needs a token: --token-file FILE, or WEFT_TOKEN")
	case token == "":
		return "", misuse(cmd, "--token-file %s: no token in it", from)
	}
	return token, nil
}

// read returns the content of a file, or of stdin for "-".
func (a *app) read(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(a.in, maxToken))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxToken))
}

func newLeave(a *app) *cobra.Command {
	var r api.LeaveRequest
	cmd := &cobra.Command{
		Use:   "leave [--wait] [--purge] | leave --force NAME [--even-if-running]",
		Short: "Take this host, or a dead one, out of the cluster",
		Long: `Take this host out of the cluster and give back what it holds; with --force NAME
remove a dead host, which is safe to repeat. One that is alive, or whose agent
is down while endpoints run on it, is refused: their addresses would be given
to others. --even-if-running removes it all the same.

A host with endpoints is refused: --wait waits until they are gone, --purge
detaches them.`,
		Example: "  agentctl leave --wait\n  agentctl leave --force host3",
		Args:    wants(0, 1, "the NAME of a dead host"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Name = strings.Join(args, "")
			switch {
			case r.Force && r.Name == "":
				return misuse(cmd, "--force needs the NAME of a dead host")
			case r.Name != "" && !r.Force:
				return misuse(cmd, "a host leaves by itself; --force removes %q when it is dead", r.Name)
			case r.EvenIfRunning && !r.Force:
				return misuse(cmd, "--even-if-running is for leave --force NAME")
			case r.Force && (r.Wait || r.Purge):
				return misuse(cmd, "--force excludes --wait and --purge: a dead host does neither")
			}
			limit, progress, wait := longCall, a.progress, waiting{app: a}
			if r.Wait {
				limit, progress = endless, wait.progress
			}
			return a.call(cmd, limit, func(ctx context.Context, agent api.Service) error {
				err := agent.Leave(ctx, r, progress)
				if api.KindOf(err) == api.KindTimeout && wait.last != "" {
					return api.Errorf(api.KindTimeout, "leave --wait: gave up %s", wait.last).WithHint("agentctl leave --purge # detaches what runs here")
				}
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.out, left(r.Name))
				return err
			})
		},
		ValidArgsFunction: a.complete(memberNames),
	}
	cmd.Flags().BoolVar(&r.Wait, "wait", false, "leave once no endpoint is left here")
	cmd.Flags().BoolVar(&r.Purge, "purge", false, "detach the endpoints of this host")
	cmd.Flags().BoolVar(&r.Force, "force", false, "remove the dead host NAME")
	cmd.Flags().BoolVar(&r.EvenIfRunning, "even-if-running", false, "with --force: although it is alive, or endpoints run there")
	return cmd
}

func left(name string) string {
	if name == "" {
		return "left the cluster"
	}
	return "removed " + name
}
