package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guides are what a person reads before and beside typing.
func guides(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"../../README.md", "../../CONTRIBUTING.md", "../../cmd/manual/*.md", "../../examples/*/README.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %q, %v", pattern, files, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			texts[file] = string(b)
		}
	}
	return texts
}

// README is what a stranger reads to the end.
func TestReadmeIsShort(t *testing.T) {
	if lines := strings.Count(guides(t)["../../README.md"], "\n"); lines > 150 {
		t.Errorf("README.md has %d lines, at most 150: the rest belongs into cmd/manual/", lines)
	}
}

var (
	fence  = regexp.MustCompile("(?ms)^```\n(.*?)^```$")
	span   = regexp.MustCompile("`([^`]+)`")
	prompt = regexp.MustCompile(`^([a-z]+[0-9]*# |hint: )`)
	joint  = regexp.MustCompile(`;|&&|\||\$\(`)
)

// typed are the commands of agentctl in a text: those in blocks as they are typed, and
// those within a sentence.
func typed(text string) (blocks, sentences []string) {
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		for l := range strings.Lines(strings.ReplaceAll(m[1], "\\\n", " ")) {
			l, _, _ = strings.Cut(prompt.ReplaceAllString(strings.TrimSpace(l), ""), " #")
			for _, one := range joint.Split(l, -1) {
				if strings.HasPrefix(strings.TrimSpace(one), "agentctl ") {
					blocks = append(blocks, strings.TrimSpace(one))
				}
			}
		}
	}
	for _, m := range span.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		if strings.HasPrefix(m[1], "agentctl ") {
			sentences = append(sentences, strings.Join(strings.Fields(m[1]), " "))
		}
	}
	return blocks, sentences
}

// parses says what is wrong with a command. Within a sentence one may be named without
// its arguments.
func parses(line string, whole bool) error {
	words := strings.Fields(strings.NewReplacer("'", "", `"`, "", "--pid PID", "--pid 1", " …", "").Replace(line))
	found, rest, err := testRoot().Find(words[1:])
	if err == nil {
		err = found.ParseFlags(rest)
	}
	if err == nil && found.HasSubCommands() && found.Flags().NArg() > 0 {
		err = fmt.Errorf("%s has no command %s", found.CommandPath(), found.Flags().Arg(0))
	}
	if err == nil && (whole || len(rest) > 0) {
		err = found.ValidateArgs(found.Flags().Args())
	}
	return err
}

func TestCommandsOfTheManualParse(t *testing.T) {
	count := 0
	for file, text := range guides(t) {
		blocks, sentences := typed(text)
		for _, line := range blocks {
			if err := parses(line, true); err != nil {
				t.Errorf("%s: %q: %v", file, line, err)
			}
		}
		for _, line := range sentences {
			if err := parses(line, false); err != nil {
				t.Errorf("%s: `%s`: %v", file, line, err)
			}
		}
		count += len(blocks) + len(sentences)
	}
	if count < 100 {
		t.Errorf("only %d commands were found", count)
	}
	for _, wrong := range []string{"agentctl stauts", "agentctl why web", "agentctl network rm", "agentctl events --loud"} {
		if blocks, _ := typed("```\nhost1# " + wrong + "    # see\n```\n"); len(blocks) != 1 || parses(blocks[0], true) == nil {
			t.Errorf("%q passes, as %q", wrong, blocks)
		}
	}
}

// A link within the repository leads somewhere.
func TestLinksOfTheManualLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):#]+)(#[^)]*)?\)`)
	count := 0
	for file, text := range guides(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			count++
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d links were found", count)
	}
}

// What the manual says of events and exit codes is what there is.
func TestWordsOfTheManual(t *testing.T) {
	kinds := regexp.MustCompile(`--kind ([a-z-]+)`)
	events, _, err := testRoot().Find([]string{"events"})
	if err != nil {
		t.Fatal(err)
	}
	known := strings.FieldsFunc(events.Long, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz-", r) })
	for file, text := range guides(t) {
		for _, m := range kinds.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s: there is no kind %s of events", file, m[1])
			}
		}
	}
}
