package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// machine is the model that a spool on a failing disk is held against. Record i
// of the model is lines[i].
type machine struct {
	t  *rapid.T
	fs *faultfs.FS
	s  *Spool
	r  *Reader

	at    map[string]int // where a line is in the model
	n     int            // records appended, ever
	alive []int          // the one at i has index i+1
	mark  int            // of the last record
	safe  int            // how many of alive are durable
	acked int            // how many of alive are acknowledged
	floor int            // how many of alive are acknowledged and written down
	seqs  map[uint32]int // every id that was read, and whose it was
	seqOf map[int]uint32
}

// What alive may hold besides records.
const (
	gone  = -1 // lost in a crash
	reset = -2 // an entry of the spool's own after such a loss
)

func (m *machine) open() {
	s, _, err := Open(Options{FS: m.fs, Dir: dir, SyncInterval: time.Hour, SegmentBytes: 16 << 10, MaxBytes: 64 << 20, HotBytes: 4 << 10})
	if err != nil {
		m.t.Fatalf("open: %v", err)
	}
	s.noteEvery = 3
	m.s, m.r = s, s.Reader()
}

func (m *machine) append(n int) {
	var batch [][]byte
	for range n {
		line := fmt.Sprintf("record %d %0*d", m.n, 1+m.n%900, 0)
		m.at[line] = m.n
		m.alive = append(m.alive, m.n)
		m.n++
		batch = append(batch, []byte(line))
	}
	// The mark says how many records of the model were read from the source.
	if err := m.s.Append(fmt.Append(nil, m.n), batch...); err != nil {
		m.t.Fatalf("append: %v", err)
	}
	m.mark = m.n
}

// next reads one record and returns its place in alive, -1 at the end.
func (m *machine) next() int {
	index, seq, line, err := m.r.Next()
	if errors.Is(err, io.EOF) {
		return -1
	}
	if err != nil {
		m.t.Fatalf("next: %v", err)
	}
	if len(line) == 0 && m.alive[index-1] == reset {
		return int(index) - 1
	}
	id, ok := m.at[string(line)]
	if !ok {
		m.t.Fatalf("read %.40q, which was never appended", line)
	}
	if was, ok := m.seqs[seq]; ok && was != id {
		m.t.Fatalf("id %#x was record %d's and is record %d's", seq, was, id)
	}
	if was, ok := m.seqOf[id]; ok && was != seq {
		m.t.Fatalf("record %d had id %#x and has %#x", id, was, seq)
	}
	m.seqs[seq], m.seqOf[id] = id, seq
	if index > uint64(len(m.alive)) || m.alive[index-1] != id {
		m.t.Fatalf("record %d was read at index %d", id, index)
	}
	return int(index) - 1
}

// reopened compares what is there with what must be: everything durable, and
// after it some of what wasn't, in order, from not before floor.
func (m *machine) reopened(lossless bool) {
	m.open()
	st := m.s.Stats()
	kept, start := int(st.Last), int(st.First)-1
	own := m.s.hot.len() == 1 // nothing else is appended by Open
	if own {
		kept--
	}
	if kept < m.safe || kept > len(m.alive) || lossless && (own || kept < len(m.alive)) {
		m.t.Fatalf("%d of %d records kept, %d were durable", kept, len(m.alive), m.safe)
	}
	if start > m.acked || start < min(m.floor, kept) {
		m.t.Fatalf("resumed after %d of %d, %d are acknowledged, %d on record", start, kept, m.acked, m.floor)
	}
	lost := slices.Clone(m.alive[kept:])
	m.alive = m.alive[:kept]
	if own {
		m.alive = append(m.alive, reset)
	}
	for i := start; i < len(m.alive); i++ {
		if m.alive[i] == gone {
			continue // in an earlier crash
		}
		got := m.next()
		// A power loss may take any of those that weren't durable.
		for ; i < len(m.alive) && got != i; i++ {
			if (lossless || i < m.safe) && m.alive[i] != gone {
				m.t.Fatalf("record %d is gone: %d read next, %d were durable", i, got, m.safe)
			}
			lost = append(lost, m.alive[i])
			m.alive[i] = gone
		}
	}
	if got := m.next(); got != -1 {
		m.t.Fatalf("record %d read after the last", got)
	}
	// The source goes on where the mark says: not behind a record that is gone and
	// wasn't acknowledged, and behind all there are when nothing was lost.
	var mark int
	if b := m.s.Mark(); b != nil {
		if _, err := fmt.Sscan(string(b), &mark); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, id := range lost {
		if id >= 0 && mark > id {
			m.t.Fatalf("the mark is %d, but record %d is lost", mark, id)
		}
	}
	if lossless && mark != m.mark {
		m.t.Fatalf("the mark is %d, want %d", mark, m.mark)
	}
	m.mark = mark
	m.safe, m.acked, m.floor = len(m.alive), start, start // Open makes durable what it finds
	m.r.Seek(0)
}

// A spool that is killed and loses power again and again loses nothing that was
// durable and not acknowledged, repeats only what was acknowledged since that was
// last written down, keeps the order, and no id ever stands for two records.
func TestCrashes(t *testing.T) {
	t.Parallel()
	crashes := 0
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{
			t: rt, fs: faultfs.New(rapid.Int64().Draw(rt, "seed")),
			at: map[string]int{}, seqs: map[uint32]int{}, seqOf: map[int]uint32{},
		}
		if rapid.Bool().Draw(rt, "tear bytes") {
			m.fs.TearBytes()
		}
		m.open()
		defer func() { m.s.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) { m.append(rapid.IntRange(1, 30).Draw(rt, "n")) },
			"sync": func(*rapid.T) {
				if err := m.s.Sync(); err != nil {
					rt.Fatal(err)
				}
				m.safe, m.floor = len(m.alive), m.acked
			},
			"read and acknowledge": func(rt *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(rt, "n") {
					i := m.next()
					if i < 0 {
						return
					}
					if i >= m.acked && rapid.IntRange(0, 3).Draw(rt, "ack") == 0 {
						if err := m.s.Ack(uint64(i + 1)); err != nil {
							rt.Fatal(err)
						}
						m.acked = i + 1
					}
				}
			},
			"power during a sync": func(rt *rapid.T) {
				crashes++
				m.fs.CutPower(rapid.IntRange(1, 5).Draw(rt, "operation"))
				_ = m.s.Sync() // may fail, or be whole
				die(m.fs, m.s)
				m.fs.Crash()
				m.reopened(false)
			},
			"close": func(*rapid.T) {
				if err := m.s.Close(); err != nil {
					rt.Fatal(err)
				}
				m.floor = m.acked
				m.reopened(true)
			},
			"kill": func(*rapid.T) {
				crashes++
				die(m.fs, m.s)
				m.fs.Kill()
				m.reopened(true)
			},
			"power": func(*rapid.T) {
				crashes++
				die(m.fs, m.s)
				m.fs.Crash()
				m.reopened(false)
			},
			"": func(*rapid.T) {
				if left := len(m.alive) - m.acked; uint64(left) != m.s.Left() {
					rt.Fatalf("%d records left, want %d", m.s.Left(), left)
				}
			},
		})
	})
	if crashes == 0 {
		t.Error("nothing crashed: the test shows nothing")
	}
}

