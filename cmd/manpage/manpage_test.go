package manpage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func tree() *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "weave COMMAND", Short: "Make cloth", Long: "Make cloth.\n\n.dots and \\ and 'quotes' stay.", Run: run}
	root.PersistentFlags().String("loom", "", "the loom, a `PATH`")
	thread := &cobra.Command{Use: "thread NAME…", Short: "Add threads", Example: "  weave thread red -n 2", Run: run}
	thread.Flags().IntP("number", "n", 1, "how `MANY`")
	thread.Flags().Bool("secret", false, "not told")
	_ = thread.Flags().MarkHidden("secret")
	root.AddCommand(thread, &cobra.Command{Use: "inner", Hidden: true, Run: run})
	return root
}

func TestPages(t *testing.T) {
	dir := t.TempDir()
	if err := (Book{Section: 1, Version: "1.2-3", SeeAlso: []string{"loom(8)"}}).Write(tree(), dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 {
		t.Errorf("pages %q, want weave.1 and weave-thread.1", files)
	}
	for name, want := range map[string]string{
		"weave.1": `.TH "WEAVE" 1 "" "weft 1.2\-3" "weft"
.nh
.ad l
.SH "NAME"
weave \- make cloth
.SH "SYNOPSIS"
\fBweave COMMAND [flags]\fR
.SH "DESCRIPTION"
Make cloth.
.PP
\&.dots and \e and \(aqquotes\(aq stay.
.SH "COMMANDS"
.TP
\fBweave\-thread\fR(1)
Add threads
.SH "OPTIONS"
.TP
\fB\-h\fR, \fB\-\-help\fR
help for weave
.TP
\fB\-\-loom\fR \fIPATH\fR
the loom, a PATH
.SH "SEE ALSO"
loom(8)
`,
		"weave-thread.1": `.TH "WEAVE\-THREAD" 1 "" "weft 1.2\-3" "weft"
.nh
.ad l
.SH "NAME"
weave\-thread \- add threads
.SH "SYNOPSIS"
\fBweave thread NAME... [flags]\fR
.SH "DESCRIPTION"
Add threads.
.SH "OPTIONS"
.TP
\fB\-h\fR, \fB\-\-help\fR
help for thread
.TP
\fB\-n\fR, \fB\-\-number\fR \fIMANY\fR
how MANY (default 1)
.SH "OPTIONS OF EVERY COMMAND"
.TP
\fB\-\-loom\fR \fIPATH\fR
the loom, a PATH
.SH "EXAMPLE"
.nf
  weave thread red \-n 2
.fi
.SH "SEE ALSO"
weave(1), loom(8)
`,
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is\n%swant\n%s", name, got, want)
		}
	}
}

func TestFilePageShowsTheFileAsItStands(t *testing.T) {
	got := File("loom.yaml", 5, "1.2", "settings of the loom", "It is read at the start.", "# .x\nwidth: 3  # cm\n")
	if want := ".nf\n# .x\nwidth: 3  # cm\n.fi\n"; !strings.HasSuffix(got, want) {
		t.Errorf("the page is\n%swant at its end\n%s", got, want)
	}
}
