package locallog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// tester is a *testing.T or a *rapid.T.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// plainText is a file's text, unpacked where its name says it is packed.
func plainText(t tester, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(path, packedSuffix) {
		return string(b)
	}
	z, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(z); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out.String()
}

// shape lists a folder: names, modes and texts, unpacked.
func shape(t tester, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %o %s", e.Name(), info.Mode().Perm(), strings.ReplaceAll(plainText(t, path), "\n", ",")))
	}
	return out
}

// counted is all that a search reads: each log once, the oldest first.
func counted(t tester, path string, dated bool) (text string) {
	t.Helper()
	logs, err := listOlder(fsys.OS, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range logs.byAge(dated) {
		if !o.plain {
			o.name += packedSuffix
		}
		text += plainText(t, o.name)
	}
	return text + plainText(t, path)
}

// settled is counted while nothing is renamed.
func settled(t tester, l *Log) string {
	l.packer.mu.Lock()
	defer l.packer.mu.Unlock()
	return counted(t, l.cfg.Path, l.cfg.Dated)
}

// idle waits until nothing is left to compress.
func idle(t tester, l *Log, done uint64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		if got := l.Stats().Compressed; got >= done {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%d compressed, want %d: %v", got, done, shape(t, filepath.Dir(l.cfg.Path)))
		}
		time.Sleep(time.Millisecond)
	}
}

func rotateWith(t tester, l *Log, line string) {
	t.Helper()
	write(l, line)
	if err := l.Rotate(); err != nil {
		t.Fatal(err)
	}
}

func TestCompressNumbered(t *testing.T) {
	for _, c := range []struct {
		action Action
		want   []string
	}{
		{ActionRotate, []string{"audit.log 600 ", "audit.log.1.zst 400 five,", "audit.log.2.zst 400 four,"}},
		{ActionKeepLogs, []string{"audit.log 600 ", "audit.log.1.zst 400 five,", "audit.log.2.zst 400 four,", "audit.log.3.zst 400 three,", "audit.log.4.zst 400 two,", "audit.log.5.zst 400 one,"}},
	} {
		dir := t.TempDir()
		l := open(t, Config{Path: dir + "/audit.log", NumLogs: 3, Action: c.action, Compress: true})
		for i, line := range []string{"one", "two", "three", "four", "five"} {
			rotateWith(t, l, line)
			idle(t, l, uint64(i+1))
		}
		if diff := cmp.Diff(c.want, shape(t, dir)); diff != "" {
			t.Error(diff)
		}
		if got := l.State().Rotated; got != len(c.want)-2 {
			t.Errorf("%d older logs at the last rotation, want %d", got, len(c.want)-2)
		}
	}
}

