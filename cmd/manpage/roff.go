package manpage

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// page is roff in the making, with the macros of man(7).
type page struct{ strings.Builder }

func (p *page) line(s string)       { p.WriteString(s + "\n") }
func (p *page) section(name string) { p.line(`.SH "` + Text(name) + `"`) }

func (p *page) title(name string, section int, version string) {
	p.line(fmt.Sprintf(`.TH "%s" %d "" "weft %s" "weft"`, Text(strings.ToUpper(name)), section, Text(version)))
	p.line(".nh\n.ad l") // neither a command nor an address is to be hyphenated or stretched
}

// item is a term with what it means.
func (p *page) item(term, meaning string) {
	p.line(".TP\n" + term + "\n" + Text(meaning))
}

// prose is paragraphs, separated by blank lines; instead stands for none.
func (p *page) prose(s, instead string) {
	if s == "" {
		s = instead
	}
	for i, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			p.line(".PP")
		}
		p.line(Text(paragraph))
	}
}

// verbatim is shown as it stands, in a fixed font.
func (p *page) verbatim(s string) {
	p.line(".nf\n" + Text(strings.TrimRight(s, "\n")) + "\n.fi")
}

// Text escapes what roff would take for its own: backslashes, hyphens (which
// it would turn into other signs), a control character that begins a line, and
// what is not ASCII.
func Text(s string) string {
	var b strings.Builder
	begin := true
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '.' && begin:
			b.WriteString(`\&.`)
		case r == '…' && begin:
			b.WriteString(`\&...`)
		case r == '…':
			b.WriteString("...")
		case r >= utf8.RuneSelf:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
		begin = r == '\n'
	}
	return b.String()
}

// lower begins a phrase in lower case, as the name line of a page does, but for
// a word that is written in capitals.
func lower(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
