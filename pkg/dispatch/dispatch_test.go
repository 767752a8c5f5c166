package dispatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

func TestRecordsInOrderAndCleanEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A Close that waited for the timeout would outlast the test.
	d, _ := start(t, Config{StopTimeout: time.Hour, Plugins: []conf.Plugin{fake(t, "a", "cat", dir+"/a"), fake(t, "b", "cat", dir+"/b"), {Name: "off"}}})
	if !d.Active() {
		t.Error("not active")
	}
	put(d, 0, 1500)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/a", "/b"} {
		if diff := cmp.Diff(lines(0, 1500), content(dir+name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got := content(dir + name + ".started"); got != "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" {
			t.Errorf("%s: environment %q", name, got)
		}
		if got := content(dir + name + ".signals"); got != "" {
			t.Errorf("%s was signalled though it ended by itself: %q", name, got)
		}
	}
	put(d, 0, 1) // after Close: nothing happens
}

// FORMAT.md's examples.
func TestBinaryFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := fake(t, "a", "cat", dir+"/a")
	p.Format = conf.FormatBinary
	d, _ := start(t, Config{Plugins: []conf.Plugin{p}})
	b := NewBatch(0, 0)
	b.Add(1320, []byte("type=EOE msg=audit(1.000:1): "))
	long := "type=SYSCALL " + strings.Repeat("x", 9000)
	b.Add(1300, []byte(long))
	for range 40 {
		b.Add(1327, []byte("type=PROCTITLE"))
	}
	d.Put(b)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	got := content(dir + "/a")
	if len(got) != 42*8986 {
		t.Fatalf("%d bytes, want 42 records of 8986", len(got))
	}
	want := []byte{1, 0, 0, 0, 16, 0, 0, 0, 0x28, 5, 0, 0, 0x1d, 0, 0, 0, 't', 'y', 'p', 'e'}
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 && got[:20] != string(want) {
		t.Errorf("% x", got[:20])
	}
	if strings.Trim(got[16+29:8986], "\x00") != "" {
		t.Error("the padding is not zero")
	}
	if second := got[8986 : 2*8986]; second[16:] != long[:8970] || binary.NativeEndian.Uint32([]byte(second[12:16])) != 8970 {
		t.Error("a record too long is not cut to the format's size")
	}
}

// A plugin that reads nothing and one that is fast: the fast one gets all, Put
// never waits, and what is dropped is counted and said.
func TestStuckPluginDelaysNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var escalated []string
	d, said := start(t, Config{
		Settings: Settings{Depth: 500, Overflow: conf.DoHalt}, StopTimeout: time.Second,
		Escalate: func(do conf.Do, why string) { escalated = append(escalated, string(do)+": "+why) },
		Plugins:  []conf.Plugin{fake(t, "fast", "cat", dir+"/fast"), fake(t, "stuck", "hang", dir+"/stuck")},
	})
	// Until it runs nothing is written to it, and until it hangs it takes more.
	wait(t, "the stuck plugin hangs", func() bool { return content(dir+"/stuck.hangs") != "" })
	n := 0
	for room := true; room || n < 20000; {
		put(d, n, 100) // one that waited for the stuck plugin would not return
		n += 100
		wait(t, "the fast plugin keeps up", func() bool { return d.Stats()[0].Queued < 200 })
		st := d.Stats()[1]
		room = st.Dropped == 0 || st.Queued < 500
	}
	wait(t, "the fast plugin has all", func() bool { return len(content(dir+"/fast")) == len(lines(0, n)) })
	st := d.Stats()
	if st[0].Dropped != 0 || st[1].Dropped == 0 || st[1].Queued != 500 || st[1].MostQueue != 500 {
		t.Errorf("%+v", st)
	}
	if got := st[1].Delivered + st[1].Dropped + uint64(st[1].Queued); got != uint64(n) {
		t.Errorf("of %d records %d are accounted for: %+v", n, got, st[1])
	}
	if diff := cmp.Diff([]string{"halt: the queue for plugin stuck is full"}, escalated); diff != "" {
		t.Errorf("escalated: %s", diff)
	}
	if c := strings.Count(said.String(), "records dropped for it"); c != 1 {
		t.Errorf("said %d times within a minute", c)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if content(dir+"/fast") != lines(0, n) {
		t.Error("the fast plugin has not all records")
	}
	for _, want := range []string{"did not end and is killed", "plugin=stuck records="} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
}

