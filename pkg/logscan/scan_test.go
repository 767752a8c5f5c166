package logscan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// lister is a Worker that lists raw records.
type lister struct {
	text   []byte
	events int
	stopAt int   // after so many events of a batch; 0 never
	fail   error // of Event
}

func (l *lister) Event(ev *event.Event) error {
	for i := range ev.Records {
		l.text = append(append(l.text, ev.Records[i].Raw...), '\n')
	}
	l.events++
	if l.stopAt > 0 && l.events >= l.stopAt {
		return query.ErrStop
	}
	return l.fail
}

func (l *lister) Flush() ([]byte, error) {
	text := l.text
	l.text, l.events = nil, 0
	return text, nil
}

func openLogs(t testing.TB, path string) *Logs {
	t.Helper()
	in := Input{Path: path, Notes: io.Discard}
	logs, err := in.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(logs.Close)
	return logs
}

// bigLog is a log of many batches.
func bigLog(t testing.TB, times int) (path string, text []byte) {
	t.Helper()
	one, err := os.ReadFile(testLogs + "kernel-node.log")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "big.log")
	if err := os.WriteFile(path, bytes.Repeat(one, times), 0o600); err != nil {
		t.Fatal(err)
	}
	want, _ := rawOf(t, Config{Workers: 1}, bytes.NewReader(bytes.Repeat(one, times)))
	return path, []byte(want)
}

func TestScanDelivers(t *testing.T) {
	path, want := bigLog(t, 20)
	for _, n := range []int{1, 2, 7} {
		var got []byte
		err := Scan(t.Context(), openLogs(t, path), Config{Workers: n}, func() (Worker[[]byte], error) { return &lister{}, nil },
			func(text []byte) error { got = append(got, text...); return nil })
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d workers: %v, %d bytes of %d", n, err, len(got), len(want))
		}
		// Sums: no deliver, one worker each.
		var all []*lister
		err = Scan(t.Context(), openLogs(t, path), Config{Workers: n}, func() (Worker[[]byte], error) {
			all = append(all, &lister{})
			return all[len(all)-1], nil
		}, nil)
		size := 0
		for _, l := range all {
			size += len(l.text)
		}
		if err != nil || len(all) != n || size != len(want) {
			t.Errorf("%d workers without deliver: %v, %d made, %d bytes of %d", n, err, len(all), size, len(want))
		}
	}
}

func TestScanQuery(t *testing.T) {
	path, _ := bigLog(t, 1)
	q := &query.Query{Terms: []query.Term{{Fields: []query.Field{query.FieldKey}, Op: query.OpContains, Text: "opens"}}}
	var got []byte
	err := Scan(t.Context(), openLogs(t, path), Config{Query: q}, func() (Worker[[]byte], error) { return &lister{}, nil },
		func(text []byte) error { got = append(got, text...); return nil })
	var want []byte
	for _, ev := range eventtest.Read(t, path) {
		if query.NewMatcher(q).Match(ev) {
			for i := range ev.Records {
				want = append(append(want, ev.Records[i].Raw...), '\n')
			}
		}
	}
	if err != nil || !bytes.Equal(got, want) || len(want) == 0 {
		t.Errorf("%v, %d bytes of %d", err, len(got), len(want))
	}
}

func TestScanStops(t *testing.T) {
	defer goleak.VerifyNone(t)
	path, want := bigLog(t, 20)
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var delivered atomic.Int32
	for name, c := range map[string]struct {
		ctx     context.Context
		worker  lister
		deliver error
		want    error
	}{
		"worker stops":  {t.Context(), lister{stopAt: 1}, nil, nil},
		"worker fails":  {t.Context(), lister{fail: broken}, nil, broken},
		"deliver stops": {t.Context(), lister{}, query.ErrStop, nil},
		"deliver fails": {t.Context(), lister{}, broken, broken},
		"cancelled":     {cancelled, lister{}, nil, context.Canceled},
	} {
		delivered.Store(0)
		var got []byte
		err := Scan(c.ctx, openLogs(t, path), Config{Workers: 3}, func() (Worker[[]byte], error) { w := c.worker; return &w, nil },
			func(text []byte) error { delivered.Add(1); got = append(got, text...); return c.deliver })
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if delivered.Load() > 1 || !bytes.HasPrefix(want, got) {
			t.Errorf("%s: %d deliveries, %d bytes", name, delivered.Load(), len(got))
		}
		if name == "worker stops" && len(got) == 0 {
			t.Errorf("%s: what was found before is lost", name)
		}
	}
}
