package search

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestCheckpointSameAsNewest lets logs grow by some lines between two searches. Nothing
// that 4.2.2 prints is lost by ours, which prints all there is; and either goes on from the
// other's file.
func TestCheckpointSameAsNewest(t *testing.T) {
	bin := need.Newest(t, "ausearch")
	seed := need.Seed(t)
	logs := newestLogs(t, seed)
	names := make([]string, 0, len(logs))
	for name := range logs {
		names = append(names, name)
	}
	slices.Sort(names)
	runs, most := 0, need.Rounds(400, 30)
	for i, name := range names {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		lines := slices.Collect(strings.Lines(logText(t, logs[name])))
		if len(lines) > most {
			at := r.IntN(len(lines) - most)
			lines = lines[at : at+most]
		}
		dir := t.TempDir()
		log, theirs, ours := filepath.Join(dir, "audit.log"), filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
		args := func(ck string) []string { return []string{"-if", log, "-r", "--checkpoint", ck} }
		printed := map[string]int{}
		keep := func(out string, n int) {
			for line := range strings.Lines(out) {
				if line, _, _ = strings.Cut(line, "\x1d"); !strings.Contains(line, "type=EOE") {
					printed[strings.TrimSpace(line)] += n
				}
			}
		}
		stock := map[string]bool{}
		text := ""
		for len(lines) > 0 {
			n := min(1+r.IntN(1+30*r.IntN(2)), len(lines))
			text += strings.Join(lines[:n], "")
			lines = lines[n:]
			writeFile(t, log, text)
			for line := range strings.Lines(runStock(t, bin, nil, args(theirs)...).out) {
				line, _, _ = strings.Cut(line, "\x1d") // which it cuts when nothing is behind it
				stock[strings.TrimSpace(line)] = true
			}
			keep(runOurs(busyEnv(t, log), args(ours)...).out, 1)
			if r.IntN(4) == 0 {
				goOn(t, ours, func(ck string) ran { return runStock(t, bin, nil, args(ck)...) })
				goOn(t, theirs, func(ck string) ran { return runOurs(busyEnv(t, log), args(ck)...) })
			}
			runs++
		}
		keep(runOurs(quietEnv(t, log), args(ours)...).out, 1)
		for line := range stock {
			if printed[line] == 0 && !strings.Contains(line, "type=EOE") {
				t.Errorf("%s: only 4.2.2 prints %s", name, line)
			}
		}
		keep(runOurs(utcEnv, "-if", log, "-r").out, -1)
		for line, n := range printed {
			if n < 0 || n > 0 && !strings.HasPrefix(name, "made") { // some of those go on behind their PROCTITLE, and are printed again
				t.Errorf("%s (AUDITFLEET_SEED=%d): printed %+d times more than without --checkpoint: %s", name, seed, n, line)
			}
		}
	}
	t.Logf("compared %d runs", runs)
}

// goOn runs a search from a copy of a checkpoint's file.
func goOn(t *testing.T, ck string, run func(string) ran) {
	t.Helper()
	text, err := os.ReadFile(ck)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, ck+"-copy", string(text))
	if got := run(ck + "-copy"); got.code > 1 && got.code != codeMissing { // of times that go back
		t.Errorf("from %q: exit %d, %s", text, got.code, got.stderr)
	}
}