// A crash may leave the first part of a batch, without the mark that its last record had. The mark before it must stay
// in the log, though all there is may be acknowledged and its segment have no other use.
func TestMarkStays(t *testing.T) {
	t.Parallel()
	short := 0
	for seed := int64(1); seed <= 40; seed++ {
		fs := faultfs.New(seed)
		fs.TearBytes()
		small := func(o *Options) { o.SegmentBytes = 16 << 10 }
		s := open(t, fs, small)
		must(t, s.Append([]byte("one"), []byte("record one")))
		must(t, s.Sync())
		var batch [][]byte
		for i := range 60 {
			batch = append(batch, fmt.Appendf(nil, "%01000d", i))
		}
		must(t, s.Append([]byte("two"), batch...))
		die(fs, s)
		fs.Crash()
		var mark []byte
		for i := range 3 {
			s = open(t, fs, small)
			got := s.Mark()
			if i == 0 {
				mark = got
			}
			if len(got) == 0 || !bytes.Equal(got, mark) {
				t.Fatalf("seed %d, start %d: the mark is %q, was %q", seed, i, got, mark)
			}
			if len(s.AfterMark()) > 0 && s.log.Boundary() > 0 {
				short++
			}
			must(t, s.Ack(s.log.Last()))
			must(t, s.Sync())
			must(t, s.Close())
		}
	}
	if short == 0 {
		t.Error("no crash cut the batch short in another segment: the test shows nothing")
	}
}

// A spool that is full lets go of the last mark that is durable, rather than staying full, once all is acknowledged.
func TestMarkMakesRoom(t *testing.T) {
	t.Parallel()
	for _, full := range []FullPolicy{DropOldest, RefuseInput} {
		s := open(t, faultfs.New(1), func(o *Options) { o.Full, o.MaxBytes, o.SegmentBytes = full, 1<<20, 16<<10 })
		must(t, s.Append([]byte("one"), []byte("record one")))
		must(t, s.Sync())
		// As if a crash had left no later mark.
		for range 20 {
			var batch [][]byte
			for range 60 {
				batch = append(batch, make([]byte, 1000))
			}
			must(t, s.Append([]byte{}, batch...))
			must(t, s.Ack(s.log.Last()))
		}
		must(t, s.Close())
	}
}

// Every operation fails once, in turn: what Append took without an error is read
// back after a restart, or the spool says that it failed.
func TestEveryOperationFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, op := range faultfs.Ops() {
		for nth := 1; nth <= 12; nth++ {
			fs := faultfs.New(int64(nth))
			o := Options{FS: fs, Dir: dir, SyncInterval: time.Hour, SegmentBytes: 16 << 10, MaxBytes: 1 << 20}
			fs.Fail(op, nth, boom)
			s, _, err := Open(o)
			if err != nil {
				if fs.OpenFiles() != 0 {
					t.Fatalf("%s %d: open failed and left %d files open", op, nth, fs.OpenFiles())
				}
				fs.Heal()
				if s, _, err = Open(o); err != nil {
					t.Fatalf("%s %d: open again: %v", op, nth, err)
				}
			}
			var taken []string
			for i := range 60 {
				line := numbered(i*10, i*10+9)
				var b [][]byte
				for _, l := range line {
					b = append(b, []byte(l))
				}
				if err := s.Append(nil, b...); err == nil {
					taken = append(taken, line...)
				}
				if i%10 == 9 {
					_ = s.Sync() // may be the one that fails
				}
			}
			if err := s.Ack(100); err != nil {
				t.Fatalf("%s %d: ack: %v", op, nth, err)
			}
			_ = s.Sync()
			failed := s.log.Err() != nil
			_ = s.Close()
			fs.Heal()
			if s, _, err = Open(o); err != nil {
				t.Fatalf("%s %d: reopen: %v", op, nth, err)
			}
			got := texts(rest(t, s.Reader()))
			if n := len(taken) - len(got); !failed && (n > 100 || n < 0 || fmt.Sprint(got) != fmt.Sprint(taken[n:])) {
				t.Errorf("%s %d: %d taken, %d read back", op, nth, len(taken), len(got))
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s %d: close: %v", op, nth, err)
			}
		}
	}
}
