package api

import (
	"runtime/debug"
	"testing"
)

func TestReleaseIsTheBestThatTheBuildKnows(t *testing.T) {
	commit := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "819cf3b0d03cddc8a16d9b1e82b37e1ef5b40000"}}
	ours := func(version string, s ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: module, Version: version}, Settings: s}
	}
	for _, tt := range []struct {
		name   string
		linked string
		info   *debug.BuildInfo
		want   string
	}{
		{"a tag", "v0.1.0", ours("(devel)", commit...), "v0.1.0"},
		{"commits after a tag", "v0.1.0-12-gabc1234", ours("v0.1.0", commit...), "v0.1.0-12-gabc1234"},
		{"a repository without a tag", "819cf3b-dirty", nil, "819cf3b-dirty"},
		{"go install of a release", "", ours("v0.2.0"), "v0.2.0"},
		{"go build in a repository", "", ours("v0.0.0-20261130210940-819cf3b0d03c", commit...), "v0.0.0-20261130210940-819cf3b0d03c"},
		{"an older go command, which knows the commit alone", "", ours("(devel)", commit...), "819cf3b0d03c"},
		{"go build without a repository", "", ours("(devel)"), "devel"},
		{"go test", "", ours(""), "devel"},
		{"no record of the build", "", nil, "devel"},
		{"a program of another module", "", &debug.BuildInfo{Main: debug.Module{Path: "example.com/p", Version: "v9.0.0"}, Settings: commit,
			Deps: []*debug.Module{{Path: "example.com/q", Version: "v8.0.0"}, {Path: module, Version: "v0.3.0"}}}, "v0.3.0"},
		{"a program of another module that replaces this one", "", &debug.BuildInfo{Main: debug.Module{Path: "example.com/p", Version: "v9.0.0"}, Settings: commit,
			Deps: []*debug.Module{{Path: module, Version: "(devel)"}}}, "devel"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := releaseOf(tt.linked, tt.info); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestOwnVersionIsTheRelease(t *testing.T) {
	v := OwnVersion()
	if v.Version != Release() || v.Version == "" || v.Go == "" || UserAgent() != "weft/"+v.Version {
		t.Errorf("%+v, release %q, user agent %q", v, Release(), UserAgent())
	}
}
