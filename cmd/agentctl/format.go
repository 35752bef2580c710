package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"text/template"
	"unicode"

	"github.com/weft-net/weft/agent/api"
)

// rowFormat is a template of --format, in Docker's dialect: fields by their Go
// name ({{.ID}}) or by their JSON key ({{.Id}}), "table " before a template for
// aligned columns under a header, \t and \n between the actions for tab and newline.
type rowFormat struct {
	row    *template.Template
	keys   *template.Template // the same for a row as JSON decodes it
	header *template.Template // nil without "table "
}

// formatFuncs are the functions of Docker's templates, beside those that every Go
// template has.
var formatFuncs = template.FuncMap{
	"join":     join,
	"json":     toJSON,
	"lower":    strings.ToLower,
	"pad":      pad,
	"split":    strings.Split,
	"title":    title,
	"truncate": truncate,
	"upper":    strings.ToUpper,
}

// headerFuncs leaves the header's words as they are.
var headerFuncs = template.FuncMap{
	"join":     func(v, _ any) any { return v },
	"json":     func(v any) any { return v },
	"lower":    func(v any) any { return v },
	"pad":      pad,
	"split":    func(v, _ any) any { return v },
	"title":    func(v any) any { return v },
	"truncate": func(v, _ any) any { return v },
	"upper":    func(v any) any { return v },
}

// join joins a list of anything, as it is before or after JSON.
func join(list any, separator string) (string, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice {
		return "", fmt.Errorf("join: %T is no list", list)
	}
	words := make([]string, v.Len())
	for i := range words {
		words[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(words, separator), nil
}

// title writes each word with a capital.
func title(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		begins := !unicode.IsLetter(before) && !unicode.IsDigit(before) && before != '_' && before != '\''
		before = r
		if begins {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

// pad puts spaces around a text that is not empty.
func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

// truncate cuts a text to so many characters.
func truncate(s string, length int) string {
	r := []rune(s)
	return string(r[:min(len(r), max(length, 0))])
}

// action is one {{...}} of a template: with quoted texts, in which }} ends nothing.
var action = regexp.MustCompile("(?s)\\{\\{(?:\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|'(?:[^'\\\\]|\\\\.)*'|/\\*.*?\\*/|[^\"`'])*?\\}\\}")

// unescape makes tabs and newlines of \t and \n between the actions of a template.
// Within an action they are Go's, which reads them itself.
func unescape(text string) string {
	escapes := strings.NewReplacer(`\t`, "\t", `\n`, "\n")
	var b strings.Builder
	at := 0
	for _, found := range action.FindAllStringIndex(text, -1) {
		b.WriteString(escapes.Replace(text[at:found[0]]))
		b.WriteString(text[found[0]:found[1]])
		at = found[1]
	}
	b.WriteString(escapes.Replace(text[at:]))
	return b.String()
}

func toJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(b.String()), err
}

func parseFormat(text string) (*rowFormat, error) {
	text, table := strings.CutPrefix(text, "table ")
	text = unescape(text)
	f := new(rowFormat)
	var errs [3]error
	f.row, errs[0] = template.New("format").Funcs(formatFuncs).Parse(text)
	f.keys, errs[1] = template.New("format").Funcs(formatFuncs).Option("missingkey=error").Parse(text)
	if table {
		f.header, errs[2] = template.New("format").Funcs(headerFuncs).Parse(text)
	}
	return f, errors.Join(errs[0], errs[2]) // the second is the first again
}

// print writes every row with a newline after it, and all of it or nothing.
func (f *rowFormat) print(w io.Writer, list []any) error {
	var b bytes.Buffer
	if f.header != nil && len(list) > 0 {
		if err := f.header.Execute(&b, headers(list[0])); err != nil {
			return badFormat(err)
		}
		b.WriteByte('\n')
	}
	for _, v := range list {
		if err := f.one(&b, v); err != nil {
			return badFormat(err)
		}
		b.WriteByte('\n')
	}
	if f.header != nil {
		return columns(w, func(w io.Writer) { _, _ = w.Write(b.Bytes()) })
	}
	_, err := w.Write(b.Bytes())
	return err
}

// one writes a row by its Go names, and if it has not got those by its keys.
func (f *rowFormat) one(w *bytes.Buffer, v any) error {
	start := w.Len()
	err := f.row.Execute(w, v)
	if err == nil {
		return nil
	}
	w.Truncate(start)
	text, encErr := json.Marshal(v)
	if encErr != nil {
		return encErr
	}
	var decoded any
	if json.Unmarshal(text, &decoded) != nil || f.keys.Execute(w, decoded) != nil {
		return err
	}
	return nil
}

// headers gives every field its name in capitals, under both its names.
func headers(v any) map[string]string {
	h := map[string]string{}
	typ := reflect.TypeOf(v)
	for i := range typ.NumField() {
		field := typ.Field(i)
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		h[field.Name] = strings.ToUpper(key)
		h[key] = strings.ToUpper(key)
	}
	return h
}

func badFormat(err error) error {
	return api.Errorf(api.KindMisuse, "--format: %v", err)
}
