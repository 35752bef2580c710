package main

import (
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	name, section, page, err := roff([]byte(`# weft-cloth(7): how it is made

Read [weft-loom(7)](loom.md). Type `+"`loom --fast`"+`, or:

`+"```"+`
loom --fast 'red'
…
.hidden
`+"```"+`

## WHEN IT TEARS

![picture](cloth.png)

- one
- two

| what | then |
|---|---|
| warp | the **thread** goes, as `+"`loom --fast`"+` says |
`), "1.2-3")
	if err != nil {
		t.Fatal(err)
	}
	want := `'\" t
.TH "WEFT\-CLOTH" 7 "" "weft 1.2\-3" "weft"
.nh
.ad l
.SH "NAME"
weft\-cloth \- how it is made
.SH "DESCRIPTION"

.PP
Read weft\-loom(7)\&. Type \fBloom \-\-fast\fR, or:

.PP
.RS 4
.nf
loom \-\-fast \(aqred\(aq
\&...
\&.hidden
.fi
.RE

.SH WHEN IT TEARS

.IP \(bu 2
one
.IP \(bu 2
two

.TS
allbox;
l lx .
what	then
warp	T{
the \fBthread\fP goes, as \fBloom \-\-fast\fR says
T}
.TE
`
	if got := strings.ReplaceAll(string(page), "\n\n", "\n"); name != "weft-cloth" || section != "7" || got != strings.ReplaceAll(want, "\n\n", "\n") {
		t.Errorf("%s(%s) is\n%swant\n%s", name, section, got, want)
	}
}

func TestPageWithoutATitleIsRefused(t *testing.T) {
	for _, source := range []string{"", "# weft\n", "# weft(9): nine\n", "weft(7): no heading\n"} {
		if _, _, page, err := roff([]byte(source), "1"); err == nil || !strings.Contains(err.Error(), "first line") {
			t.Errorf("%q becomes %q, %v", source, page, err)
		}
	}
}
