// Package bundle writes what somebody who helps needs to see of hosts into one archive,
// without secrets. It knows archives and what a secret looks like, and nothing of what
// the parts mean.
package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// Part is one file of a bundle.
type Part struct {
	Name  string // its path in the bundle
	About string // one sentence, for who reads it
	Make  func(ctx context.Context) ([]byte, error)
}

// partTime is how long one part may take.
const partTime = 20 * time.Second

// mostPart is how large a file of a bundle may be; what is longer is cut, and said to be.
const mostPart = 32 << 20

// Write makes the parts one after the other and returns the archive (tar, compressed),
// all of it below the directory top. A part that fails is named in README, and stops
// nothing. No file has one of secrets in it.
func Write(ctx context.Context, top, title string, parts []Part, secrets Secrets) ([]byte, error) {
	a := newArchive(top, time.Now())
	var made, failed strings.Builder
	for _, p := range parts {
		text, err := make1(ctx, p)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(&failed, "  %s\n      %s\n", p.Name, secrets.Scrub([]byte(err.Error())))
			continue
		}
		if len(text) > mostPart {
			text = append(text[:mostPart:mostPart], "\n(cut here: it is longer)\n"...)
		}
		text = secrets.Scrub(text)
		if err := a.add(p.Name, text); err != nil {
			return nil, err
		}
		fmt.Fprintf(&made, "  %s (%d bytes)\n      %s\n", p.Name, len(text), p.About)
	}
	readme := title + "\n\nFiles:\n" + made.String()
	if failed.Len() > 0 {
		readme += "\nWhat could not be had, and why:\n" + failed.String()
	}
	readme += "\nKeys, join tokens and ACL tokens are left out, wherever they stood: " + leftOut + " stands there.\n"
	if err := a.add("README", secrets.Scrub([]byte(readme))); err != nil {
		return nil, err
	}
	return a.close()
}

// make1 makes one part, and survives what it does.
func make1(ctx context.Context, p Part) (text []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it panicked: %v", r)
		}
	}()
	text, err = p.Make(ctx)
	if err == nil && len(text) == 0 {
		text = []byte("(empty)\n")
	}
	return text, err
}

// archive is one that is being written.
type archive struct {
	top string
	at  time.Time
	out bytes.Buffer
	gz  *gzip.Writer
	tar *tar.Writer
}

func newArchive(top string, at time.Time) *archive {
	a := &archive{top: top, at: at}
	a.gz = gzip.NewWriter(&a.out)
	a.tar = tar.NewWriter(a.gz)
	return a
}

func (a *archive) add(name string, text []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(a.top, name), Mode: 0o600, Size: int64(len(text)), ModTime: a.at}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("bundle: %s: %w", name, err)
	}
	if _, err := a.tar.Write(text); err != nil {
		return fmt.Errorf("bundle: %s: %w", name, err)
	}
	return nil
}

func (a *archive) close() ([]byte, error) {
	if err := errors.Join(a.tar.Close(), a.gz.Close()); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return a.out.Bytes(), nil
}

// Bounds of a bundle that another host made.
const (
	mostFiles    = 200
	mostUnpacked = 128 << 20
)

// Of returns the parts of a member's bundle, below dir. The member may have sent
// anything: only plain files with local names are taken, up to a bound.
func Of(archive []byte, dir string) (parts []Part, err error) {
	gz, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("it is no bundle: %w", err)
	}
	left := int64(mostUnpacked)
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return parts, nil
		case err != nil:
			return parts, fmt.Errorf("its bundle ends early: %w", err)
		case h.Typeflag != tar.TypeReg:
			return parts, fmt.Errorf("%q in its bundle is no file", h.Name)
		case len(parts) >= mostFiles || h.Size > left:
			return parts, errors.New("its bundle is too large")
		}
		_, name, _ := strings.Cut(h.Name, "/") // without its own top
		name = cmp.Or(name, h.Name)
		if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) || !localName(name) {
			return parts, fmt.Errorf("%q in its bundle is no name of a file", h.Name)
		}
		text, err := io.ReadAll(io.LimitReader(r, h.Size))
		if err != nil {
			return parts, fmt.Errorf("its bundle ends early: %w", err)
		}
		left -= h.Size
		parts = append(parts, Part{Name: dir + "/" + name, About: "of that host", Make: func(context.Context) ([]byte, error) { return text, nil }})
	}
}

// localName reports whether a path stays below where it is unpacked.
func localName(name string) bool {
	return name != "" && !path.IsAbs(name) && path.Clean(name) == name && name != ".." && !strings.HasPrefix(name, "../")
}
