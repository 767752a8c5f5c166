// Package built says what a program was built of: version, commit, date, Go. The Makefile
// has the linker set it; a program that go install built says what Go noted in it. Only
// the programs and their command lines import it.
package built

import (
	"runtime"
	"runtime/debug"
)

// Set by the linker; date is that of the commit, so that two builds are the same bytes.
var commit, date string

// Unknown is the version of a program that neither the linker nor Go has told one.
const Unknown = "unknown"

// Version returns version, which the linker has set, or else that of the module that go
// install has fetched.
func Version(version string) string {
	info, ok := debug.ReadBuildInfo()
	if version != Unknown || !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return version
	}
	return info.Main.Version
}

// Text returns what the command version prints: first, then the commit and its date, where
// they are known.
func Text(first string) string {
	c, d := source()
	return text(first, c, d)
}

// Commit returns the commit that the program was built of, "" where that is not known.
func Commit() string {
	c, _ := source()
	return c
}

func source() (c, d string) {
	c, d = commit, date
	if info, ok := debug.ReadBuildInfo(); ok && c == "" {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				c = s.Value
			case "vcs.time":
				d = s.Value
			}
		}
	}
	return c, d
}

func text(first, commit, date string) string {
	if commit == "" {
		return first
	}
	if date != "" {
		date = ", " + date
	}
	return first + "\ncommit " + commit + date
}

// Go returns the version of Go, and for which system.
func Go() string { return runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH }
