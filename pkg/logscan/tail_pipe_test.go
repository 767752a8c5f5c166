package logscan

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// pipeOf is a pipe; what reads it ends with the test.
func pipeOf(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	return r, w
}

// A pipe is followed until it ends; what is open then comes.
func TestFollowPipe(t *testing.T) {
	r, w := pipeOf(t)
	type found struct {
		serial  uint64
		records int
	}
	events := make(chan found, 10)
	done := make(chan error, 1)
	src := &Source{Input: Input{In: r}, EOETimeout: time.Millisecond}
	go func() {
		done <- src.Follow(t.Context(), &query.Query{}, func(ev *event.Event) error {
			events <- found{ev.Serial, len(ev.Records)}
			return nil
		}, nil)
	}()
	write := func(text string) {
		t.Helper()
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write(login(1))
	if got := <-events; got != (found{1, 1}) {
		t.Errorf("first: %v", got)
	}
	// An event that nothing follows comes while the pipe is open.
	write("type=SYSCALL msg=audit(1700000002.000:2): a\ntype=CWD msg=audit(1700000002.000:2): b\n")
	if got := <-events; got != (found{2, 2}) {
		t.Errorf("late: %v", got)
	}
	write("type=SYSCALL msg=audit(1700000003.000:3): a\n")
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := <-events; got != (found{3, 1}) {
		t.Errorf("last: %v", got)
	}
}

// A pipe need not end for the following to end.
func TestFollowPipeEnds(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		limit  uint64
		fail   error
		cancel bool
		want   error
	}{
		"limit":     {limit: 1},
		"error":     {fail: broken, want: broken},
		"cancelled": {cancel: true, want: context.Canceled},
	} {
		r, w := pipeOf(t)
		if _, err := w.WriteString(login(1)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var serials []uint64
		src := &Source{Input: Input{In: r}}
		err := src.Follow(ctx, &query.Query{Limit: c.limit}, func(ev *event.Event) error {
			serials = append(serials, ev.Serial)
			if c.cancel {
				cancel()
			}
			return c.fail
		}, nil)
		cancel()
		if !errors.Is(err, c.want) || !slices.Equal(serials, []uint64{1}) {
			t.Errorf("%s: events %d, %v", name, serials, err)
		}
	}
}

// An event that ends by time alone ends the following, too, if fn says so.
func TestFollowPipeLate(t *testing.T) {
	r, w := pipeOf(t)
	if _, err := w.WriteString("type=SYSCALL msg=audit(1700000003.000:3): a\n"); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	src := &Source{Input: Input{In: r}, EOETimeout: time.Millisecond}
	if err := src.Follow(t.Context(), &query.Query{}, func(*event.Event) error { return broken }, nil); !errors.Is(err, broken) {
		t.Error(err)
	}
}
