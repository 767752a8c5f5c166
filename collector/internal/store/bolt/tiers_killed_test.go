package bolt

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
)

// childStore is the variable with the store in which a process of these tests works that is started for that.
const childStore = "AUDITFLEET_TEST_TIERS"

// child returns a process that runs one of these tests on a store.
func child(t *testing.T, test, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env, cmd.Stderr = append(os.Environ(), childStore+"="+dir), os.Stderr
	return cmd
}

// A collector that is killed at any moment while it stores and merges has all that was stored, each event once, at the next start.
func TestTiersKilledAnywhere(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return storetest.Start }
	if dir := os.Getenv(childStore); dir != "" {
		s := open(t, Options{Dir: dir, now: now, tierParts: 2})
		st, err := s.State(context.Background())
		must(t, err)
		for id := st.ID + 1; ; id++ {
			lateBatch(t, s, id)
			fmt.Println("stored", id)
			mergeAll(t, s, merging)
		}
	}
	dir := filepath.Join(t.TempDir(), "store")
	rng := rand.New(rand.NewPCG(5, uint64(time.Now().UnixNano())))
	merged := 0
	for round := range need.Size(25, 4) {
		cmd := child(t, "TestTiersKilledAnywhere", dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		last, some := uint64(0), 1+rng.IntN(8)
		for lines := bufio.NewScanner(out); some > 0 && lines.Scan(); some-- {
			if _, err := fmt.Sscanf(lines.Text(), "stored %d", &last); err != nil {
				t.Errorf("%q", lines.Text())
			}
		}
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		s := open(t, Options{Dir: dir, now: now, tierParts: 2})
		st, err := s.State(context.Background())
		must(t, err)
		got := whole(t, s)
		if n := uint64(len(got)); st.ID < last || n != 25*st.ID || uint64(len(slices.Compact(slices.Sorted(slices.Values(got))))) != n {
			t.Errorf("round %d: %d events, %d of them different, of %d batches; %d were stored", round, n, len(slices.Compact(slices.Sorted(slices.Values(got)))), st.ID, last)
		}
		if n := accounted(t, s); n != st.ID {
			t.Errorf("round %d: %d records are accounted for, want %d", round, n, st.ID)
		}
		if b := s.Missing(); len(b) > 0 {
			t.Errorf("round %d: a false alarm: %v", round, b)
		}
		allSealed(t, s, "round "+strconv.Itoa(round))
		for _, p := range s.parts {
			if p.merged() {
				merged++
			}
		}
		must(t, s.Close())
	}
	if merged == 0 {
		t.Error("nothing was merged")
	}
}

// Whichever write inside of a file that is made finds no room, the store goes on as it was, and nothing of the file is left. The limit on the size
// of files stands for a full disk; it is a process's, so another one has it.
func TestMadeFileFull(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(childStore)
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "store")
		if out, err := child(t, "TestMadeFileFull", dir).Output(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	signal.Ignore(unix.SIGXFSZ)
	var was unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &was))
	s := open(t, Options{Dir: dir, now: func() time.Time { return storetest.Start }})
	for id := uint64(1); id <= 3; id++ {
		lateBatch(t, s, id)
	}
	must(t, s.Rotate(context.Background())) // a batch's file may be as large as it is
	want := whole(t, s)
	fails := 0
	for size := uint64(4096); ; size += 4096 {
		must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: was.Max}))
		done, err := s.Compact(context.Background(), merging)
		must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &was))
		if d := cmp.Diff(want, whole(t, s)); d != "" {
			t.Fatalf("files of %d bytes (-before +after):\n%.1000s", size, d)
		}
		if done != nil && err == nil {
			break
		}
		fails++
		if err == nil || size > 64<<20 { // bbolt keeps no cause
			t.Fatalf("files of %d bytes: %v", size, err)
		}
		files, err := layout.List(dir)
		must(t, err)
		if len(files.Partitions) != len(s.parts) || len(files.Unfinished)+len(files.Aside) > 0 {
			t.Errorf("files of %d bytes: %+v", size, files)
		}
		s.compacting.failed = nil
	}
	if fails < 10 {
		t.Errorf("it failed %d times only", fails)
	}
	allSealed(t, s, "at the end")
	must(t, s.Close())
}
