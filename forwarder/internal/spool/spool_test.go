package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dir = "/spool"

// open opens a spool that syncs only when it is told to.
func open(t testing.TB, fs fsys.FS, change ...func(*Options)) *Spool {
	t.Helper()
	o := Options{FS: fs, Dir: dir, SyncInterval: time.Hour, MaxBytes: 64 << 20, SegmentBytes: 1 << 20}
	for _, c := range change {
		c(&o)
	}
	s, _, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, s *Spool, lines ...string) {
	t.Helper()
	var b [][]byte
	for _, l := range lines {
		b = append(b, []byte(l))
	}
	must(t, s.Append(nil, b...))
}

// die ends a spool without a chance to write anything more, as SIGKILL and power
// loss do. The disk is dead until Kill or Crash.
func die(fs *faultfs.FS, s *Spool) {
	fs.CutPower(1)
	s.Close()
}

type rec struct {
	Index uint64
	Seq   uint32
	Line  string
}

// rest reads to the end.
func rest(t testing.TB, r *Reader) (out []rec) {
	t.Helper()
	for {
		i, seq, line, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		out = append(out, rec{i, seq, string(line)})
	}
}

func texts(recs []rec) (out []string) {
	for _, r := range recs {
		out = append(out, r.Line)
	}
	return out
}

func numbered(from, to int) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("type=SYSCALL msg=audit(1700000000.123:%d): arch=c000003e syscall=2 success=yes exit=3 a0=7ffc", i))
	}
	return out
}

func TestResumesAtFirstNotAcknowledged(t *testing.T) {
	fs := faultfs.New(1)
	s := open(t, fs)
	add(t, s, numbered(1, 100)...)
	add(t, s, "", "odd \x00\xff bytes \x1d")
	before := rest(t, s.Reader())
	must(t, s.Ack(40))
	must(t, s.Ack(30)) // cumulative: nothing is taken back
	must(t, s.Close())
	must(t, s.Close())

	s = open(t, fs)
	if s.First() != 41 || s.Left() != 62 {
		t.Errorf("first %d, left %d", s.First(), s.Left())
	}
	if diff := cmp.Diff(before[40:], rest(t, s.Reader())); diff != "" {
		t.Error(diff)
	}
	must(t, s.Ack(1<<40)) // more than there is
	if s.Left() != 0 || s.First() != 103 {
		t.Errorf("first %d, left %d", s.First(), s.Left())
	}
	add(t, s, "next")
	if got := rest(t, s.Reader()); len(got) != 1 || got[0].Index != 103 {
		t.Errorf("%+v", got)
	}
	must(t, s.Close())
	if err := s.Append(nil, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if fs.OpenFiles() != 0 {
		t.Errorf("%d files left open", fs.OpenFiles())
	}
}

func TestReaderSeekAndWait(t *testing.T) {
	s := open(t, faultfs.New(1))
	add(t, s, numbered(1, 200)...)
	r := s.Reader()
	defer r.Close()
	rest(t, r)
	r.Seek(150)
	if got := rest(t, r); len(got) != 51 || got[0].Index != 150 {
		t.Fatalf("%d records from 150", len(got))
	}
	must(t, s.Ack(180))
	r.Seek(3)
	if got := rest(t, r); got[0].Index != 181 {
		t.Fatalf("first %d, want 181: what is acknowledged isn't read again", got[0].Index)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := r.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait at the end: %v", err)
	}
	go func() {
		time.Sleep(10 * time.Millisecond)
		s.Append(nil, []byte("late"))
	}()
	must(t, r.Wait(context.Background()))
	if got := rest(t, r); len(got) != 1 || got[0].Line != "late" {
		t.Errorf("%+v", got)
	}
	go func() {
		time.Sleep(10 * time.Millisecond)
		s.Close()
	}()
	if err := r.Wait(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("wait while closing: %v", err)
	}
}

// What was just appended is read from memory; what no longer fits there from disk.
func TestHotAndCold(t *testing.T) {
	fs := faultfs.New(1)
	s := open(t, fs, func(o *Options) { o.HotBytes = 64 << 10 })
	r := s.Reader()
	defer r.Close()
	reads := fs.Count(faultfs.Read)
	for i := range 2000 {
		add(t, s, numbered(i, i)...)
		if got := rest(t, r); len(got) != 1 {
			t.Fatalf("%d records", len(got))
		}
	}
	if n := fs.Count(faultfs.Read); n != reads {
		t.Errorf("%d reads for records just appended", n-reads)
	}
	if s.hot.bytes > 64<<10 {
		t.Errorf("%d bytes held", s.hot.bytes)
	}
	r.Seek(1)
	if diff := cmp.Diff(numbered(0, 1999), texts(rest(t, r))); diff != "" {
		t.Error(diff)
	}
	if n := fs.Count(faultfs.Read); n == reads {
		t.Error("nothing was read from disk: the test shows nothing")
	}
}

func TestFullDropsOldest(t *testing.T) {
	fs := faultfs.New(1)
	s := open(t, fs, func(o *Options) { o.MaxBytes = 1 << 20; o.HotBytes = 1 << 10 })
	r := s.Reader()
	defer r.Close()
	if got := rest(t, r); got != nil {
		t.Fatal(got)
	}
	const n = 20000
	for i := 1; i <= n; i += 100 {
		add(t, s, numbered(i, i+99)...)
		if st := s.Stats(); st.Bytes > 1<<20 {
			t.Fatalf("%d bytes", st.Bytes)
		}
		if i == 101 { // a cursor that stands in a segment that goes
			if _, _, line, err := r.Next(); err != nil || string(line) != numbered(1, 1)[0] {
				t.Fatalf("%q, %v", line, err)
			}
		}
	}
	st := s.Stats()
	if st.Dropped == 0 || st.Dropped+st.Records != n || st.First != st.Dropped+1 || st.Refused != 0 {
		t.Fatalf("%+v", st)
	}
	if st.Bytes < 1<<19 {
		t.Errorf("only %d bytes used", st.Bytes)
	}
	got := rest(t, r)
	if diff := cmp.Diff(numbered(int(st.First), n), texts(got)); diff != "" {
		t.Error(diff)
	}
	if got[0].Index != st.First {
		t.Errorf("first index %d, want %d", got[0].Index, st.First)
	}
	// Acknowledged segments go first and count as nothing.
	must(t, s.Ack(n))
	for i := 1; i <= n/2; i += 100 {
		add(t, s, numbered(i, i+99)...)
		must(t, s.Ack(n+uint64(i)+99))
	}
	if now := s.Stats(); now.Dropped != st.Dropped {
		t.Errorf("%d dropped that were acknowledged", now.Dropped-st.Dropped)
	}
}

func TestFullRefusesInput(t *testing.T) {
	s := open(t, faultfs.New(1), func(o *Options) { o.MaxBytes = 1 << 20; o.Full = RefuseInput })
	batch := make([][]byte, 100)
	for i := range batch {
		batch[i] = bytes.Repeat([]byte{'a' + byte(i%26)}, 100)
	}
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = s.Append(nil, batch...)
	}
	n--
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d batches: %v", n, err)
	}
	st := s.Stats()
	if st.Refused != 100 || st.Dropped != 0 || st.Records != uint64(n*100) || st.Bytes > 1<<20 {
		t.Errorf("%+v", st)
	}
	must(t, s.Ack(uint64(n*50)))
	must(t, s.Append(nil, batch...))
	if got := len(rest(t, s.Reader())); got != n*50+100 {
		t.Errorf("%d records, want %d", got, n*50+100)
	}
	if err := s.Append(nil, make([]byte, MaxRecord+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("over-long: %v", err)
	}
}

func TestDiskFull(t *testing.T) {
	for _, policy := range []FullPolicy{DropOldest, RefuseInput} {
		fs := faultfs.New(1)
		s := open(t, fs, func(o *Options) { o.MaxBytes = 16 << 20; o.SegmentBytes = 64 << 10; o.Full = policy })
		for i := 1; i <= 5000; i += 100 {
			add(t, s, numbered(i, i+99)...)
		}
		fs.SetSpace(100 << 10)
		var err error
		i := 5001
		for ; err == nil && i < 15000; i += 100 {
			var b [][]byte
			for _, l := range numbered(i, i+99) {
				b = append(b, []byte(l))
			}
			err = s.Append(nil, b...)
		}
		st := s.Stats()
		if policy == DropOldest {
			if err != nil || st.Dropped == 0 {
				t.Errorf("drop oldest: %v, %+v", err, st)
			}
		} else if !errors.Is(err, ErrFull) || st.Dropped != 0 || st.Refused != 100 {
			t.Errorf("refuse: %v, %+v", err, st)
		}
		fs.Heal()
		add(t, s, "after")
		got := rest(t, s.Reader())
		if uint64(len(got)) != s.Left() || got[len(got)-1].Line != "after" {
			t.Errorf("%d records, %d left", len(got), s.Left())
		}
		s.Close()
	}
}

