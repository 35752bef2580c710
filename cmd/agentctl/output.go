package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// forms is what -o takes.
var forms = []string{"table", "json", "jsonl", "yaml"}

// output is the form of one command's answer: -o and --format.
type output struct {
	form     string
	format   string     // as given
	template *rowFormat // from check on, when format is a template
}

// addFlags gives cmd both flags; the form is fallback when neither is given.
func (o *output) addFlags(cmd *cobra.Command, fallback string) {
	o.addOutput(cmd, fallback)
	o.addFormat(cmd, "")
}

func (o *output) addOutput(cmd *cobra.Command, fallback string) {
	cmd.Flags().StringVarP(&o.form, "output", "o", fallback, "the `FORMAT` of the answer: "+strings.Join(forms, ", "))
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
}

// addFormat gives cmd --format, with a shorthand unless that is empty.
func (o *output) addFormat(cmd *cobra.Command, shorthand string) {
	cmd.Flags().StringVarP(&o.format, "format", shorthand, "", "json, or a Go `TEMPLATE` for each row, such as '{{.Name}}'")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
}

// check says what is wrong with the flags before anything is done.
func (o *output) check(cmd *cobra.Command) error {
	if !slices.Contains(forms, o.form) && cmd.Flags().Lookup("output") != nil {
		return misuse(cmd, "-o %s: the formats are %s", o.form, strings.Join(forms, ", "))
	}
	switch {
	case o.format == "":
		return nil
	case cmd.Flags().Changed("output"):
		return misuse(cmd, "-o and --format exclude each other")
	case slices.Contains(forms, o.format):
		o.form = o.format
		return nil
	}
	var err error
	if o.template, err = parseFormat(o.format); err != nil {
		return misuse(cmd, "--format: %v", err)
	}
	return nil
}

// print writes v, a struct or a slice of structs, in the form asked for; table
// writes the form for people, its columns separated by tabs.
func (o *output) print(w io.Writer, v any, table func(io.Writer)) error {
	switch {
	case o.template != nil:
		return o.template.print(w, rows(v))
	case o.form == "json":
		return writeJSON(w, "  ", v)
	case o.form == "jsonl":
		return writeJSON(w, "", rows(v)...)
	case o.form == "yaml":
		b, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("print as yaml: %w", err)
		}
		_, err = w.Write(b)
		return err
	default:
		return columns(w, table)
	}
}

// columns aligns what table writes.
func columns(w io.Writer, table func(io.Writer)) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	table(tw)
	return tw.Flush()
}

// line writes the cells of one row. An empty cell is a dash, so that awk counts
// the same columns in every row.
func line(w io.Writer, cells ...string) {
	for i, c := range cells {
		if cells[i] = oneLine(c); cells[i] == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// short is the part of an id that people tell it by, as Docker's.
func short(id string) string { return id[:min(len(id), 12)] }

func writeJSON(w io.Writer, indent string, values ...any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("print as json: %w", err)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// rows is the elements of a slice, or v alone.
func rows(v any) []any {
	s := reflect.ValueOf(v)
	if s.Kind() != reflect.Slice {
		return []any{v}
	}
	list := make([]any, s.Len())
	for i := range list {
		list[i] = s.Index(i).Interface()
	}
	return list
}
