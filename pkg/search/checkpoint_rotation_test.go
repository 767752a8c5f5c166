package search

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestCheckpointWhileRotated searches while the log is written to and rotated. Whatever
// files a search finds and opens, each event is printed once.
func TestCheckpointWhileRotated(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(need.Seed(t), 81))
	s := &logStory{t: t, r: r, dir: t.TempDir(), lines: map[string]int{}}
	s.log = filepath.Join(s.dir, "audit.log")
	args := []string{"-if", s.dir, "-r", "--checkpoint", filepath.Join(s.dir, "ck")}
	s.append("")
	serial := 0
	burst := func() {
		for range 5 {
			if r.IntN(4) == 0 && s.rotations < 30 {
				s.rotate()
			}
			for range 4 {
				serial++
				line := callAt(1700000000+serial, serial, "k")
				s.lines[line]++
				s.append(line)
			}
		}
	}
	printed := map[string]int{}
	keep := func(got ran) {
		for line := range strings.Lines(got.out) {
			printed[line]++
		}
	}
	for range need.Rounds(60, 15) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			burst()
		}()
		keep(runOurs(utcEnv, args...)) // it may fail where the newest log is away for long, and prints nothing then
		<-done
	}
	last := runOurs(quietEnv(t, s.log), args...)
	if keep(last); last.code > 1 {
		t.Errorf("exit %d: %s", last.code, last.stderr)
	}
	for line := range s.lines {
		if printed[line] != 1 {
			t.Errorf("printed %d times: %s", printed[line], line)
		}
	}
	if s.rotations == 0 || len(printed) != len(s.lines) {
		t.Errorf("%d rotations, %d of %d lines printed", s.rotations, len(printed), len(s.lines))
	}
}