// A mark lasts as long as the spool, whatever was acknowledged or dropped.
func TestMark(t *testing.T) {
	fs := faultfs.New(1)
	small := func(o *Options) { o.MaxBytes = 1 << 20; o.SegmentBytes = 64 << 10 }
	s := open(t, fs, small)
	check := func(want string) {
		t.Helper()
		if got := s.Mark(); string(got) != want || (got == nil) != (want == "") {
			t.Errorf("mark %q, want %q", got, want)
		}
	}
	reopen := func(want string) {
		t.Helper()
		check(want)
		must(t, s.Close())
		s = open(t, fs, small)
		check(want)
	}
	reopen("")
	add(t, s, "no mark")
	reopen("")
	must(t, s.Append([]byte("one"), []byte("a"), []byte("b")))
	reopen("one")
	add(t, s, numbered(1, 10)...)
	reopen("one")
	for i := range 200 { // many segments, dropped and acknowledged
		must(t, s.Append(fmt.Append(nil, i), bytes.Repeat([]byte("x"), 20000)))
	}
	reopen("199")
	must(t, s.Ack(s.Stats().Last))
	must(t, s.Sync())
	reopen("199")
	long := bytes.Repeat([]byte("m"), MaxMark)
	must(t, s.Append(long, nil))
	reopen(string(long))
	if err := s.Append(append(long, 'm'), []byte("x")); !errors.Is(err, ErrTooLong) {
		t.Errorf("over-long mark: %v", err)
	}
	if err := s.Append([]byte("not taken"), make([]byte, MaxRecord+1)); err == nil {
		t.Error("over-long record taken")
	}
	reopen(string(long))
	got := rest(t, s.Reader())
	if len(got) != 1 || got[0].Line != "" {
		t.Errorf("%+v", got)
	}
}

// A batch whose write was cut short is there without its mark: its records are
// told, so that the source that goes on from the mark before can leave them out.
func TestAfterMark(t *testing.T) {
	fs := faultfs.New(1)
	s := open(t, fs)
	must(t, s.Append([]byte("one"), []byte("a"), []byte("b")))
	// What a cut leaves of Append([]byte("two"), c, d, e …).
	s.entries = [][]byte{s.entry(1, nil, []byte("c")), s.entry(1, nil, []byte("d"))}
	must(t, s.write(false))
	for range 2 { // as long as nothing is appended
		must(t, s.Close())
		s = open(t, fs)
		if mark := s.Mark(); string(mark) != "one" {
			t.Errorf("mark %q, want that of the last whole batch", mark)
		}
		if diff := cmp.Diff([][]byte{[]byte("c"), []byte("d")}, s.AfterMark()); diff != "" {
			t.Errorf("records behind the mark:\n%s", diff)
		}
	}
	must(t, s.Append([]byte("two"), []byte("e")))
	if got := s.AfterMark(); got != nil {
		t.Errorf("%q behind a mark just written", got)
	}
	must(t, s.Close())
	s = open(t, fs)
	if mark := s.Mark(); string(mark) != "two" || len(s.AfterMark()) != 0 {
		t.Errorf("mark %q, %q behind it", mark, s.AfterMark())
	}
}

func TestAge(t *testing.T) {
	fs := faultfs.New(1)
	now := time.UnixMilli(1_700_000_000_000)
	clock := func(o *Options) { o.Now = func() time.Time { return now }; o.HotBytes = 500 }
	s := open(t, fs, clock)
	if age := s.Stats().Age; age != 0 {
		t.Errorf("empty: %v", age)
	}
	for i := range 50 {
		add(t, s, numbered(i, i)...)
		now = now.Add(time.Second)
	}
	for _, acked := range []uint64{0, 10, 49} {
		must(t, s.Ack(acked))
		if age, want := s.Stats().Age, time.Duration(50-acked)*time.Second; age != want {
			t.Errorf("%d acknowledged: %v, want %v", acked, age, want)
		}
	}
	must(t, s.Close())
	now = now.Add(time.Hour)
	s = open(t, fs, clock)
	if age := s.Stats().Age; age != time.Hour+time.Second {
		t.Errorf("after a restart: %v", age)
	}
	now = now.Add(-24 * time.Hour)
	if age := s.Stats().Age; age != 0 {
		t.Errorf("clock put back: %v", age)
	}
}

func TestSyncsByItself(t *testing.T) {
	fs := faultfs.New(1)
	s := open(t, fs, func(o *Options) { o.SyncInterval = 5 * time.Millisecond })
	add(t, s, "a")
	need.Wait(t, "it is synced", func() bool { return s.Stats().Synced == 1 })
	die(fs, s)
	fs.Crash()
	s = open(t, fs)
	if got := texts(rest(t, s.Reader())); len(got) != 1 {
		t.Errorf("%q after a crash", got)
	}
}

