package locallog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// write hands on lines, without their newlines, as one batch.
func write(l *Log, lines ...string) {
	l.WriteLines([]byte(strings.Join(lines, "\n")+"\n"), len(lines))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

// files lists a folder: name, mode and number of lines.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		out = append(out, fmt.Sprintf("%s %o %s", e.Name(), mode(t, path), strings.ReplaceAll(read(t, path), "\n", ",")))
	}
	return out
}

func TestWriteInEveryFlushMode(t *testing.T) {
	for _, c := range []struct {
		word  string
		syncs uint64 // for four batches of 25, freq 50, without Close's own
	}{{"none", 0}, {"incremental", 2}, {"data", 4}, {"sync", 4}, {"INCREMENTAL_ASYNC", 2}} {
		flush, err := ParseFlush(c.word)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "log", "audit.log")
		l := open(t, Config{Path: path, Flush: flush, Freq: 50})
		var want bytes.Buffer
		for i := range 100 {
			line := fmt.Sprintf("type=SYSCALL msg=audit(1.000:%d): x", i)
			fmt.Fprintln(&want, line)
			write(l, line)
			if i%25 == 24 {
				l.Flush()
				if l.syncer != nil {
					l.syncer.wait()
				}
			}
		}
		if got := read(t, path); got != want.String() {
			t.Errorf("%s: the file differs after Flush: %d bytes, want %d", c.word, len(got), want.Len())
		}
		if got := l.Stats(); got.Syncs != c.syncs || got.Records != 100 || got.Bytes != uint64(want.Len()) || got.Dropped != 0 {
			t.Errorf("%s: %+v, want %d syncs", c.word, got, c.syncs)
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if d, f := mode(t, filepath.Dir(path)), mode(t, path); d != 0o700 || f != 0o600 {
			t.Errorf("folder %o, file %o, want 700 and 600", d, f)
		}
	}
	if _, err := ParseFlush("often"); err == nil {
		t.Error("flush = often was taken")
	}
	if _, err := ParseAction("email"); err == nil {
		t.Error("max_log_file_action = email was taken")
	}
}

func TestRotation(t *testing.T) {
	fill := func(l *Log, n int) {
		for range n {
			write(l, "0123456789")
			l.Flush()
		}
	}
	for _, c := range []struct {
		action  string
		numLogs int
		want    []string
	}{
		{"rotate", 3, []string{
			"audit.log 600 0123456789,", "audit.log.1 400 0123456789,0123456789,", "audit.log.2 400 0123456789,0123456789,"}},
		{"rotate", 1, []string{"audit.log 600 " + strings.Repeat("0123456789,", 9)}},
		{"keep_logs", 2, []string{"audit.log 600 0123456789,", "audit.log.1 400 0123456789,0123456789,", "audit.log.2 400 0123456789,0123456789,",
			"audit.log.3 400 0123456789,0123456789,", "audit.log.4 400 0123456789,0123456789,"}},
		{"ignore", 3, []string{"audit.log 600 " + strings.Repeat("0123456789,", 9)}},
		{"syslog", 3, []string{"audit.log 600 " + strings.Repeat("0123456789,", 9)}},
		{"suspend", 3, []string{"audit.log 600 0123456789,0123456789,"}},
	} {
		action, err := ParseAction(c.action)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		l := open(t, Config{Path: dir + "/audit.log", MaxSize: 22, NumLogs: c.numLogs, Action: action, Logger: hclog.New(&hclog.LoggerOptions{Output: &said})})
		fill(l, 9)
		if diff := cmp.Diff(c.want, files(t, dir)); diff != "" {
			t.Errorf("%s: %s", c.action, diff)
		}
		st := l.Stats()
		if st.Records+st.Dropped != 9 {
			t.Errorf("%s: %+v does not account for nine records", c.action, st)
		}
		if says := strings.Count(said.String(), "exceeds max_log_file"); (says == 1) != (c.action == "syslog" || c.action == "suspend") {
			t.Errorf("%s: said it %d times: %s", c.action, says, said.String())
		}
		if c.action == "suspend" {
			if !l.Suspended() || st.Dropped != 7 {
				t.Errorf("suspended %v, %d dropped, want 7", l.Suspended(), st.Dropped)
			}
			if err := l.Resume(); err != nil {
				t.Fatal(err)
			}
			fill(l, 1)
			if got := l.Stats().Records; got != 3 || l.Suspended() {
				t.Errorf("after Resume %d records, want 3; suspended %v", got, l.Suspended())
			}
		}
	}
}

