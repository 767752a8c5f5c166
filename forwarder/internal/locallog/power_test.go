package locallog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// text is what a file holds.
func text(t *testing.T, disk fsys.FS, name string) string {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const powerLog = "/log/audit.log"

func powerConfig(disk *faultfs.FS, mode FlushMode) Config {
	return Config{Path: powerLog, FS: disk, Flush: mode, Freq: 3, MaxSize: 1500, NumLogs: 9, Action: ActionRotate}
}

// powerLife writes lines in batches, with rotations and restarts, until it is through
// or the power is gone. It returns how many lines were written, and how many are synced.
func powerLife(disk *faultfs.FS, mode FlushMode) (written, synced int) {
	c := powerConfig(disk, mode)
	for range 2 {
		l, err := Open(c)
		if err != nil {
			return written, synced
		}
		for i := range 12 {
			var batch []string
			for range 1 + i%3 {
				batch = append(batch, powerLine(written))
				written++
			}
			write(l, batch...)
			before := l.Stats()
			l.Flush()
			if s := l.Stats(); s.Syncs > before.Syncs && s.SyncErrors == 0 && s.Dropped == 0 {
				synced = written
			}
		}
		if l.Close() == nil && l.Stats().Dropped == 0 {
			synced = written
		}
	}
	return written, synced
}

func powerLine(n int) string { return fmt.Sprintf("type=X line=%d %0*d end", n, 1+n*37%500, 0) }

// The power goes at each changing operation of a log's life, and of what was not
// synced any part is there: every line that was synced is there once, whole and on a
// line of its own, and so is the next one that is written.
func TestEveryLossOfPower(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	states, cuts := 0, 0
	for _, mode := range []FlushMode{FlushSync, FlushIncremental} {
		for n := 1; ; n++ {
			disk := faultfs.New(int64(n))
			disk.KeepHistory()
			disk.OrderedFolders() // a rotation renames many files, and relies on their order
			disk.CutPower(n)
			written, synced := powerLife(disk, mode)
			if disk.Changes() < n {
				break
			}
			for _, unit := range []int64{faultfs.Sector, faultfs.Page} {
				cuts++
				disk.EachLoss(unit, powerStates, rng, func(after *faultfs.FS) {
					states++
					checkPower(t, after, mode, written, synced, fmt.Sprintf("mode %d, power cut at operation %d, units of %d, state %d", mode, n, unit, states))
				})
			}
		}
	}
	t.Logf("%d power cuts, %d states", cuts, states)
	if states < 2000 {
		t.Errorf("only %d states", states)
	}
}

func checkPower(t *testing.T, after *faultfs.FS, mode FlushMode, written, synced int, where string) {
	t.Helper()
	l, err := Open(powerConfig(after, mode))
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	write(l, powerLine(written))
	l.Flush()
	if err := l.Close(); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	count := map[string]int{}
	for i := range 12 {
		name := powerLog
		if i > 0 {
			name += fmt.Sprintf(".%d", i)
		}
		for line := range strings.Lines(text(t, after, name)) {
			count[strings.TrimSuffix(line, "\n")]++
		}
	}
	for n := range synced {
		if c := count[powerLine(n)]; c != 1 {
			names, _ := after.ReadDir(filepath.Dir(powerLog))
			t.Fatalf("%s: line %d is there %d times, %d of %d were synced: %v", where, n, c, synced, written, names)
		}
	}
	if count[powerLine(written)] != 1 {
		t.Fatalf("%s: the line written next is there %d times", where, count[powerLine(written)])
	}
}
