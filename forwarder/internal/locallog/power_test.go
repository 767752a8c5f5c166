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
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// powerFS is a disk whose power can go, as the log sees one.
type powerFS struct{ *faultfs.FS }

type powerFile struct {
	fsys.File
	at int64 // where Read goes on
}

func (p powerFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := p.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &powerFile{File: f}, nil
}

func (f *powerFile) Write(b []byte) (int, error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	return f.WriteAt(b, size)
}

func (f *powerFile) Read(b []byte) (int, error) {
	n, err := f.ReadAt(b, f.at)
	f.at += int64(n)
	return n, err
}

func (f *powerFile) ModTime() (time.Time, error) { return time.Time{}, nil }
func (f *powerFile) Chmod(fs.FileMode) error     { return nil }
func (f *powerFile) Chown(int, int) error        { return nil }

type powerInfo struct {
	fs.FileInfo
	size int64
	dir  bool
}

func (i powerInfo) IsDir() bool       { return i.dir }
func (i powerInfo) Mode() fs.FileMode { return 0o700 }
func (i powerInfo) Size() int64       { return i.size }

func (p powerFS) Stat(name string) (fs.FileInfo, error) {
	if _, err := p.ReadDir(name); err == nil {
		return powerInfo{dir: true}, nil
	}
	size, err := p.Size(name)
	return powerInfo{size: size}, err
}

func (powerFS) Chtimes(string, time.Time, time.Time) error     { return nil }
func (powerFS) Chmod(string, fs.FileMode) error                { return nil }
func (powerFS) Chown(string, int, int) error                   { return nil }
func (powerFS) Space(string) (free, total uint64, err error)   { return 1 << 40, 1 << 41, nil }
func (p powerFS) MkdirAll(name string, perm fs.FileMode) error { return p.FS.MkdirAll(name, perm) }
func (p powerFS) text(t *testing.T, name string) (text string, ok bool) {
	t.Helper()
	f, err := p.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b), true
}

const powerLog = "/log/audit.log"

func powerConfig(disk *faultfs.FS, mode FlushMode) Config {
	return Config{Path: powerLog, FS: powerFS{disk}, Flush: mode, Freq: 3, MaxSize: 1500, NumLogs: 9, Action: ActionRotate}
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
			for range 1 + i%3 {
				l.Write([]byte(powerLine(written)))
				written++
			}
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
	l.Write([]byte(powerLine(written)))
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
		text, _ := powerFS{after}.text(t, name)
		for line := range strings.Lines(text) {
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
