// Package manpage writes the manual of a command tree, one roff page for each
// command, from what its help says. It does not read pages or show them.
//
// cobra/doc does the same for fewer lines, and was tried: its page shows the
// default's zero in the place of what a flag takes (--alias=[], --pid=0,
// --help[=false]), breaks paths at the end of a line (re-solv.conf), names the
// commands below without what they do, heads each page with the program alone, and
// ends in the day of the build, so that two builds of one tree differ.
package manpage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Book is what all pages of a program have in common.
type Book struct {
	Program string
	Section int    // 1 for commands, 8 for what an administrator runs
	Version string // of the program
	SeeAlso []string
}

// Write writes a page for cmd and every visible command below it into dir,
// which must exist: agentctl.1, agentctl-network.1, agentctl-network-create.1.
func (b Book) Write(cmd *cobra.Command, dir string) error {
	cmd.InitDefaultHelpFlag()
	name := fmt.Sprintf("%s.%d", pageName(cmd), b.Section)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(b.Page(cmd)), 0o644); err != nil {
		return err
	}
	for _, c := range visible(cmd) {
		if err := b.Write(c, dir); err != nil {
			return err
		}
	}
	return nil
}

// Command is the hidden command `man DIR`, which writes the pages of its root.
// That there is one argument is for the program to check, in its own words.
func (b Book) Command() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Hidden: true,
		Short:   "Write the manual pages",
		Long:    "Write the manual pages of every command into a directory.",
		Example: fmt.Sprintf("  %s man /usr/local/share/man/man%d", b.Program, b.Section),
		RunE:    func(cmd *cobra.Command, args []string) error { return b.Write(cmd.Root(), args[0]) },
	}
}

// Page is the page of one command.
func (b Book) Page(cmd *cobra.Command) string {
	var p page
	p.title(pageName(cmd), b.Section, b.Version)
	p.section("NAME")
	p.line(Text(pageName(cmd)) + ` \- ` + Text(lower(cmd.Short)))
	p.section("SYNOPSIS")
	p.line(`\fB` + Text(cmd.UseLine()) + `\fR`)
	p.section("DESCRIPTION")
	p.prose(cmd.Long, cmd.Short+".")
	if sub := visible(cmd); len(sub) > 0 {
		p.section("COMMANDS")
		for _, c := range sub {
			p.item(fmt.Sprintf(`\fB%s\fR(%d)`, Text(pageName(c)), b.Section), c.Short)
		}
	}
	p.flags("OPTIONS", cmd.LocalFlags())
	p.flags("OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	if cmd.Example != "" {
		p.section("EXAMPLE")
		p.verbatim(cmd.Example)
	}
	also := b.SeeAlso
	if cmd.HasParent() {
		also = append([]string{fmt.Sprintf("%s(%d)", pageName(cmd.Parent()), b.Section)}, also...)
	}
	if len(also) > 0 {
		p.section("SEE ALSO")
		p.line(Text(strings.Join(also, ", ")))
	}
	return p.String()
}

// File is the page of a file's format: what it is, and the file with its own
// comments.
func File(name string, section int, version, short, long, content string) string {
	var p page
	p.title(name, section, version)
	p.section("NAME")
	p.line(Text(name) + ` \- ` + Text(short))
	p.section("DESCRIPTION")
	p.prose(long, short)
	p.section("REFERENCE")
	p.verbatim(content)
	return p.String()
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func visible(cmd *cobra.Command) (list []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, c)
		}
	}
	return list
}

func (p *page) flags(heading string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.section(heading)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		term := `\fB` + Text("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			term = `\fB` + Text("-"+f.Shorthand) + `\fR, ` + term
		}
		if value != "" {
			term += ` \fI` + Text(value) + `\fR`
		}
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			usage += " (default " + f.DefValue + ")"
		}
		p.item(term, usage)
	})
}
