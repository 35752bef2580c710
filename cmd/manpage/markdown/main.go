// Command markdown makes manual pages out of the pages of cmd/manual/, which are
// Markdown so that they can be read where they stand. The package is built with it;
// it is not shipped.
//
//	markdown VERSION DIRECTORY FILE…
//
// The first line of a FILE is "# NAME(SECTION): what it is in a few words".
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/russross/blackfriday/v2"

	"github.com/weft-net/weft/cmd/manpage"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: markdown VERSION DIRECTORY FILE…")
		os.Exit(2)
	}
	for _, file := range os.Args[3:] {
		if err := convert(os.Args[1], os.Args[2], file); err != nil {
			fmt.Fprintf(os.Stderr, "markdown: %s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

// convert writes NAME.SECTION into dir.
func convert(version, dir, file string) error {
	source, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	name, section, page, err := roff(source, version)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+"."+section), page, 0o644)
}

var title = regexp.MustCompile(`^# ([a-z-]+)\(([1-8])\): (.+)\n`)

// roff is the page as man(7) wants it.
func roff(source []byte, version string) (name, section string, page []byte, err error) {
	m := title.FindSubmatch(source)
	if m == nil {
		return "", "", nil, fmt.Errorf("the first line is not # NAME(SECTION): WORDS")
	}
	name, section = string(m[1]), string(m[2])
	inner := md2man.NewRoffRenderer()
	r := renderer{Renderer: inner, head: fmt.Sprintf("'\\\" t\n.TH \"%s\" %s \"\" \"weft %s\" \"weft\"\n.nh\n.ad l\n.SH \"NAME\"\n%s \\- %s\n.SH \"DESCRIPTION\"\n",
		manpage.Text(strings.ToUpper(name)), section, manpage.Text(version), manpage.Text(name), manpage.Text(string(m[3])))}
	return name, section, blackfriday.Run(source[len(m[0]):], blackfriday.WithRenderer(r), blackfriday.WithExtensions(inner.GetExtensions())), nil
}

// renderer is md2man's, but for what a reader copies and looks up: it lets a hyphen
// become another sign, prints the address behind a link to the page beside it, and
// gives the columns of a table no width.
type renderer struct {
	blackfriday.Renderer
	head string
}

func (r renderer) RenderHeader(w io.Writer, _ *blackfriday.Node) { put(w, r.head) }

func (r renderer) RenderNode(w io.Writer, node *blackfriday.Node, entering bool) blackfriday.WalkStatus {
	switch node.Type {
	case blackfriday.Text:
		put(w, manpage.Text(string(node.Literal)))
	case blackfriday.Code:
		put(w, `\fB`+manpage.Text(string(node.Literal))+`\fR`)
	case blackfriday.CodeBlock:
		put(w, "\n.PP\n.RS 4\n.nf\n"+manpage.Text(string(node.Literal))+".fi\n.RE\n")
	case blackfriday.Link: // its text is a name that man finds
	case blackfriday.Image:
		return blackfriday.SkipChildren
	case blackfriday.Table:
		if !entering {
			put(w, ".TE\n")
			break
		}
		put(w, "\n.TS\nallbox;\n")
		for _, wide := range widths(node) {
			if wide {
				put(w, "lx ")
			} else {
				put(w, "l ")
			}
		}
		put(w, ".\n")
	case blackfriday.TableCell:
		cell(w, node, entering)
	default:
		return r.Renderer.RenderNode(w, node, entering)
	}
	return blackfriday.GoToNext
}

// wide is how many signs a column may have that is not broken into lines.
const wide = 22

// widths says of each column whether its cells are broken into lines.
func widths(table *blackfriday.Node) (broken []bool) {
	column := 0
	table.Walk(func(n *blackfriday.Node, entering bool) blackfriday.WalkStatus {
		switch {
		case !entering:
		case n.Type == blackfriday.TableRow:
			column = 0
		case n.Type == blackfriday.TableCell:
			if column == len(broken) {
				broken = append(broken, false)
			}
			broken[column] = broken[column] || len(plain(n)) > wide
			column++
		}
		return blackfriday.GoToNext
	})
	return broken
}

// plain is what a cell shows.
func plain(cell *blackfriday.Node) []rune {
	var text bytes.Buffer
	cell.Walk(func(n *blackfriday.Node, _ bool) blackfriday.WalkStatus {
		text.Write(n.Literal)
		return blackfriday.GoToNext
	})
	return bytes.Runes(text.Bytes())
}

func cell(w io.Writer, node *blackfriday.Node, entering bool) {
	long := len(plain(node)) > wide
	switch {
	case entering && node.Prev != nil:
		put(w, "\t")
	case !entering && long:
		put(w, "\nT}")
	}
	if entering && long {
		put(w, "T{\n")
	}
	if !entering && node.Next == nil {
		put(w, "\n")
	}
}

func put(w io.Writer, s string) {
	_, _ = io.WriteString(w, s) // into blackfriday's buffer, which takes all
}
