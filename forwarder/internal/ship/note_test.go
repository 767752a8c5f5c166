package ship

import (
	"errors"
	"testing"
	"time"
)

// TestNote: a condition is logged once a minute, and another reason for it, or another
// server, after five seconds already. Ports are no other reason.
func TestNote(t *testing.T) {
	s := &Sender{noted: map[Condition]*note{}}
	begin := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		after   int // seconds
		server  string
		why     string
		say     bool
		repeats int
	}{
		{0, "a", "dial 10.0.0.1:4431: refused", true, 0},
		{1, "a", "dial 10.0.0.1:4432: refused", false, 0},
		{2, "a", "revoked", false, 0}, // it will come again
		{6, "a", "revoked", true, 2},
		{12, "a", "revoked", false, 0},
		{13, "b", "dial 10.0.0.2:4433: refused", true, 1},
		{19, "a", "revoked", false, 0},
		{26, "b", "dial 10.0.0.2:4434: refused", false, 0},
		{80, "a", "revoked", true, 2},
	} {
		repeats, say := s.note(begin.Add(time.Duration(c.after)*time.Second), Report{Condition: NetworkFailure, Server: c.server, Err: errors.New(c.why)})
		if say != c.say || repeats != c.repeats {
			t.Errorf("after %d s %q of %s: said %v, repeats %d; want %v, %d", c.after, c.why, c.server, say, repeats, c.say, c.repeats)
		}
	}
	if _, say := s.note(begin.Add(81*time.Second), Report{Condition: DiskFull, Server: "a", Reply: "DISK_FULL"}); !say {
		t.Error("another condition is not said")
	}
}
