package main

import (
	"cmp"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent/api"
)

func newTest(a *app) *cobra.Command {
	var out output
	var r api.TestRequest
	var junit string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "test [--hosts HOST,...] [--run RE] [--junit FILE] [--perf] [-v]",
		Short: "Test the cluster: names, every pair of hosts, sizes, isolation, ports, moves",
		Long: `Test the cluster on networks, namespaces and endpoints that are made for it on
every host, and removed when it ends, whatever ends it: names, aliases and
reverse names, TCP and UDP between every pair of hosts, packets of full size and
fragments, isolation, internal networks, the way out, published ports from every
side, and an endpoint that moves. It sends to nothing but its own endpoints and
the hosts. Takes less than a minute.

What failed is shown with what why says, all with -v. Exits 1 when a check
failed or a host did not answer, 5 while another run is under way. A host with
test_peers: false takes no part.`,
		Example: "  agentctl test --run 'pair/|size/' --junit test.xml",
		Args:    wants(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(cmd); err != nil {
				return err
			}
			if _, err := regexp.Compile(r.Run); err != nil {
				return misuse(cmd, "--run %s: %v", r.Run, err)
			}
			return a.call(cmd, longCall, func(ctx context.Context, agent api.Service) error {
				return a.test(cmd, ctx, agent, &out, r, junit, verbose)
			})
		},
	}
	cmd.Flags().StringSliceVar(&r.Hosts, "hosts", nil, "on these members alone, `HOST,...` (default: all that are alive)")
	cmd.Flags().StringVar(&r.Run, "run", "", "make the checks whose name the regular expression `RE` matches")
	cmd.Flags().StringVar(&junit, "junit", "", "write the result as JUnit's XML to `FILE` as well")
	cmd.Flags().BoolVar(&r.Perf, "perf", false, "measure rate and round trip of each pair, through the tunnel and beside it")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the checks that passed, too")
	_ = cmd.RegisterFlagCompletionFunc("hosts", a.complete(memberNames))
	out.addFlags(cmd, "table")
	return cmd
}

func (a *app) test(cmd *cobra.Command, ctx context.Context, agent api.Service, out *output, r api.TestRequest, junit string, verbose bool) error {
	t, err := agent.Test(ctx, r, a.progress)
	if err != nil {
		return err
	}
	if err := out.print(a.out, t, func(w io.Writer) { showTest(w, t, verbose) }); err != nil {
		return err
	}
	if junit != "" {
		if err := writeJUnit(junit, t); err != nil {
			return fileError(cmd, err)
		}
	}
	return testError(t)
}

func showTest(w io.Writer, t api.Test, verbose bool) {
	header := false
	for _, c := range t.Checks {
		if c.State == "passed" && !verbose {
			continue
		}
		if !header {
			line(w, "CHECK", "STATE", "TOOK", "WHY")
			header = true
		}
		line(w, c.Name, c.State, cmp.Or(milliseconds(float64(c.Took)), "-"), cmp.Or(c.Why, "-"))
	}
	for i, p := range t.Perf {
		if i == 0 {
			line(w, "FROM", "TO", "MBIT/S", "BESIDE", "RTT", "BESIDE")
		}
		line(w, p.From, p.To, measured(p.Rate), measured(p.Underlay), cmp.Or(microseconds(p.RTT), "-"), cmp.Or(microseconds(p.Beside), "-"))
	}
	for _, u := range t.Unasked {
		line(w, u.Host, "not asked", "-", u.Why)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped on %s in %.1fs\n", t.Passed, t.Failed, t.Skipped, oneLine(strings.Join(t.Hosts, ", ")), float64(t.Took)/1000)
}

// measured is a rate; 0 is none.
func measured(rate float64) string {
	if rate == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", rate)
}

// testError is what the exit code says. The hints are those of the checks, each once.
func testError(t api.Test) error {
	var hints []string
	for _, c := range t.Checks {
		if c.State != "failed" {
			continue
		}
		for hint := range strings.Lines(c.Hint) {
			hint = strings.TrimSpace(hint)
			if len(hints) < 8 && !slices.Contains(hints, hint) {
				hints = append(hints, hint)
			}
		}
	}
	switch {
	case t.Failed > 0:
		return api.Errorf(api.KindFailed, "test: %d of %d checks failed", t.Failed, len(t.Checks)).WithHint("%s", cmp.Or(strings.Join(hints, "\n"), "agentctl status"))
	case len(t.Unasked) > 0:
		return api.Errorf(api.KindFailed, "test: members that did not take part: %d", len(t.Unasked)).WithHint("agentctl members")
	case t.Passed == 0:
		return api.Errorf(api.KindFailed, "test: no check was made").WithHint("agentctl test -v # the names that --run takes")
	}
	return nil
}

// suite and testcase are what JUnit's readers agree on.
type suite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Time     string     `xml:"time,attr"`
	Cases    []testcase `xml:"testcase"`
}

type testcase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr"`
	Failure *verdict `xml:"failure"`
	Skipped *verdict `xml:"skipped"`
}

type verdict struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes a file whole: a reader never sees half of one.
func writeJUnit(path string, t api.Test) error {
	seconds := func(ms int64) string { return fmt.Sprintf("%.3f", (time.Duration(ms) * time.Millisecond).Seconds()) }
	s := suite{Name: "weft", Tests: len(t.Checks), Failures: t.Failed, Skipped: t.Skipped, Time: seconds(t.Took)}
	for _, c := range t.Checks {
		one := testcase{Class: "weft." + cmp.Or(c.Host, "cluster"), Name: c.Name, Time: seconds(c.Took)}
		switch c.State {
		case "failed":
			one.Failure = &verdict{c.Why, c.Hint}
		case "skipped":
			one.Skipped = &verdict{Message: c.Why}
		}
		s.Cases = append(s.Cases, one)
	}
	b, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	half := path + ".part"
	if err := os.WriteFile(half, append([]byte(xml.Header), append(b, '\n')...), 0o644); err != nil {
		return err
	}
	return os.Rename(half, path)
}
