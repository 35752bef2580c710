package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

// completionTime is how long a person who has pressed tab waits for names.
const completionTime = 250 * time.Millisecond

func newCompletion(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the completion script of a shell",
		Long: `Print the completion script of a shell, which completes commands, flags and the
names of networks, hosts and endpoints.

For this shell alone: source <(agentctl completion bash). For all, write it to
/usr/share/bash-completion/completions/agentctl, to _agentctl in a directory of
zsh's fpath, or to ~/.config/fish/completions/agentctl.fish.`,
		Example:   "  agentctl completion bash",
		Args:      wants(1, 1, "a shell: "+strings.Join(shells, ", ")),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.out, true)
			}
			return misuse(cmd, "no completion for %q, there is %s", args[0], strings.Join(shells, ", "))
		},
	}
}

// lister asks the agent for the names of something.
type lister func(context.Context, api.Service) ([]string, error)

func networkNames(ctx context.Context, agent api.Service) ([]string, error) {
	list, err := agent.Networks(ctx)
	return mapped(list, func(n api.Network) string { return n.Name }), err
}

func memberNames(ctx context.Context, agent api.Service) ([]string, error) {
	list, err := agent.Members(ctx)
	return mapped(list, func(m api.Member) string { return m.Name }), err
}

func endpointNames(ctx context.Context, agent api.Service) ([]string, error) {
	list, err := agent.Endpoints(ctx, api.EndpointFilter{})
	return mapped(list, func(e api.Endpoint) string { return e.Name }), err
}

// endpointsHere are those of this host on a network.
func endpointsHere(network string) lister {
	return func(ctx context.Context, agent api.Service) ([]string, error) {
		list, err := agent.Endpoints(ctx, api.EndpointFilter{Network: network})
		list = slices.DeleteFunc(list, func(e api.Endpoint) bool { return !e.Local })
		return mapped(list, func(e api.Endpoint) string { return e.Name }), err
	}
}

// containerNames are those of this host.
func containerNames(ctx context.Context, agent api.Service) ([]string, error) {
	list, err := containers(ctx, agent)
	return mapped(list, func(c container) string { return c.Name }), err
}

// mapped is the name of each value, sorted, each once.
func mapped[T any](list []T, name func(T) string) []string {
	var names []string
	for _, v := range list {
		names = append(names, name(v))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// complete offers the names that are not there yet. An agent that is away or
// slow offers nothing: a shell has no place for its error.
func (a *app) complete(list lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		names, err := list(ctx, a.agent())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFirst offers names for the first argument alone.
func (a *app) completeFirst(list lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.complete(list)(cmd, args, word)
	}
}

// completeNetns offers the named namespaces of this host, and paths.
func completeNetns(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if strings.Contains(word, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	named, _ := os.ReadDir("/run/netns")
	return mapped(named, os.DirEntry.Name), cobra.ShellCompDirectiveNoFileComp
}

// completeConnect offers networks, then the containers of this host.
func (a *app) completeConnect(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.complete(networkNames)(cmd, args, word)
	case 1:
		return a.complete(containerNames)(cmd, args, word)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeDetach offers networks, then this host's endpoints on the one given.
func (a *app) completeDetach(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.complete(networkNames)(cmd, args, word)
	case 1:
		return a.complete(endpointsHere(args[0]))(cmd, args, word)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}