// While the system starts a program (from a disk that is busy, say), records, counters and a reload wait for it no more
// than for one that is stuck. Not parallel: no test's program is started meanwhile.
func TestStartDelaysNobody(t *testing.T) {
	dir := t.TempDir()
	syscall.ForkLock.RLock() // no program is started until it is free
	unlock := sync.OnceFunc(syscall.ForkLock.RUnlock)
	defer unlock()
	late := fake(t, "late", "cat", dir+"/late")
	d, _ := start(t, Config{Settings: Settings{Depth: 100}, Plugins: []conf.Plugin{late}})
	wait(t, "it is being started", func() bool {
		free := syscall.ForkLock.TryRLock() // not while somebody waits for the lock
		if free {
			syscall.ForkLock.RUnlock()
		}
		return !free
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		put(d, 0, 5)
		if st := d.Stats()[0]; st.Queued != 5 || st.Up {
			t.Errorf("%+v", st)
		}
		if err := d.Reload(Settings{Depth: 100, Overflow: conf.DoIgnore}, []conf.Plugin{late}); err != nil {
			t.Error(err)
		}
	}()
	wait(t, "records, counters and a reload wait for no start", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	unlock()
	wait(t, "it gets all", func() bool { return content(dir+"/late") == lines(0, 5) })
}

// A plugin that dies after some bytes is started again, and what it had not read
// is read by the next, from a record's beginning on: only the record it died in
// is lost.
func TestRestartGoesOnWhereTheDeadOneStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bite := 3*len(line(0)+"\n") + 40
	d, said := start(t, Config{Settings: Settings{MaxRestarts: 5}, Plugins: []conf.Plugin{fake(t, "b", "bites", dir+"/out", fmt.Sprint(bite))}})
	put(d, 0, 10)
	var want strings.Builder
	for from := range 2 {
		want.WriteString((lines(4*from, 4))[:bite])
	}
	want.WriteString(lines(8, 2))
	wait(t, "two restarts and all records", func() bool { return len(content(dir+"/out")) == want.Len() })
	if diff := cmp.Diff(want.String(), content(dir+"/out")); diff != "" {
		t.Error(diff)
	}
	if st := d.Stats()[0]; st.Restarts != 2 || st.Dropped != 0 || st.Failed {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(said.String(), "exit status 7") || !strings.Contains(said.String(), "restart=2 max_restarts=5") {
		t.Errorf("it is not said why: %s", said.String())
	}
}

func TestCrashLoopEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, said := start(t, Config{Settings: Settings{MaxRestarts: 2}, Plugins: []conf.Plugin{fake(t, "ok", "cat", dir+"/ok"), fake(t, "x", "dies")}})
	put(d, 0, 5)
	wait(t, "it is given up", func() bool { return d.Stats()[1].Failed && strings.Contains(said.String(), "it died too often") })
	put(d, 5, 5)
	if st := d.Stats()[1]; st.Restarts != 2 || st.Queued != 0 || st.Dropped != 10 || st.PID != 0 {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(said.String(), "plugin died too often") {
		t.Error("nothing says so")
	}
	d.Resume()
	wait(t, "it is tried and given up again", func() bool { st := d.Stats()[1]; return st.Failed && st.Restarts == 4 })
	wait(t, "the other one has all", func() bool { return content(dir+"/ok") == lines(0, 10) })
}

func TestSuspendAndResume(t *testing.T) {
	t.Parallel()
	d, said := start(t, Config{Settings: Settings{Depth: 10, Overflow: conf.DoSuspend}, StopTimeout: 300 * time.Millisecond, Plugins: []conf.Plugin{fake(t, "stuck", "hang")}})
	put(d, 0, 5000)
	wait(t, "it is suspended", func() bool { return d.Stats()[0].Suspended })
	was := d.Stats()[0].Dropped
	put(d, 0, 7)
	if got := d.Stats()[0].Dropped; got != was+7 {
		t.Errorf("%d dropped while suspended, want 7", got-was)
	}
	if n := strings.Count(said.String(), "no more records until resumed"); n != 1 {
		t.Errorf("said %d times", n)
	}
	d.Resume()
	if d.Stats()[0].Suspended {
		t.Error("still suspended")
	}
}

// A burst beyond q_depth is no loss while it is small in memory.
func TestSlack(t *testing.T) {
	t.Parallel()
	d, _ := start(t, Config{Settings: Settings{Depth: 10}, Slack: 2 * len(lines(0, 1000)), StopTimeout: 100 * time.Millisecond, Plugins: []conf.Plugin{fake(t, "stuck", "hang")}})
	put(d, 0, 1000)
	if st := d.Stats()[0]; st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
	put(d, 0, 5000)
	if st := d.Stats()[0]; st.Dropped == 0 {
		t.Errorf("not bounded: %+v", st)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	same, gone, changed := fake(t, "a-same", "cat", dir+"/same"), fake(t, "b-gone", "cat", dir+"/gone"), fake(t, "c-changed", "cat", dir+"/before")
	settings := Settings{Depth: 100, Overflow: conf.DoIgnore, MaxRestarts: 1}
	d, _ := start(t, Config{Settings: settings, Plugins: []conf.Plugin{same, gone, changed}})
	wait(t, "all run", func() bool {
		return content(dir+"/same.started") != "" && content(dir+"/gone.started") != "" && content(dir+"/before.started") != ""
	})
	put(d, 0, 5)
	changed.Args[2] = dir + "/after" // the dispatcher has a copy
	settings.Depth = 50
	if err := d.Reload(settings, []conf.Plugin{same, changed, fake(t, "d-new", "cat", dir+"/new")}); err != nil {
		t.Fatal(err)
	}
	put(d, 5, 5)
	if err := d.Reload(Settings{Overflow: "email"}, nil); !errors.Is(err, ErrAction) {
		t.Errorf("overflow_action = email: %v", err)
	}
	wait(t, "the one that stays was told", func() bool { return content(dir+"/same.signals") == "hangup\n" })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"same": lines(0, 10), "gone": lines(0, 5), "before": lines(0, 5), "after": lines(5, 5), "new": lines(5, 5)} {
		if diff := cmp.Diff(want, content(dir+"/"+name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What can't be started is said; the others run.
func TestBadPlugins(t *testing.T) {
	t.Parallel()
	builtin := func(name, path string, args ...string) conf.Plugin {
		return conf.Plugin{Name: name, Active: true, Path: path, Type: conf.PluginBuiltin, Args: args}
	}
	dir := t.TempDir()
	inward := fake(t, "in", "cat", dir+"/in")
	inward.Direction = "in"
	missing := fake(t, "missing")
	missing.Path = dir + "/nothing"
	d, said := start(t, Config{Plugins: []conf.Plugin{
		builtin("b1", "builtin_mail"), builtin("b2", "builtin_af_unix", "0640"), builtin("b3", "builtin_af_unix", "0666", dir+"/s"),
		builtin("b4", "builtin_af_unix", "rw", dir+"/s"), builtin("b5", "builtin_syslog", "LOG_LOUD"), inward, missing, fake(t, "ok", "cat", dir+"/ok"),
	}})
	put(d, 0, 3)
	wait(t, "the good one", func() bool { return content(dir+"/ok") == lines(0, 3) })
	wait(t, "the missing one is given up", func() bool { return d.Stats()[0].Failed })
	if got := len(d.Stats()); got != 2 {
		t.Errorf("%d plugins run", got)
	}
	for _, want := range []string{`no builtin \"builtin_mail\"`, "path of the socket is missing", "everybody read", `\"rw\" is neither`, "LOG_LOUD", "direction = in is not supported", "nothing: no such file"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	for _, s := range []Settings{{Overflow: "x"}, {}, {Overflow: conf.DoHalt}} {
		if _, err := Open(Config{Settings: s}); !errors.Is(err, ErrAction) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	d, _ := start(b, Config{Settings: Settings{Depth: 1 << 30}, Plugins: []conf.Plugin{{Name: "af", Active: true, Path: "af_unix", Type: conf.PluginBuiltin, Args: []string{b.TempDir() + "/s"}}}})
	text := []byte(line(1))
	b.ReportAllocs()
	for i := 0; i < b.N; i += 50 {
		batch := NewBatch(50*(len(text)+1), 50)
		for range 50 {
			batch.Add(1300, text)
		}
		d.Put(batch)
	}
}
