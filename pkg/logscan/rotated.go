package logscan

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// packedSuffixes are those of compressed logs.
var packedSuffixes = [...]string{"", ".zst", ".gz", ".xz", ".bz2"}

// rotated lists a log with its older files, the oldest first. Those are numbered
// upwards from 1, as the stock daemon does it, or carry the time at which they
// were put aside, and both may be compressed. Of a file that is there twice, the
// uncompressed one counts.
func rotated(log string) []string {
	numbered, dated := numberedLogs(log), datedLogs(log)
	if len(numbered) > 0 && len(dated) > 0 && modified(numbered[len(numbered)-1]).After(modified(dated[len(dated)-1])) {
		numbered, dated = dated, numbered // only their order matters from here
	}
	return append(slices.Concat(numbered, dated), log)
}

func numberedLogs(log string) (files []string) {
	for n := 1; ; n++ {
		file, ok := eitherOf(log + "." + strconv.Itoa(n))
		if !ok {
			slices.Reverse(files)
			return files
		}
		files = append(files, file)
	}
}

// Rotating says whether a number is missing among the paths that Files returned, as it is
// for a moment while rotated logs are renamed one by one: those behind it are not listed.
func Rotating(paths []string) bool {
	log, last := paths[len(paths)-1], 0
	for _, path := range paths {
		number, ok := strings.CutPrefix(path, log+".")
		for _, suffix := range packedSuffixes[1:] {
			number = strings.TrimSuffix(number, suffix)
		}
		if n, err := strconv.Atoi(number); ok && err == nil {
			last = max(last, n)
		}
	}
	_, gap := eitherOf(log + "." + strconv.Itoa(last+2))
	return gap
}

// eitherOf finds a file as it is or compressed.
func eitherOf(name string) (string, bool) {
	for _, suffix := range packedSuffixes {
		if _, err := os.Stat(name + suffix); err == nil {
			return name + suffix, true
		}
	}
	return "", false
}

// datedLayout is how a time stands in a log's name. Such names sort by time.
const datedLayout = "2006-01-02T15-04-05"

func datedLogs(log string) (files []string) {
	entries, err := os.ReadDir(filepath.Dir(log))
	if err != nil {
		return nil // what cannot be listed cannot be opened, which is said then
	}
	base := filepath.Base(log) + "."
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), base)
		for _, suffix := range packedSuffixes[1:] {
			stamp = strings.TrimSuffix(stamp, suffix)
		}
		if _, err := time.Parse(datedLayout, stamp); !ok || err != nil {
			continue
		}
		name := log + "." + stamp
		if file, ok := eitherOf(name); ok && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}

func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
