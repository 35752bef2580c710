package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newDebug(a *app) *cobra.Command {
	return group("debug", "Collect what somebody who helps needs to see",
		"Collect what somebody who helps needs to see.", "  agentctl debug bundle --all", newDebugBundle(a))
}

func newDebugBundle(a *app) *cobra.Command {
	var file string
	var all bool
	cmd := &cobra.Command{
		Use:   "bundle [-o FILE] [--all]",
		Short: "Write what is known of this host into one archive, without secrets",
		Long: `Write what is known of this host into one compressed archive, without secrets:
status, doctor, verify, proofs, members, networks, endpoints, events of the last
day, configuration, devices, routes, FDB and neighbour entries, packet filter
rules, profiles and the last lines of the log. README in it says what each file
is, and what could not be had. Keys, join tokens and ACL tokens are left out.

With --all it has the same of every member that answers, and names the others.
Look through it before you send it to anybody: names and addresses are in it.`,
		Example: "  agentctl debug bundle --all -o weft.tar.gz",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd, longCall, func(ctx context.Context, agent api.Service) error {
				archive, err := agent.Bundle(ctx, all)
				if err != nil {
					return err
				}
				if file == "" {
					file = "weft-" + time.Now().Format("20060102T150405") + ".tar.gz"
				}
				if err := writePrivate(file, archive); err != nil {
					return api.Errorf(api.KindFailed, "debug bundle: %v", err).WithHint("agentctl debug bundle -o /tmp/weft.tar.gz")
				}
				_, err = fmt.Fprintln(a.out, file)
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "write to this `FILE` (default weft-TIME.tar.gz here)")
	cmd.Flags().BoolVar(&all, "all", false, "of every member that answers")
	return cmd
}

// writePrivate writes a file that only its owner reads, whole or not at all.
func writePrivate(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
