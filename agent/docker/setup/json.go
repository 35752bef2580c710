package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/tailscale/hujson"
)

// object is a daemon.json as a syntax tree, which keeps the bytes of all that is
// not changed.
type object struct {
	*hujson.Object
	root hujson.Value
	text []byte // as it was read, for the line of an error
}

var (
	errNoObject = errors.New("not a JSON object")
	errTwice    = errors.New("a key is given twice")
	errTrailing = errors.New("something follows the JSON object")
)

// parse reads a daemon.json; an empty file is an empty object. The error names
// the line.
func parse(text []byte) (object, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte("{\n}\n")
	}
	if err := checkStandard(text); err != nil {
		return object{}, err
	}
	root, err := hujson.Parse(text)
	if err != nil {
		return object{}, err
	}
	all, ok := root.Value.(*hujson.Object)
	if !ok {
		return object{}, atLine(text, 0, errNoObject)
	}
	o := object{all, root, text}
	for i, m := range all.Members {
		if o.index(keyOf(m)) < i {
			return object{}, atLine(text, m.Name.StartOffset, fmt.Errorf("%w: %q", errTwice, keyOf(m)))
		}
	}
	return o, nil
}

// checkStandard refuses the comments and trailing commas that hujson takes: the
// engine would not start with them.
func checkStandard(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	var value json.RawMessage
	err := d.Decode(&value)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return atLine(text, int(syntax.Offset), err)
	}
	if err != nil {
		return atLine(text, len(bytes.TrimSpace(text)), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return atLine(text, int(d.InputOffset()), errTrailing)
	}
	return nil
}

// atLine is err with the line of an offset.
func atLine(text []byte, offset int, err error) error {
	return fmt.Errorf("line %d: %w", 1+bytes.Count(text[:min(offset, len(text))], []byte("\n")), err)
}

func keyOf(m hujson.ObjectMember) string { return m.Name.Value.(hujson.Literal).String() }

// index is the place of the first member with a key; -1: there is none.
func (o object) index(key string) int {
	return slices.IndexFunc(o.Members, func(m hujson.ObjectMember) bool { return keyOf(m) == key })
}

// find is the value of a key; nil: there is none.
func (o object) find(key string) *hujson.Value {
	if i := o.index(key); i >= 0 {
		return &o.Members[i].Value
	}
	return nil
}

// set gives a key a value. A new one stands before all others, on a line of its
// own, as far in as they are.
func (o object) set(key string, value hujson.ValueTrimmed) {
	if v := o.find(key); v != nil {
		v.Value = value
		return
	}
	m := hujson.ObjectMember{
		Name:  hujson.Value{BeforeExtra: hujson.Extra("\n" + o.indent()), Value: hujson.String(key)},
		Value: hujson.Value{BeforeExtra: hujson.Extra(" "), Value: value},
	}
	if len(o.Members) == 0 && !bytes.HasPrefix(o.AfterExtra, []byte("\n")) {
		o.AfterExtra = slices.Concat(hujson.Extra("\n"), o.AfterExtra)
	}
	o.Members = slices.Insert(o.Members, 0, m)
}

// indent is what stands before the first key on its line.
func (o object) indent() string {
	if len(o.Members) > 0 {
		before := o.Members[0].Name.BeforeExtra
		if i := bytes.LastIndexByte(before, '\n'); i >= 0 {
			return string(before[i+1:])
		}
	}
	return "  "
}

// remove takes a key out, with the comma that went with it.
func (o object) remove(key string) {
	i := o.index(key)
	if i < 0 {
		return
	}
	before := o.Members[i].Name.BeforeExtra
	o.Members = slices.Delete(o.Members, i, i+1)
	if n := len(o.Members); n > 0 {
		o.Members[n-1].Value.AfterExtra = nil // else hujson writes a comma behind it
		if i == 0 {
			o.Members[0].Name.BeforeExtra = before
		}
	}
}

// packed is the text of a value, without what stands around it.
func packed(v *hujson.Value) []byte { return hujson.Value{Value: v.Value}.Pack() }