func TestCompressedBelongsToTheGroup(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	l := open(t, Config{Path: dir + "/audit.log", NumLogs: 3, GID: 4, Compress: true})
	rotateWith(t, l, "one")
	at := time.Unix(1700000000, 0)
	if err := os.Chtimes(dir+"/audit.log.1", at, at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	idle(t, l, 1)
	var st unix.Stat_t
	if err := unix.Stat(dir+"/audit.log.1.zst", &st); err != nil || st.Gid != 4 || st.Uid != 0 || st.Mode&0o777 != 0o440 {
		t.Errorf("%+v, %v", st, err)
	}
}

// A clock that goes back, or stands, gives no name twice, and names go on sorting.
func TestDated(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 22, 23, 59, 59, 5e8, time.FixedZone("", 3600))
	l := open(t, Config{Path: dir + "/audit.log", NumLogs: 5, Action: ActionRotate, Dated: true, Now: func() time.Time { return now }})
	for i, step := range []time.Duration{0, 0, 24 * time.Hour, -48 * time.Hour, time.Minute} {
		now = now.Add(step)
		rotateWith(t, l, fmt.Sprint(i))
	}
	want := []string{"audit.log 600 ", "audit.log.2026-11-22T23-00-00 400 1,", "audit.log.2026-11-23T22-59-59 400 2,", "audit.log.2026-11-23T23-00-00 400 3,", "audit.log.2026-11-23T23-00-01 400 4,"}
	if diff := cmp.Diff(want, shape(t, dir)); diff != "" {
		t.Error(diff)
	}
	// A name of others that nothing sorts behind stops rotation, not writing.
	if err := os.WriteFile(dir+"/audit.log.9999-12-31T23-59-59", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	write(l, "x")
	if err := l.Rotate(); err == nil {
		t.Error("rotated")
	}
	write(l, "y")
	l.Flush()
	if got := read(t, dir+"/audit.log"); got != "x\ny\n" {
		t.Errorf("%q", got)
	}
}

// From numbers to dates, to compressed ones, back and off: num_logs holds, in
// which form and under which name they are, and the oldest goes first.
func TestSwitching(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	cfg := Config{Path: dir + "/audit.log", NumLogs: 4, Action: ActionRotate, Now: func() time.Time { now = now.Add(-time.Hour); return now }}
	l := open(t, cfg)
	n, all := 0, ""
	for _, step := range []struct{ dated, compress bool }{{false, false}, {true, false}, {true, true}, {false, true}, {false, false}, {true, true}} {
		cfg.Dated, cfg.Compress = step.dated, step.compress
		if err := l.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			n++
			rotateWith(t, l, fmt.Sprint("line", n))
			all += fmt.Sprintf("line%d\n", n)
			logs, err := listOlder(fsys.OS, cfg.Path)
			if err != nil || logs.count() > cfg.NumLogs-1 {
				t.Fatalf("%v: %d older logs, %v", step, logs.count(), err)
			}
			if got := settled(t, l); got == "" || !strings.HasSuffix(all, got) {
				t.Fatalf("%v: %q is not the end of %q", step, got, all)
			}
		}
		if step.compress {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, cfg)
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				logs, err := listOlder(fsys.OS, cfg.Path)
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("%v: %+v, %v", step, logs, err)
				}
				if !slices.ContainsFunc(logs.byAge(false), func(o older) bool { return o.plain }) && logs.count() == 3 {
					break
				}
			}
			if got := counted(t, cfg.Path, cfg.Dated); got != strings.Join(strings.SplitAfter(all, "\n")[n-3:], "") {
				t.Fatalf("%v: %q", step, got)
			}
		}
	}
	// num_logs lowered: the oldest go, in either form.
	cfg.NumLogs = 2
	if err := l.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if got := counted(t, cfg.Path, true); got != fmt.Sprintf("line%d\n", n) {
		t.Errorf("%q", got)
	}
}

// A disk that is full: rotating makes room by removing the oldest, whatever they
// are called.
func TestRotateForSpace(t *testing.T) {
	for _, dated := range []bool{false, true} {
		dir := t.TempDir()
		fsx := &faults{FS: fsys.OS}
		now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
		l := open(t, Config{Path: dir + "/audit.log", NumLogs: 4, Dated: dated, Compress: true, FS: fsx, Now: func() time.Time { return now },
			DiskFullAction: conf.Action{Do: conf.DoRotate}, Actor: &actor{}})
		for i := range 3 {
			rotateWith(t, l, fmt.Sprint(i))
			idle(t, l, uint64(i+1))
		}
		fsx.write = func(n int) (int, error) {
			if strings.Contains(settled(t, l), "1\n") {
				return 0, unix.ENOSPC
			}
			return n, nil
		}
		write(l, "more")
		l.Flush()
		if got := settled(t, l); got != "2\nmore\n" || l.Stats().Dropped != 0 {
			t.Errorf("dated %v: %q, %+v", dated, got, l.Stats())
		}
	}
}

