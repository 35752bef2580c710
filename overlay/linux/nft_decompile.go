package linux

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"github.com/google/nftables/expr"
)

// decompile is the inverse of compile: the text of a rule that the kernel has.
// What compile would not make exactly so, somebody else has made, and the text
// says it: it equals none of ours.
func decompile(exprs []expr.Any) string {
	var d decompiler
	for _, e := range exprs {
		d.expression(e)
	}
	rule := strings.Join(d.words, " ")
	if again, err := compile(rule); err != nil || !reflect.DeepEqual(again, forgetful(exprs)) {
		rule = strings.TrimSpace(rule + " # not ours")
	}
	return rule
}

// forgetful returns the expressions with their counters at zero.
func forgetful(exprs []expr.Any) []expr.Any {
	zero := make([]expr.Any, len(exprs))
	for i, e := range exprs {
		if _, ok := e.(*expr.Counter); ok {
			e = &expr.Counter{}
		}
		zero[i] = e
	}
	return zero
}

type decompiler struct {
	words    []string
	key      []field // loaded and not used yet
	mask     []byte
	loaded   []byte // a value loaded and not used yet
	protocol string // the transport protocol asked for
}

func (d *decompiler) say(words ...string) { d.words = append(d.words, words...) }

func (d *decompiler) expression(e expr.Any) {
	switch e := e.(type) {
	case *expr.Cmp:
		d.compared(e)
	case *expr.Lookup:
		if e.IsDestRegSet {
			d.say("dnat ip to")
			d.named()
			d.say("map", "@"+e.SetName)
			return
		}
		d.named()
		if e.Invert {
			d.say("!=")
		}
		d.say("@" + e.SetName)
	case *expr.Bitwise:
		d.mask = e.Mask
	case *expr.Immediate:
		d.loaded = e.Data
	case *expr.Counter:
		d.say("counter")
	case *expr.Notrack:
		d.say("notrack")
	case *expr.Masq:
		d.say("masquerade")
	case *expr.NAT: // said with its map
	case *expr.Verdict:
		d.verdict(e)
	case *expr.Redir:
		d.redirect(e)
	default:
		if f, ok := loaded(e, d.protocol); ok {
			d.key = append(d.key, f)
			return
		}
		d.say(strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr.")))
	}
}

// named says the loaded fields.
func (d *decompiler) named() {
	names := make([]string, len(d.key))
	for i, f := range d.key {
		names[i] = f.name
	}
	d.say(strings.Join(names, " . "))
	d.key = nil
}

func (d *decompiler) compared(e *expr.Cmp) {
	if len(d.key) == 0 {
		d.say("cmp", raw(e.Data))
		return
	}
	f := d.key[0]
	d.named()
	value, not := e.Data, e.Op != expr.CmpOpEq
	switch {
	case d.mask != nil && f.any && isZero(value):
		value, not = d.mask, !not
	case d.mask != nil:
		d.say("&", f.value.format(d.mask))
		if !not {
			d.say("==")
		}
	}
	d.mask = nil
	if not {
		d.say("!=")
	}
	d.say(f.value.format(value))
	if f.name == "meta l4proto" {
		d.protocol = f.value.format(value)
	}
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func (d *decompiler) verdict(e *expr.Verdict) {
	for word, kind := range verdicts {
		if kind == e.Kind {
			d.say(word)
		}
	}
	if e.Chain != "" {
		d.say(e.Chain)
	}
}
