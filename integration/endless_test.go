package integration

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// endless feeds a sender through a pipe, a few records at a time, until it is told to end: what a test does in mid-stream
// finds a stream, however slow the machine is.
type endless struct {
	r, w  *os.File
	gap   time.Duration // between portions
	lines []string      // what was written; the stream's own until it has ended
	stop  chan struct{}
	done  chan error
}

var errStopped = errors.New("the stream was told to end")

func newEndless(t *testing.T, gap time.Duration) *endless {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return &endless{r: r, w: w, gap: gap, stop: make(chan struct{}), done: make(chan error, 1)}
}

// start begins the stream of a host.
func (e *endless) start(t *testing.T, seed uint64, node string) {
	t.Helper()
	corpus, err := harness.ParseCorpus(harness.RecordedRaw())
	if err != nil {
		t.Fatal(err)
	}
	e.r.Close() // the child has it
	go func() {
		_, err := corpus.Write(e, harness.Make{Seed: seed, Nodes: []string{node}, Start: time.Now().Add(-time.Hour), Step: time.Millisecond})
		e.w.Close()
		e.done <- err
	}()
}

// Write takes whole lines of the log that is made.
func (e *endless) Write(text []byte) (int, error) {
	lines := strings.Split(string(bytes.TrimSuffix(text, []byte("\n"))), "\n")
	for at := 0; at < len(lines); at += portion {
		part := lines[at:min(at+portion, len(lines))]
		if _, err := e.w.WriteString(strings.Join(part, "\n") + "\n"); err != nil {
			return 0, err
		}
		e.lines = append(e.lines, part...)
		select {
		case <-e.stop:
			return 0, errStopped
		case <-time.After(e.gap):
		}
	}
	return len(text), nil
}

// end ends it and returns what was written.
func (e *endless) end(t *testing.T) []string {
	t.Helper()
	close(e.stop)
	if err := <-e.done; !errors.Is(err, errStopped) {
		t.Fatalf("the stream ended by itself: %v", err)
	}
	return e.lines
}
