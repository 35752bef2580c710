package main

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/agent/api"
)

// Templates that Docker's pages show print what Docker's own inspect and ls print.
func TestTemplatesAreDockers(t *testing.T) {
	n := api.Network{
		Name: "blue", ID: "0123456789abcdef", Labels: map[string]string{"team": "web shop"},
		Containers: map[string]api.Container{
			"e1": {Name: "web", IPv4Address: "10.64.0.2/20"},
			"e2": {Name: "db", IPv4Address: "10.64.0.3/20"},
		},
	}
	n.IPAM.Config = []api.IPAMConfig{{Subnet: "10.64.0.0/20", Gateway: "10.64.0.1"}}
	for _, c := range []struct{ format, want string }{
		{`{{range .Containers}}{{.Name}}{{"\n"}}{{end}}`, "web\ndb\n\n"},
		{`{{range .Containers}}{{println .Name .IPv4Address}}{{end}}`, "web 10.64.0.2/20\ndb 10.64.0.3/20\n\n"},
		{`{{range $id, $c := .Containers}}{{$id}}={{$c.Name}} {{end}}`, "e1=web e2=db \n"},
		{`{{(index .IPAM.Config 0).Gateway}}`, "10.64.0.1\n"},
		{`{{range .IPAM.Config}}{{.Subnet}}{{end}}`, "10.64.0.0/20\n"},
		{`{{json .Labels}}`, `{"team":"web shop"}` + "\n"},
		{`{{index .Labels "team" | title}} {{.Name | upper}} {{lower "ABC"}}`, "Web Shop BLUE abc\n"},
		{`{{join (split .Name "l") "-"}}`, "b-ue\n"},
		{`{{.Id}} {{truncate .Name 2}}|{{pad .Name 1 2}}|`, "0123456789abcdef bl| blue  |\n"},
		{`{{.Name}}\t{{len .Containers}}\n`, "blue\t2\n\n"},
		{`{{printf "%s\t%d" .Name 2}}`, "blue\t2\n"},
		{"{{`raw \\n}}`}}\\n", `raw \n}}` + "\n\n"},
		{`{{"}}\t"}}\t{{/* a "comment */}}|`, "}}\t\t|\n"},
		{`{{with index .Labels "none"}}{{.}}{{else}}none{{end}}`, "none\n"},
		{`table {{.Name}}\t{{.ID}}`, "NAME  ID\nblue  0123456789abcdef\n"},
		{`table {{.Name | title}}\t{{truncate .ID 4}}`, "NAME  ID\nBlue  0123\n"},
	} {
		f, err := parseFormat(c.format)
		if err != nil {
			t.Errorf("%s: %v", c.format, err)
			continue
		}
		var b strings.Builder
		if err := f.print(&b, []any{n}); err != nil || b.String() != c.want {
			t.Errorf("%s: %q, %v, want %q", c.format, b.String(), err, c.want)
		}
	}
	for _, bad := range []string{`{{"`, `{{.Name`, `{{end}}`, `{{nothing .Name}}`} {
		if _, err := parseFormat(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// Whatever is between the actions, an action itself is never changed.
func FuzzUnescape(f *testing.F) {
	f.Add(`{{"\n"}}\n`)
	f.Add("{{`\\t`}}{{'\\n'}}{{/* \\n */}}")
	f.Fuzz(func(t *testing.T, text string) {
		got := unescape(text)
		before, after := action.FindAllString(text, -1), action.FindAllString(got, -1)
		if len(before) > len(after) {
			t.Errorf("%q has %d actions, %q %d", text, len(before), got, len(after))
		}
		if strings.NewReplacer("\t", "", "\n", "", `\t`, "", `\n`, "").Replace(text) != strings.NewReplacer("\t", "", "\n", "", `\t`, "", `\n`, "").Replace(got) {
			t.Errorf("%q became %q", text, got)
		}
	})
}
