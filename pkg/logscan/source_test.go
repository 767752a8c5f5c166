package logscan

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// serialsOf is what a scan finds.
func serialsOf(t *testing.T, s *Source, q *query.Query) (serials []uint64) {
	t.Helper()
	err := s.Scan(t.Context(), q, func(ev *event.Event) error {
		serials = append(serials, ev.Serial)
		return nil
	})
	if err != nil {
		t.Errorf("%+v: %v", q, err)
	}
	return serials
}

// A folder as a source: order, turned round or not, limits, times and ends.
func TestSourceScan(t *testing.T) {
	dir := t.TempDir()
	appendTo(t, filepath.Join(dir, "audit.log.1"), login(1)+"no record\n"+login(2))
	appendTo(t, filepath.Join(dir, "audit.log"), login(3)+login(4))
	var notes, skipped strings.Builder
	src := &Source{
		Input:   Input{Path: dir, Notes: &notes},
		Skipped: func(line []byte, _ error) { skipped.Write(line) },
	}
	for _, c := range []struct {
		q    query.Query
		want []uint64
	}{
		{query.Query{}, []uint64{1, 2, 3, 4}},
		{query.Query{Limit: 3}, []uint64{1, 2, 3}},
		{query.Query{Reverse: true}, []uint64{4, 3, 2, 1}},
		{query.Query{Reverse: true, Limit: 3}, []uint64{4, 3, 2}},
		{query.Query{StartMs: 1700000002000, EndMs: 1700000003000}, []uint64{2, 3}},
		{query.Query{Types: []uint32{1}}, nil},
	} {
		skipped.Reset()
		if d := cmp.Diff(c.want, serialsOf(t, src, &c.q)); d != "" {
			t.Errorf("%+v: %s", c.q, d)
		}
		if skipped.String() != "no record" {
			t.Errorf("%+v: skipped %q", c.q, skipped.String())
		}
	}
	if got := strings.Count(notes.String(), "NOTE"); got != 1 {
		t.Errorf("%d notes of the folder, want one for all scans: %q", got, notes.String())
	}

	broken := errors.New("broken")
	for _, q := range []*query.Query{{}, {Reverse: true}} {
		for fail, want := range map[error]error{broken: broken, query.ErrStop: nil} {
			n := 0
			if err := src.Scan(t.Context(), q, func(*event.Event) error { n++; return fail }); !errors.Is(err, want) || n != 1 {
				t.Errorf("%+v, fn fails with %v: %d events, %v", q, fail, n, err)
			}
		}
	}
	for _, q := range []*query.Query{{Batches: true}, {AfterBatch: 1}, {After: &query.Cursor{}}} {
		if err := src.Scan(t.Context(), q, nil); !errors.Is(err, errBatches) {
			t.Errorf("%+v: %v, want that logs have no batches", q, err)
		}
	}
	if about, err := src.About(t.Context()); about != (query.About{}) || err != nil {
		t.Errorf("about: %+v, %v", about, err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	if err := (&Source{Input: Input{Path: filepath.Join(dir, "none")}}).Scan(t.Context(), &query.Query{}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a path that is not there: %v", err)
	}
}

// Without fields a tally is how many events there are; with some, all are given.
func TestSourceTally(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	appendTo(t, path, login(1)+login(2)+login(3))
	src := &Source{Input: Input{Path: path}}
	for limit, want := range map[uint64]int64{0: 3, 2: 2} {
		sum, err := src.Tally(t.Context(), &query.Query{Limit: limit}, nil, nil)
		if err != nil || sum.Events != want {
			t.Errorf("limit %d: %d events, %v", limit, sum.Events, err)
		}
	}
	var given []uint64
	sum, err := src.Tally(t.Context(), &query.Query{}, []query.Field{query.FieldKey}, func(ev *event.Event) error {
		given = append(given, ev.Serial)
		return nil
	})
	if err != nil || sum.Events != 0 || !slices.Equal(given, []uint64{1, 2, 3}) {
		t.Errorf("with a field: %d counted, %d given, %v", sum.Events, given, err)
	}
}

// Standard input is there once; it is kept where it is scanned more than once.
func TestSourceAgain(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	r, w := pipeOf(t)
	if _, err := w.WriteString(login(1) + login(2)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	src := &Source{Input: Input{In: r}, Again: true}
	for range 3 {
		if got := serialsOf(t, src, &query.Query{}); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("events %d, want 1 and 2", got)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("the kept input has a name: %v, %v", left, err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}

	r, w = pipeOf(t)
	if _, err := w.WriteString(login(3)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	src = &Source{Input: Input{In: r}}
	if got := serialsOf(t, src, &query.Query{}); !slices.Equal(got, []uint64{3}) {
		t.Errorf("read once: %d", got)
	}
	if got := serialsOf(t, src, &query.Query{}); len(got) != 0 {
		t.Errorf("a pipe that was not kept gave %d again", got)
	}

	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	src = &Source{Input: Input{In: r}, Again: true}
	if err := src.Scan(t.Context(), &query.Query{}, nil); err == nil || !strings.HasPrefix(err.Error(), "keep the input to read it again: ") {
		t.Errorf("without a place to keep it: %v", err)
	}
}

// Which logs are read.
func TestInputFiles(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "audit.log")
	appendTo(t, log, "")
	appendTo(t, log+".1", "")
	r, _ := pipeOf(t)
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, c := range map[string]struct {
		in   Input
		want []string
	}{
		"a pipe":                     {Input{In: r, LogFile: log}, []string{Stdin}},
		"a pipe, but the local log":  {Input{In: r, LogFile: log, Logs: true}, []string{log + ".1", log}},
		"a file as input is no pipe": {Input{In: file, LogFile: log}, []string{log + ".1", log}},
		"no input":                   {Input{LogFile: log}, []string{log + ".1", log}},
		"one file":                   {Input{In: r, Path: log}, []string{log}},
		"a folder":                   {Input{In: r, Path: dir}, []string{log + ".1", log}},
	} {
		c.in.Notes = io.Discard
		if got, err := c.in.Files(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	in := Input{Path: filepath.Join(dir, "none")}
	_, err = in.Open()
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "stat: "+in.Path+": ") {
		t.Errorf("missing: %v", err)
	}
}
