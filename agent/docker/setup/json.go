package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// member is one key of the outermost object, with its place in the file.
type member struct {
	key        string
	start      int // of the key's quote
	value, end int // of the value
}

// object is a daemon.json: its bytes, which stay as they are where nothing is
// changed, and where its keys are.
type object struct {
	text    []byte
	members []member
	open    int // behind the opening brace
}

// parse reads a daemon.json; an empty file is an empty object. The error names
// the line.
func parse(text []byte) (object, error) {
	o := object{text: text}
	if len(bytes.TrimSpace(text)) == 0 {
		o.text = []byte("{\n}\n")
		o.open = 1
		return o, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	err := o.read(d)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return object{}, fmt.Errorf("line %d: %w", lineOf(text, d, err), err)
	}
	return o, nil
}

var (
	errNoObject = errors.New("not a JSON object")
	errTwice    = errors.New("a key is given twice")
	errTrailing = errors.New("something follows the JSON object")
)

func (o *object) read(d *json.Decoder) error {
	if t, err := d.Token(); err != nil {
		return err
	} else if t != json.Delim('{') {
		return errNoObject
	}
	o.open = int(d.InputOffset())
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		name := key.(string) // the decoder takes nothing else here
		if o.find(name) != nil {
			return fmt.Errorf("%w: %q", errTwice, name)
		}
		behind := int(d.InputOffset())
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		end := int(d.InputOffset())
		o.members = append(o.members, member{name, o.quote(behind), end - len(value), end})
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

// quote is where the key that ends before an offset begins: behind the last
// member, or the brace, at the first quote.
func (o *object) quote(end int) int {
	from := o.open
	if n := len(o.members); n > 0 {
		from = o.members[n-1].end
	}
	return from + bytes.IndexByte(o.text[from:end], '"')
}

func (o *object) find(key string) *member {
	i := slices.IndexFunc(o.members, func(m member) bool { return m.key == key })
	if i < 0 {
		return nil
	}
	return &o.members[i]
}

// lineOf is the line of an error, or that at which the reader stopped.
func lineOf(text []byte, d *json.Decoder, err error) int {
	at := d.InputOffset()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = syntax.Offset
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		at = int64(len(bytes.TrimSpace(text)))
	}
	return 1 + bytes.Count(text[:min(int(at), len(text))], []byte("\n"))
}

// with is the text with a key set to a value, all else as it was.
func (o *object) with(key string, value []byte) []byte {
	if m := o.find(key); m != nil {
		return slices.Concat(o.text[:m.value], value, o.text[m.end:])
	}
	line := fmt.Sprintf("%s%q: %s", o.indent(), key, value)
	if len(o.members) > 0 {
		line += ","
	}
	rest := o.text[o.open:]
	if len(o.members) == 0 && !bytes.HasPrefix(rest, []byte("\n")) {
		line += "\n"
	}
	return slices.Concat(o.text[:o.open], []byte("\n"+strings.TrimPrefix(line, "\n")), rest)
}

// indent is what stands before the first key.
func (o *object) indent() string {
	if len(o.members) > 0 {
		between := string(o.text[o.open:o.members[0].start])
		if i := strings.LastIndexByte(between, '\n'); i >= 0 {
			return between[i+1:]
		}
	}
	return "  "
}

// without is the text without a key and the comma that went with it.
func (o *object) without(key string) []byte {
	i := slices.IndexFunc(o.members, func(m member) bool { return m.key == key })
	switch {
	case i < 0:
		return o.text
	case i > 0: // with the comma before it
		return slices.Concat(o.text[:o.members[i-1].end], o.text[o.members[i].end:])
	case len(o.members) > 1: // with the comma behind it
		return slices.Concat(o.text[:o.members[0].start], o.text[o.members[1].start:])
	}
	return slices.Concat(o.text[:o.open], []byte("\n"), bytes.TrimLeft(o.text[o.members[0].end:], " \t\n"))
}