// Acknowledgements not written down are bounded, however long a sync is away.
func TestResendsAreBounded(t *testing.T) {
	for name, end := range map[string]func(*faultfs.FS){"kill": (*faultfs.FS).Kill, "power": (*faultfs.FS).Crash} {
		fs := faultfs.New(1)
		s := open(t, fs)
		const n, step = 50000, 100
		for i := 1; i <= n; i += step {
			add(t, s, numbered(i, i+step-1)...)
		}
		must(t, s.Sync())
		for i := uint64(step); i <= n-step; i += step {
			must(t, s.Ack(i))
			if behind := i - s.persisted.Load(); behind >= MaxResend {
				t.Fatalf("%d acknowledgements not durable", behind)
			}
		}
		die(fs, s)
		end(fs)
		s = open(t, fs)
		limit := uint64(MaxResend)
		if name == "kill" {
			limit = noteEvery
		}
		// The syncer may have held the state file at the last chance to note.
		if left := s.Left(); left > limit+step && (name == "power" || left > MaxResend+step) {
			t.Errorf("%s: %d records are sent again, at most %d", name, left-step, limit)
		}
		must(t, s.Close())
	}
}

func TestDamagedRecordsArePassedOver(t *testing.T) {
	d := t.TempDir()
	o := Options{Dir: d, SyncInterval: time.Hour, HotBytes: 1}
	s, _, err := Open(o)
	must(t, err)
	defer s.Close()
	add(t, s, numbered(1, 1000)...)
	must(t, s.Sync())
	segments, err := filepath.Glob(filepath.Join(d, "*.seg*"))
	must(t, err)
	if len(segments) != 1 {
		t.Fatalf("segments: %q", segments)
	}
	f, err := os.OpenFile(segments[0], os.O_RDWR, 0)
	must(t, err)
	text, err := os.ReadFile(segments[0])
	must(t, err)
	at := bytes.Index(text, []byte(":500)"))
	_, err = f.WriteAt([]byte("?"), int64(at))
	must(t, err)
	must(t, f.Close())
	r := s.Reader()
	defer r.Close()
	got := rest(t, r)
	st := s.Stats()
	if uint64(len(got))+st.Damaged != 1000 || st.Damaged == 0 || got[498].Line != numbered(499, 499)[0] {
		t.Errorf("%d records read, %d damaged", len(got), st.Damaged)
	}
}

func TestOptions(t *testing.T) {
	fs := faultfs.New(1)
	for name, o := range map[string]Options{
		"no folder": {FS: fs},
		"too small": {FS: fs, Dir: dir, MaxBytes: 1000},
		"negative":  {FS: fs, Dir: dir, MaxBytes: -1},
		"policy":    {FS: fs, Dir: dir, Full: 2},
	} {
		if s, _, err := Open(o); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
	open(t, fs)
	if _, _, err := Open(Options{FS: fs, Dir: dir}); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("second open: %v", err)
	}
}

// Appenders, the reader and acknowledgements at the same time, on a real disk.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	s, _, err := Open(Options{Dir: t.TempDir(), MaxBytes: 4 << 20, HotBytes: 20 << 10, SyncInterval: time.Millisecond, Full: RefuseInput})
	must(t, err)
	defer s.Close()
	const each, writers = 3000, 4
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				line := fmt.Appendf(nil, "%d %d %s", w, i, bytes.Repeat([]byte("x"), 300))
				for s.Append(nil, line) != nil {
					time.Sleep(time.Millisecond) // full: the reader makes room
				}
			}
		})
	}
	next := [writers]int{}
	r := s.Reader()
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for n := 0; n < each*writers; {
		must(t, r.Wait(ctx))
		index, seq, line, err := r.Next()
		if errors.Is(err, io.EOF) {
			continue
		}
		must(t, err)
		n++
		var w, i int
		if _, err := fmt.Sscanf(string(line), "%d %d", &w, &i); err != nil || next[w] != i || index != uint64(n) || seq != s.Seq(index) {
			t.Fatalf("record %d: %.20q, index %d, %v", n, line, index, err)
		}
		next[w]++
		if n%7 == 0 {
			must(t, s.Ack(index))
			s.Stats()
		}
	}
	wg.Wait()
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch%d", n), func(b *testing.B) {
			s, _, err := Open(Options{Dir: b.TempDir()})
			must(b, err)
			defer s.Close()
			r := s.Reader()
			defer r.Close()
			line := bytes.Repeat([]byte("x"), 350)
			batch := make([][]byte, n)
			for i := range batch {
				batch[i] = line
			}
			b.SetBytes(350)
			b.ReportAllocs()
			for i := 0; i < b.N; i += n {
				must(b, s.Append(nil, batch...))
				var last uint64
				for {
					index, _, _, err := r.Next()
					if errors.Is(err, io.EOF) {
						break
					}
					must(b, err)
					last = index
				}
				must(b, s.Ack(last))
			}
		})
	}
}
