package api

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
)

// module is the path of the module that these programs are built from.
const module = "github.com/weft-net/weft"

// unversioned is the version of a build that records none: a test, or a tree
// without its repository.
const unversioned = "devel"

// release is what `git describe` says of the tree, put here by the linker:
//
//	-ldflags "-X github.com/weft-net/weft/agent/api.release=$(git describe --tags --always --dirty)"
var release string

// Release is the version of the program that calls it; agentd, agentctl and the
// plugins are built and released together. It is what `git describe` said where
// make, or the Debian package, built the program: a tag, "v0.1.0-12-gabc1234"
// twelve commits after it, or the bare hash of a commit with no tag before it.
// Otherwise it is the version of the module, or the commit, that the go command
// recorded, and "devel" where that recorded nothing.
//
// A release is for people: nothing compares two of them. What two agents can
// speak is in the formats that each of them announces.
func Release() string {
	return releaseOf(release, recorded())
}

// UserAgent names the program to whatever it calls over HTTP.
func UserAgent() string { return "weft/" + Release() }

// OwnVersion is the program's answer to the question for its version.
func OwnVersion() Version {
	return Version{Version: Release(), Commit: commitOf(recorded()), Go: runtime.Version()}
}

// recorded is what the go command put into this program; nil: nothing.
var recorded = sync.OnceValue(func() *debug.BuildInfo {
	info, _ := debug.ReadBuildInfo()
	return info
})

// releaseOf chooses between what the linker was told and what the go command
// recorded; info may be nil.
func releaseOf(linked string, info *debug.BuildInfo) string {
	return cmp.Or(linked, moduleVersion(info), short(commitOf(info)), unversioned)
}

// moduleVersion is empty for a module that was built in its own tree, unless the
// go command found the repository. A program of another module has this one among
// its dependencies.
func moduleVersion(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	m := &info.Main
	if m.Path != module {
		i := slices.IndexFunc(info.Deps, func(d *debug.Module) bool { return d.Path == module })
		if i < 0 {
			return ""
		}
		m = info.Deps[i]
	}
	if m.Version == "(devel)" {
		return ""
	}
	return m.Version
}

// commitOf is the commit that the main module was built from, if it is this one.
func commitOf(info *debug.BuildInfo) string {
	if info == nil || info.Main.Path != module {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// short is a commit as git abbreviates it.
func short(commit string) string { return commit[:min(len(commit), 12)] }
