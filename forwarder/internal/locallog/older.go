package locallog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// What pkg/logscan reads as one log: audit.log, and the older files beside it,
// numbered or named by the time of their rotation, as they are or compressed.
const (
	packedSuffix = ".zst"
	gzipSuffix   = ".gz" // others may have made such; they are left alone
	// datedLayout is in UTC: such names sort by time.
	datedLayout = "2006-01-02T15-04-05"
)

// older is a log that was put aside. It is there twice only while its plain file
// is about to go: that is whole, and counts.
type older struct {
	name          string // without packedSuffix
	plain, packed bool
}

// olderLogs are the logs beside audit.log.
type olderLogs struct {
	numbered []older // from 1 upwards, as far as there is no gap: the newest first
	dated    []older // the oldest first
	newest   time.Time
}

func (o *olderLogs) count() int { return len(o.numbered) + len(o.dated) }

// byAge lists them, the oldest first. Those of the kind that is not made any
// more are older than the others, whatever the clock did meanwhile.
func (o *olderLogs) byAge(dated bool) []older {
	numbered := slices.Clone(o.numbered)
	slices.Reverse(numbered)
	if dated {
		return append(numbered, o.dated...)
	}
	return append(slices.Clone(o.dated), numbered...)
}

func numberedName(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// listOlder reads the folder.
func listOlder(disk fsys.FS, path string) (*olderLogs, error) {
	names, err := disk.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("list the older logs: %w", err)
	}
	found := make(map[string]*older)
	out := &olderLogs{}
	base := filepath.Base(path) + "."
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		stamp, packed := strings.CutSuffix(rest, packedSuffix)
		if at, err := time.Parse(datedLayout, strings.TrimSuffix(stamp, gzipSuffix)); err == nil && at.After(out.newest) {
			out.newest = at
		}
		o := found[stamp]
		if o == nil {
			o = &older{name: path + "." + stamp}
			found[stamp] = o
		}
		o.plain, o.packed = o.plain || !packed, o.packed || packed
	}
	for n := 1; found[strconv.Itoa(n)] != nil; n++ {
		out.numbered = append(out.numbered, *found[strconv.Itoa(n)])
	}
	for stamp, o := range found {
		if _, err := time.Parse(datedLayout, stamp); err == nil {
			out.dated = append(out.dated, *o)
		}
	}
	slices.SortFunc(out.dated, func(a, b older) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// removeOlder removes a log in whichever form it is there, and reports whether it
// was. The plain file goes last: until then the log is there, once.
func removeOlder(disk fsys.FS, name string) (bool, error) {
	there := false
	for _, file := range []string{name + packedSuffix, name} {
		err := disk.Remove(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return there, err
		}
		there = there || err == nil
	}
	return there, nil
}

func removeIfThere(disk fsys.FS, name string) error {
	if err := disk.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
