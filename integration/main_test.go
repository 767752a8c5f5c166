package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// built holds the binaries of this run, made by the first test that needs them.
var built struct {
	once sync.Once
	dir  string
	bins *harness.Binaries
	err  error
}

func TestMain(m *testing.M) {
	need.Parallel(5) // they wait for programs; those with the kernel's audit come first, one by one
	stop := need.OnSignal(func() {
		if kernelOpen.Load() {
			if err := harness.PutBack(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		if built.dir != "" {
			os.RemoveAll(built.dir)
		}
	})
	code := m.Run()
	stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// binaries are built once a run: as released, or with the race detector when
// AUDITFLEET_RACE=1.
func binaries(t *testing.T) *harness.Binaries {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the real binaries")
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "auditfleet-bin-"); built.err == nil {
			built.bins, built.err = harness.Build(built.dir, os.Getenv("AUDITFLEET_RACE") == "1")
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.bins
}

// stockPeers skips where the stock daemons cannot be started.
func stockPeers(t *testing.T) {
	t.Helper()
	need.Root(t)
	need.Stock(t, "auditd")
	need.Stock(t, "audisp-remote")
	need.Stock(t, "ausearch")
}

func startCollector(t *testing.T, o harness.CollectorOptions) *harness.Collector {
	t.Helper()
	if o.Store == "" {
		o.Store = t.TempDir() + "/store"
	}
	c, err := harness.StartCollector(binaries(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of collector serve:\n%s", c.Output())
		}
		c.Kill()
	})
	return c
}

// realLog makes records; each line is different from every other of the test.
func realLog(t *testing.T, recording []byte, m harness.Make) []string {
	t.Helper()
	corpus, err := harness.ParseCorpus(recording)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if m.Start.IsZero() {
		m.Start = time.Now().Add(-time.Hour)
	}
	if m.Step == 0 {
		m.Step = time.Millisecond
	}
	if _, err := corpus.Write(&text, m); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
}

// feed is the text of lines as a sender reads it.
func feed(lines []string) *strings.Reader { return strings.NewReader(strings.Join(lines, "\n") + "\n") }

// found runs `collector search --format raw` and returns the records of hosts,
// without what both programs note themselves (DAEMON_…, CRYPTO_SESSION, and the USER_CMD of who
// asked).
func found(t *testing.T, c *harness.Collector, args ...string) []string {
	t.Helper()
	r, err := c.Search(2*time.Minute, append([]string{"--format", "raw"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code == 1 && len(r.Stdout) == 0 && (len(r.Stderr) == 0 || strings.HasPrefix(string(r.Stderr), "NOTE - no record is of a host called ")) {
		return nil // nothing found: in the raw format that is said by the exit code alone, and of a host that is not there yet, a note
	}
	if r.Code != 0 {
		t.Fatalf("collector search %s: exit %d: %s", strings.Join(args, " "), r.Code, r.Stderr)
	}
	var lines []string
	for _, line := range strings.Split(strings.TrimSuffix(string(r.Stdout), "\n"), "\n") {
		if !noted(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// noted says whether a record is one that our programs make themselves.
func noted(line string) bool {
	asked := strings.Contains(line, "type=USER_CMD") && strings.Contains(line, "/collector\" hostname=?")
	return asked || strings.Contains(line, "type=DAEMON_") || strings.Contains(line, "type=CRYPTO_SESSION")
}

// foundAll is found once it finds as many records as there must be, at most a
// minute later: what is acknowledged is stored, but a running collector shows an
// event only when it is put together, which it does behind the acknowledgement.
func foundAll(t *testing.T, c *harness.Collector, want int, args ...string) []string {
	t.Helper()
	var lines []string
	harness.Poll(time.Minute, func() bool {
		lines = found(t, c, args...)
		return len(lines) >= want
	})
	return lines
}

// sameRecords fails unless got holds every line of want once and nothing else,
// in any order of events.
func sameRecords(t *testing.T, want, got []string) {
	t.Helper()
	left := make(map[string]int, len(want))
	for _, line := range want {
		left[line]++
	}
	var missing, twice, strange []string
	seen := make(map[string]bool, len(got))
	for _, line := range got {
		switch {
		case left[line] > 0:
			left[line]--
			seen[line] = true
		case seen[line]:
			twice = append(twice, line)
		default:
			strange = append(strange, line)
		}
	}
	for _, line := range want {
		if left[line] > 0 {
			missing = append(missing, line)
		}
	}
	for what, lines := range map[string][]string{"missing": missing, "there more than once": twice, "never sent": strange} {
		if len(lines) > 0 {
			t.Errorf("of %d records %d are %s, the first:\n%s", len(want), len(lines), what, strings.Join(lines[:min(3, len(lines))], "\n"))
		}
	}
}

// inOrder fails unless the records of each event stand together in the order
// they were sent in.
func inOrder(t *testing.T, sent, got []string) {
	t.Helper()
	byEvent := map[string][]string{}
	for _, line := range sent {
		byEvent[eventOf(line)] = append(byEvent[eventOf(line)], line)
	}
	for i := 0; i < len(got); {
		id := eventOf(got[i])
		end := i
		for end < len(got) && eventOf(got[end]) == id {
			end++
		}
		if !slices.Equal(got[i:end], byEvent[id]) {
			t.Fatalf("event %s came back as\n%s\nand was sent as\n%s", id, strings.Join(got[i:end], "\n"), strings.Join(byEvent[id], "\n"))
		}
		i = end
	}
}

// eventOf is what the records of one event share: node, time, serial.
func eventOf(line string) string {
	node := ""
	if rest, ok := strings.CutPrefix(line, "node="); ok {
		node, _, _ = strings.Cut(rest, " ")
	}
	_, rest, _ := strings.Cut(line, "msg=audit(")
	at, _, _ := strings.Cut(rest, ")")
	return node + " " + at
}