func TestGroupMayRead(t *testing.T) {
	need.Root(t)
	dir := filepath.Join(t.TempDir(), "made")
	l := open(t, Config{Path: dir + "/audit.log", GID: 4, NumLogs: 2, Action: ActionRotate})
	write(l, "x")
	if err := l.Rotate(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"audit.log 640 ", "audit.log.1 440 x,"}, files(t, dir)); diff != "" {
		t.Error(diff)
	}
	for _, p := range []string{dir, dir + "/audit.log", dir + "/audit.log.1"} {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil || st.Gid != 4 {
			t.Errorf("%s: group %d, %v", p, st.Gid, err)
		}
	}
	if got := mode(t, dir); got != 0o750 {
		t.Errorf("folder %o, want 750", got)
	}
}

func TestUnsafePlaces(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Path: dir + "/audit.log"}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a folder for everybody: %v, want ErrUnsafe", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", dir+"/audit.log"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Path: dir + "/audit.log"}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a symbolic link: %v, want ELOOP", err)
	}
	if _, err := Open(Config{Path: "/etc/passwd/audit.log"}); err == nil {
		t.Error("a file in the folder's place was taken")
	}
}

// A killed daemon's half line stays, and the next record starts a line.
func TestTornLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte("whole\nhal"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Path: path})
	write(l, "next")
	l.Flush()
	if got := read(t, path); got != "whole\nhal\nnext\n" {
		t.Errorf("%q", got)
	}
}

// faults is a filesystem whose writes fail as told.
type faults struct {
	fsys.FS
	write    func(n int) (int, error) // how much of n bytes is written
	truncate func() error
	open     func(name string) error
	rename   func(from string) error
	sync     func() error
	space    func() (free, total uint64)
}

type faultFile struct {
	fsys.File
	f *faults
}

// Stat says what the system says of the file: it is one.
func (f faultFile) Stat() (fs.FileInfo, error) { return stat(f.File) }

func (x *faults) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	if x.open != nil {
		if err := x.open(name); err != nil {
			return nil, err
		}
	}
	f, err := x.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return faultFile{f, x}, nil
}

func (x *faults) Space(name string) (free, total uint64, err error) {
	if x.space != nil {
		free, total = x.space()
		return free, total, nil
	}
	return x.FS.Space(name)
}

func (x *faults) Rename(from, to string) error {
	if x.rename != nil {
		if err := x.rename(from); err != nil {
			return err
		}
	}
	return x.FS.Rename(from, to)
}

func (f faultFile) Write(b []byte) (int, error) {
	if f.f.write == nil {
		return f.File.Write(b)
	}
	n, err := f.f.write(len(b))
	if n > 0 {
		if _, werr := f.File.Write(b[:n]); werr != nil {
			return 0, werr
		}
	}
	return n, err
}

func (f faultFile) Truncate(n int64) error {
	if f.f.truncate != nil {
		if err := f.f.truncate(); err != nil {
			return err
		}
	}
	return f.File.Truncate(n)
}

func (f faultFile) Datasync() error {
	if f.f.sync != nil {
		return f.f.sync()
	}
	return f.File.Datasync()
}

// Whatever the disk does, the file holds whole lines, in order, and every
// record is either in it or counted.
func TestFullDisk(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		var short, cut int
		fsx := &faults{FS: fsys.OS}
		fsx.write = func(n int) (int, error) {
			short = rapid.IntRange(0, 3).Draw(rt, "fault")
			switch short {
			case 0:
				return rapid.IntRange(0, n).Draw(rt, "written"), unix.ENOSPC
			case 1:
				return rapid.IntRange(0, n-1).Draw(rt, "written"), nil
			}
			return n, nil
		}
		fsx.truncate = func() error {
			if cut = rapid.IntRange(0, 1).Draw(rt, "cut"); cut == 0 {
				return unix.EIO
			}
			return nil
		}
		now := time.Unix(1700000000, 0)
		l, err := Open(Config{Path: dir + "/audit.log", Flush: FlushNone, FS: fsx, Now: func() time.Time { return now }})
		if err != nil {
			rt.Fatal(err)
		}
		var all []string
		for range rapid.IntRange(1, 20).Draw(rt, "batches") {
			from := len(all)
			for range rapid.IntRange(1, 5).Draw(rt, "records") {
				all = append(all, fmt.Sprintf("record-%d", len(all)))
			}
			write(l, all[from:]...)
			l.Flush()
			if rapid.Bool().Draw(rt, "later") {
				now = now.Add(retryEvery)
			}
		}
		// The disk is well again.
		fsx.write, fsx.truncate = nil, nil
		now = now.Add(retryEvery)
		write(l, "last")
		all = append(all, "last")
		if err := l.Close(); err != nil {
			rt.Fatal(err)
		}
		got := strings.Split(read(t, dir+"/audit.log"), "\n")
		if got[len(got)-1] != "" {
			rt.Fatalf("the file ends in half a line: %q", got)
		}
		got = got[:len(got)-1]
		st := l.Stats()
		if len(got) != int(st.Records) || int(st.Records+st.Dropped) != len(all) || got[len(got)-1] != "last" {
			rt.Fatalf("%d lines, %+v, of %d: %q", len(got), st, len(all), got)
		}
		at := 0
		for _, line := range got {
			for at < len(all) && all[at] != line {
				at++
			}
			if at == len(all) {
				rt.Fatalf("%q is no record, or out of order: %q", line, got)
			}
			at++
		}
	})
}