// The writer goes on, rotates, and removes the very log that is being compressed,
// while the disk takes nothing of the compressed one.
func TestCompressingThatHangs(t *testing.T) {
	dir := t.TempDir()
	fsx := &hanging{FS: fsys.OS, name: newPackedSuffix, reached: make(chan struct{}), release: make(chan struct{})}
	l := open(t, Config{Path: dir + "/audit.log", NumLogs: 3, Compress: true, FS: fsx})
	rotateWith(t, l, "one")
	<-fsx.reached
	for _, line := range []string{"two", "three", "four"} {
		rotateWith(t, l, line)
	}
	if diff := cmp.Diff([]string{"audit.log 600 ", "audit.log.1 400 four,", "audit.log.2 400 three,", "audit.log.zst.new 400 "}, shape(t, dir)); diff != "" {
		t.Error(diff)
	}
	close(fsx.release)
	idle(t, l, 2)
	if diff := cmp.Diff([]string{"audit.log 600 ", "audit.log.1.zst 400 four,", "audit.log.2.zst 400 three,"}, shape(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// hanging is a filesystem on which writing one file waits.
type hanging struct {
	fsys.FS
	name             string
	once             sync.Once
	reached, release chan struct{}
}

type hangingFile struct {
	fsys.File
	h *hanging
}

func (h *hanging) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	f, err := h.FS.OpenFile(name, flag, perm)
	if err == nil && strings.HasSuffix(name, h.name) {
		return hangingFile{f, h}, nil
	}
	return f, err
}

func (f hangingFile) Write(b []byte) (int, error) {
	f.h.once.Do(func() { close(f.h.reached) })
	<-f.h.release
	return f.File.Write(b)
}

// A suspended log's files are let go of: a program may be moving them.
func TestSuspendedIsNotCompressed(t *testing.T) {
	dir := t.TempDir()
	fsx := &hanging{FS: fsys.OS, name: newPackedSuffix, reached: make(chan struct{}), release: make(chan struct{})}
	l := open(t, Config{Path: dir + "/audit.log", NumLogs: 3, Compress: true, FS: fsx})
	rotateWith(t, l, "one")
	<-fsx.reached
	l.suspend("test")
	close(fsx.release)
	if err := os.Rename(dir+"/audit.log.1", dir+"/archive"); err != nil {
		t.Fatal(err)
	}
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	rotateWith(t, l, "two")
	idle(t, l, 1)
	if diff := cmp.Diff([]string{"archive 400 one,", "audit.log 600 ", "audit.log.1.zst 400 two,"}, shape(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// crashing is a filesystem that does nothing any more after some changes, and the
// state of which is looked at as a crash would leave it.
type crashing struct {
	fsys.FS
	mu   sync.Mutex
	left int
}

var errCrashed = errors.New("crashed")

func (x *crashing) step() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.left <= 0 {
		return errCrashed
	}
	x.left--
	return nil
}

type crashingFile struct {
	fsys.File
	x *crashing
}

func (x *crashing) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := x.step(); err != nil {
			return nil, err
		}
	}
	f, err := x.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return crashingFile{f, x}, nil
}

func (x *crashing) Rename(from, to string) error {
	if err := x.step(); err != nil {
		return err
	}
	return x.FS.Rename(from, to)
}

func (x *crashing) Remove(name string) error {
	if err := x.step(); err != nil {
		return err
	}
	return x.FS.Remove(name)
}

func (f crashingFile) Write(b []byte) (int, error) {
	if err := f.x.step(); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f crashingFile) Sync() error {
	if err := f.x.step(); err != nil {
		return err
	}
	return f.File.Sync()
}

// TestCrashes ends everything at any point of writing, rotating, compressing and
// switching: what was written is there once, in order; the next start, with any
// settings, ends what was begun and leaves nothing half done.
func TestCrashes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		path := dir + "/audit.log"
		dated := rapid.Bool().Draw(rt, "dated")
		now := time.Unix(1700000000, 0)
		cfg := func(fsx fsys.FS, compress bool) Config {
			return Config{Path: path, Flush: FlushNone, NumLogs: 99, Dated: dated, Compress: compress, FS: fsx, Now: func() time.Time { return now }}
		}
		var wrote strings.Builder
		for life := range rapid.IntRange(1, 4).Draw(rt, "lives") {
			x := &crashing{FS: fsys.OS, left: rapid.IntRange(0, 60).Draw(rt, "steps")}
			l, err := Open(cfg(x, rapid.Bool().Draw(rt, "compress")))
			if err != nil {
				continue
			}
			for i := range rapid.IntRange(1, 6).Draw(rt, "rotations") {
				line := fmt.Sprintf("life %d line %d", life, i)
				write(l, line)
				l.Flush()
				if l.Stats().Dropped == 0 {
					wrote.WriteString(line + "\n")
				}
				if l.Rotate() != nil {
					break
				}
				if rapid.Bool().Draw(rt, "wait") {
					time.Sleep(time.Millisecond) // let it compress a while: either way is right
				}
			}
			_ = l.Close() // it may be beyond its crash
			if got := afterCrash(rt, path, dated); got != wrote.String() {
				rt.Fatalf("after a crash %q is read, %q was written: %v", got, wrote.String(), shape(t, dir))
			}
		}
		last, err := Open(cfg(fsys.OS, false))
		if err != nil {
			rt.Fatal(err)
		}
		if err := last.Close(); err != nil {
			rt.Fatal(err)
		}
		seen := map[string]bool{}
		for _, f := range shape(t, dir) {
			name, _, _ := strings.Cut(f, " ")
			if name == "audit.log"+newPackedSuffix || seen[strings.TrimSuffix(name, packedSuffix)] {
				rt.Fatalf("left behind: %v", shape(t, dir))
			}
			seen[strings.TrimSuffix(name, packedSuffix)] = true
		}
		if got := afterCrash(rt, path, dated); got != wrote.String() {
			rt.Fatalf("after the last start %q is read, %q was written", got, wrote.String())
		}
	})
}

