package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
	"github.com/weft-net/weft/cmd/manpage"
)

// newRoot is the whole command line.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "agentctl COMMAND",
		Short: "Command the weft agent of this host",
		Long: `Command the weft agent of this host, and look at its overlay networks.

Answers go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed or
degraded, 2 misuse, 3 agent unreachable, 4 not found, 5 conflict or in use,
6 timed out waiting, 7 not permitted.`,
		Example:           "  agentctl status",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs, // so that an unknown command comes to RunE
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "the agent's socket, a `PATH` (default WEFT_SOCKET, else "+api.DefaultSocket+")")
	root.PersistentFlags().DurationVar(&a.timeout, "timeout", 0, "give up after this `DURATION`, such as 10s or 2m (default by command, 30s for most)")
	man := manpage.Book{Program: "agentctl", Section: 1, Version: api.Release(), SeeAlso: []string{"agentd(8)", "weft-operations(7)"}}.Command()
	man.Args = wants(1, 1, "a DIR")
	root.AddCommand(
		newInit(a), newJoin(a), newLeave(a), newMembers(a), newStatus(a), newDoctor(a), newVerify(a), newWhy(a), newPing(a), newTest(a), newEvents(a), newUI(a),
		newNetwork(a), newAttach(a), newDetach(a), newEndpoint(a), newPS(a),
		newDNS(a), newDocker(a), newFabric(a), newDebug(a), newVersion(a), newCompletion(a), man,
	)
	root.SetHelpCommand(newHelp())
	root.SetUsageTemplate(usage)
	disableFlagsInUse(root)
	return root
}

// group is a command that only holds others.
func group(use, short, long, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misuse(cmd, "needs a command: %s", strings.Join(names(cmd), ", "))
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// unknownCommand is the error for name, with the command that was meant if one
// is near.
func unknownCommand(cmd *cobra.Command, name string) error {
	err := misuse(cmd, "unknown command %q", name)
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2 // cobra's own default, which it sets elsewhere
	}
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return err.WithHint("%s %s", cmd.CommandPath(), near[0])
	}
	return err
}

// names is the commands below cmd.
func names(cmd *cobra.Command) []string {
	var list []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, c.Name())
		}
	}
	slices.Sort(list)
	return list
}
