package spool

import (
	"errors"
	"io"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

// TestRewind: what was acknowledged and is still there comes again, as what it was, also after a
// crash; what is freed does not.
func TestRewind(t *testing.T) {
	fs := faultfs.New(1)
	small := func(o *Options) { o.SegmentBytes, o.HotBytes = 256<<10, 4<<10 }
	s := open(t, fs, small)
	const last = 3000
	lines := numbered(1, last)
	for at := 0; at < last; at += 50 {
		add(t, s, lines[at:at+50]...)
	}
	stream, _ := s.Stream(1)
	seq := s.Seq(2475)
	must(t, s.Ack(2480))
	must(t, s.Sync())
	if first, err := s.Rewind(2600); err != nil || first != 2481 {
		t.Errorf("back to what waits anyway: %d, %v", first, err)
	}
	first, err := s.Rewind(10)
	if err != nil || first <= 10 || first > 2480 || first != s.First() || s.Left() != last+1-first {
		t.Fatalf("back to %d, %d left from %d on: %v", first, s.Left(), s.First(), err)
	}
	read := func(s *Spool) {
		t.Helper()
		r := s.Reader()
		defer r.Close()
		r.Seek(1)
		for want := first; ; want++ {
			index, _, line, err := r.Next()
			if errors.Is(err, io.EOF) && want == last+1 {
				return
			}
			if err != nil || index != want || string(line) != lines[want-1] {
				t.Fatalf("record %d: %d, %q, %v", want, index, line, err)
			}
		}
	}
	read(s)
	if id, _ := s.Stream(2475); id != stream || s.Seq(2475) != seq {
		t.Error("record 2475 is another one now")
	}
	fs.Crash()
	s = open(t, fs, small)
	if s.First() != first {
		t.Fatalf("after a crash %d is the first, was %d", s.First(), first)
	}
	read(s)
	if id, _ := s.Stream(2475); id != stream {
		t.Error("after a crash record 2475 is of another stream")
	}
	must(t, s.Ack(2475)) // less than was durable once
	must(t, s.Sync())
	if n := s.Counts().Damaged; s.First() != 2476 || n != 0 {
		t.Errorf("%d is the first, %d count as damaged", s.First(), n)
	}
	must(t, s.Close())
}