func TestFailureIsSaidOnceAndEnds(t *testing.T) {
	var said bytes.Buffer
	now := time.Unix(1700000000, 0)
	fsx := &faults{FS: fsys.OS, write: func(int) (int, error) { return 0, unix.ENOSPC }}
	l := open(t, Config{Path: t.TempDir() + "/audit.log", FS: fsx, Now: func() time.Time { return now }, Logger: hclog.New(&hclog.LoggerOptions{Output: &said})})
	for range 10 {
		write(l, "lost")
		l.Flush()
		now = now.Add(300 * time.Millisecond)
	}
	if n := l.Stats().WriteErrors; n != 3 {
		t.Errorf("%d tries within three seconds, want one a second", n)
	}
	fsx.write = nil
	now = now.Add(time.Second)
	write(l, "kept")
	l.Flush()
	if n := strings.Count(said.String(), "can't be written"); n != 1 {
		t.Errorf("said %d times:\n%s", n, said.String())
	}
	if !strings.Contains(said.String(), "not_written=10") {
		t.Errorf("the end does not say how many are missing:\n%s", said.String())
	}
	if st := l.Stats(); st.Dropped != 10 || st.Records != 1 {
		t.Errorf("%+v", st)
	}
	fsx.sync = func() error { return unix.EIO }
	if err := l.Rotate(); err != nil {
		t.Fatal(err)
	}
}

// A rotation that fails at any step loses no record, however often it is tried.
func TestRotationThatFails(t *testing.T) {
	for _, step := range []string{"create", "audit.log.1", "audit.log", "audit.log.new"} {
		dir := t.TempDir()
		fsx := &faults{FS: fsys.OS}
		l := open(t, Config{Path: dir + "/audit.log", MaxSize: 1, NumLogs: 3, Action: ActionRotate, FS: fsx})
		for i := range 3 {
			write(l, fmt.Sprint("good", i))
			l.Flush()
		}
		fsx.open = func(string) error {
			if step == "create" {
				return unix.ENOSPC
			}
			return nil
		}
		fsx.rename = func(from string) error {
			if filepath.Base(from) == step {
				return unix.EIO
			}
			return nil
		}
		for i := range 5 {
			write(l, fmt.Sprint("bad", i))
			l.Flush()
		}
		fsx.open, fsx.rename = nil, nil
		write(l, "end")
		l.Flush()
		if err := l.Close(); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		all := strings.Join(files(t, dir), " ")
		for _, want := range []string{"bad0", "bad1", "bad2", "bad3", "bad4", "end"} {
			if !strings.Contains(all, want) {
				t.Errorf("%s: %s is gone: %s", step, want, all)
			}
		}
		if st := l.Stats(); st.Dropped != 0 || st.Records != 9 {
			t.Errorf("%s: %+v", step, st)
		}
	}
}

// The stock reader takes our log, rotated files and all, for one of its own.
func TestStockAusearchReadsIt(t *testing.T) {
	ausearch := need.Stock(t, "ausearch")
	dir := t.TempDir()
	l := open(t, Config{Path: dir + "/audit.log", MaxSize: 4096, NumLogs: 99, Action: ActionRotate})
	const n = 200
	for i := range n {
		write(l, fmt.Sprintf(`type=SYSCALL msg=audit(1700000000.%03d:%d): arch=c000003e syscall=110 success=yes exit=1 a0=0 a1=0 a2=0 a3=0 items=0 ppid=1 pid=%d auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm="x" exe="/x" key="k"`, i, i+1, i+1))
		write(l, fmt.Sprintf(`type=PROCTITLE msg=audit(1700000000.%03d:%d): proctitle="x"`, i, i+1))
		l.Flush()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l.Stats().Rotations < 5 {
		t.Fatalf("%+v: nothing was rotated", l.Stats())
	}
	out, err := exec.Command(ausearch, "-k", "k", "--format", "raw", "-if", dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.Count(string(out), "\n"); got != 2*n {
		t.Errorf("ausearch found %d records, want %d", got, 2*n)
	}
}

func BenchmarkWrite(b *testing.B) {
	l, err := Open(Config{Path: b.TempDir() + "/audit.log", Flush: FlushIncrementalAsync, MaxSize: 8 << 20, NumLogs: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	batch := bytes.Repeat(append(bytes.Repeat([]byte("x"), 300), '\n'), 200)
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		l.WriteLines(batch, 200)
		l.Flush()
	}
}
