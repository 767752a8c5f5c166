package logscan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// quiet is a log that gives its pieces one by one and is silent before each.
type quiet struct {
	pieces []string
	silent time.Duration // before each piece
	till   time.Time     // of the next one
	fail   error         // of wait
}

func (q *quiet) wait(d time.Duration) (bool, error) {
	if q.fail != nil {
		return false, q.fail
	}
	if q.till.IsZero() {
		q.till = time.Now().Add(q.silent)
	}
	if left := time.Until(q.till); left > d {
		time.Sleep(d)
		return false, nil
	} else if left > 0 {
		time.Sleep(left)
	}
	return true, nil
}

func (q *quiet) Read(p []byte) (int, error) {
	if len(q.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, q.pieces[0])
	q.pieces, q.till = q.pieces[1:], time.Time{}
	return n, nil
}

// A silent pipe: what is open is shown after a while, not only at the end; what
// comes for it later is another event.
func TestScanSilentPipe(t *testing.T) {
	half := "type=SYSCALL msg=audit(1700000001.000:1): a\n"
	for _, c := range []struct {
		silent time.Duration
		want   string // serial x records, at seconds
	}{
		{4 * idle, "[1x1@15 1x1@27 2x1@27]"}, // idle after what came at 12 and 24
		{idle / 2, "[1x2@4.5 2x1@4.5]"},      // at the end
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			logs := &Logs{readers: []io.Reader{&quiet{pieces: []string{half, half + login(2)}, silent: c.silent}}}
			var got []string
			err := Scan(t.Context(), logs, Config{Workers: 2}, newKeeper, func(list []*event.Event) error {
				for _, ev := range list {
					got = append(got, fmt.Sprintf("%dx%d@%v", ev.Serial, len(ev.Records), time.Since(begun).Seconds()))
				}
				return nil
			})
			if err != nil || fmt.Sprint(got) != c.want {
				t.Errorf("silent for %v: %v, %v; want %s", c.silent, got, err, c.want)
			}
		})
	}
	broken := errors.New("broken")
	logs := &Logs{readers: []io.Reader{&quiet{fail: broken}}}
	if _, _, err := listed(t, logs, Config{}); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "wait for log: ") {
		t.Errorf("a wait that fails: %v", err)
	}
}

// A scan that is told to end does not wait for a silent pipe.
func TestScanSilentPipeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		logs := &Logs{readers: []io.Reader{&quiet{pieces: []string{"x"}, silent: time.Hour}}}
		err := Scan(ctx, logs, Config{Workers: 2}, newKeeper, func([]*event.Event) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > time.Second+idle/30 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// A log that breaks off: what is before is given, then the error.
func TestReadErrors(t *testing.T) {
	broken := errors.New("broken")
	good := strings.NewReader(login(1))
	for name, log := range map[string]io.Reader{
		"stream": io.MultiReader(good, iotest.ErrReader(broken)),
		"tail":   nil,
	} {
		var got []uint64
		keep := func(ev *event.Event) error { got = append(got, ev.Serial); return nil }
		var err error
		if log == nil {
			err = newTail(t.Context(), 0, &query.Query{}, keep).read(io.MultiReader(strings.NewReader(login(1)), iotest.ErrReader(broken)))
		} else {
			err = Scan(t.Context(), &Logs{readers: []io.Reader{log}}, Config{}, newKeeper, func(list []*event.Event) error {
				for _, ev := range list {
					_ = keep(ev)
				}
				return nil
			})
		}
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "read log: ") || !slices.Equal(got, []uint64{1}) {
			t.Errorf("%s: events %d, %v", name, got, err)
		}
	}
	c := &chunk{}
	if err := fillFrom(c, brokenAt{broken}, 0, 100, 200); !errors.Is(err, broken) {
		t.Errorf("file: %v", err)
	}
	failed := errors.New("no worker")
	if err := Scan(t.Context(), &Logs{}, Config{}, func() (Worker[int], error) { return nil, failed }, nil); !errors.Is(err, failed) {
		t.Errorf("without a worker: %v", err)
	}
}

type brokenAt struct{ err error }

func (b brokenAt) ReadAt([]byte, int64) (int, error) { return 0, b.err }

// A file that is cut short after its size was asked for ends where it ends.
func TestFillCutFile(t *testing.T) {
	text := login(1) + login(2)
	for _, c := range []struct {
		have, from, to int
		want           string
	}{
		{len(text), 0, len(text), text},
		{len(text), 0, len(login(1)), login(1)},
		{len(text), len(login(1)), len(text), login(2)},
		{len(text), 1, len(login(1)), ""},                              // no line begins there
		{len(text) - 7, 0, len(text), text[:len(text)-7]},              // the last one is cut
		{len(text) - 7, 5, len(text), login(2)[:len(login(2))-7]},      // and the first one another's
		{len(login(1)) - 3, 0, len(text), login(1)[:len(login(1))-3]},  // half of it is gone
		{0, 0, len(text), ""},                                          // all
		{3, len(login(1)), len(text), ""},                              // more than that
		{len(text), 0, len(login(1)) + 4, strings.TrimSpace(text)},     // the last line goes on behind it
		{len(text), 0, len(login(1)) - 4, strings.TrimSpace(login(1))}, // the only one does
	} {
		ch := &chunk{}
		err := fillFrom(ch, bytes.NewReader([]byte(text[:c.have])), int64(c.from), int64(c.to), int64(len(text)))
		if err != nil || string(ch.data) != c.want {
			t.Errorf("%+v: %q, %v", c, ch.data, err)
		}
	}
}

// Many events that are open at once are told apart, and keep their records.
func TestManyOpen(t *testing.T) {
	const n = 5000 // more than the table begins with
	var log strings.Builder
	for _, typ := range []string{"SYSCALL", "CWD", "PATH"} {
		for i := range n {
			fmt.Fprintf(&log, "type=%s msg=audit(1700000000.000:%d): x=%d\n", typ, i+1, i)
		}
	}
	serial := uint64(0)
	logs := &Logs{readers: []io.Reader{strings.NewReader(log.String())}}
	err := Scan(t.Context(), logs, Config{}, newKeeper, func(list []*event.Event) error {
		for _, ev := range list {
			serial++
			if ev.Serial != serial || len(ev.Records) != 3 {
				return fmt.Errorf("event %d has serial %d and %d records", serial, ev.Serial, len(ev.Records))
			}
		}
		return nil
	})
	if err != nil || serial != n {
		t.Errorf("%d events of %d, %v", serial, n, err)
	}
}

// How much younger a record must be to end an event is told by the configuration:
// the same two records are one event or two.
func TestEOETimeout(t *testing.T) {
	at := func(sec, serial int) string {
		return fmt.Sprintf("type=SYSCALL msg=audit(%d.000:%d): a\n", 1700000000+sec, serial)
	}
	log := at(0, 1) + at(4, 2) + at(0, 1)
	for timeout, want := range map[time.Duration]int{0: 3, 4 * time.Second: 3, 5 * time.Second: 2, time.Millisecond: 3} {
		if _, events := rawOf(t, Config{EOETimeout: timeout}, strings.NewReader(log)); events != want {
			t.Errorf("%v: %d events, want %d", timeout, events, want)
		}
	}
}