// afterCrash is what all logs hold. A crash between two renames of a rotation
// leaves a gap in the numbers, as stock's does, and perhaps no audit.log.
func afterCrash(t tester, path string, dated bool) string {
	fail := func(err error) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if dated {
		if _, err := os.Stat(path); err != nil {
			fail(err)
			fail(os.WriteFile(path, nil, 0o600))
		}
		return counted(t, path, true)
	}
	text := ""
	for n := 99; n >= 0; n-- {
		for _, name := range []string{numberedName(path, n), numberedName(path, n) + packedSuffix} {
			if _, err := os.Stat(name); err == nil && (n > 0 || name == path) {
				text += plainText(t, name)
				break
			}
		}
	}
	return text
}

// What fails is said once, leaves the log as it was, and is made up for.
func TestCompressingThatFails(t *testing.T) {
	for _, step := range []string{"create", "write", "rename", "remove", "sync folder"} {
		dir := t.TempDir()
		fsx := &packFaults{FS: fsys.OS, step: step}
		l := open(t, Config{Path: dir + "/audit.log", NumLogs: 9, Action: ActionRotate, Compress: true, FS: fsx})
		rotateWith(t, l, "one")
		for deadline := time.Now().Add(time.Minute); l.Stats().CompressErrors == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: no error", step)
			}
		}
		if got := counted(t, l.cfg.Path, false); got != "one\n" {
			t.Errorf("%s: %q", step, got)
		}
		fsx.set("")
		rotateWith(t, l, "two")
		idle(t, l, 2)
		if diff := cmp.Diff([]string{"audit.log 600 ", "audit.log.1.zst 400 two,", "audit.log.2.zst 400 one,"}, shape(t, dir)); diff != "" {
			t.Errorf("%s: %s", step, diff)
		}
	}
}

type packFaults struct {
	fsys.FS
	mu   sync.Mutex
	step string
}

func (x *packFaults) set(step string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.step = step
}

func (x *packFaults) at(step string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.step == step {
		return unix.ENOSPC
	}
	return nil
}

type packFaultFile struct {
	fsys.File
	x *packFaults
}

func (x *packFaults) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	packing := strings.HasSuffix(name, newPackedSuffix)
	if packing {
		if err := x.at("create"); err != nil {
			return nil, err
		}
	}
	f, err := x.FS.OpenFile(name, flag, perm)
	if err == nil && packing {
		return packFaultFile{f, x}, nil
	}
	return f, err
}

func (f packFaultFile) Write(b []byte) (int, error) {
	if err := f.x.at("write"); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (x *packFaults) Rename(from, to string) error {
	if strings.HasSuffix(from, newPackedSuffix) {
		if err := x.at("rename"); err != nil {
			return err
		}
	}
	return x.FS.Rename(from, to)
}

func (x *packFaults) Remove(name string) error {
	if !strings.HasSuffix(name, packedSuffix) && !strings.HasSuffix(name, newSuffix) {
		if err := x.at("remove"); err != nil {
			return err
		}
	}
	return x.FS.Remove(name)
}

func (x *packFaults) SyncDir(name string) error {
	if err := x.at("sync folder"); err != nil {
		return err
	}
	return x.FS.SyncDir(name)
}
