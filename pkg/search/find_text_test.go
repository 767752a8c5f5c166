package search

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// textLog is a log that gives its events as text, some at a time.
type textLog struct {
	*logscan.Source
	some int
	err  error // at its end
}

func (s *textLog) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	var some someTexts
	err := s.Scan(ctx, q, func(ev *event.Event) error {
		if some = append(some, ev); len(some) < s.some {
			return nil
		}
		give := some
		some = nil
		return fn(give)
	})
	if err == nil && len(some) > 0 {
		err = fn(some)
	}
	return errors.Join(err, s.err)
}

type someTexts []*event.Event

func (s someTexts) Len() int { return len(s) }

func (s someTexts) Open() error { return nil }

func (s someTexts) Done() {}

func (s someTexts) Event(i int, ev *event.Event) { *ev = *s[i] }

func (s someTexts) AppendRaw(dst []byte, i int) []byte {
	return output.NewFormatter(&output.Config{Format: output.FormatRaw}, nil).Append(dst, s[i])
}

// What is formatted by several goroutines is what one writes.
func TestFindText(t *testing.T) {
	var log strings.Builder
	for i := range need.Size(4000, 1200) {
		fmt.Fprintf(&log, "%s\n", strings.TrimSuffix(task(i, i, 1, fmt.Sprint("p", i%77)), "\n"))
	}
	plain := &logscan.Source{Input: logscan.Input{Path: writeLog(t, log.String())}}
	for _, format := range output.FormatNames() {
		for _, args := range [][]string{{"-sv", "yes"}, {"-p", "100"}, {"-p", "999999"}} {
			o, err := ParseArgs(append(args, "--format", format), utcEnv)
			if err != nil {
				t.Fatal(err)
			}
			find := func(src query.Source) (string, uint64) {
				var out strings.Builder
				w := output.NewWriter(&out, &o.Config, nil)
				found, err := Find(t.Context(), o, src, w, &out, nil)
				if err := errors.Join(err, w.Close()); err != nil {
					t.Fatal(err)
				}
				return out.String(), found
			}
			want, n := find(plain)
			if n == 0 != (args[1] == "999999") {
				t.Fatalf("%q: %d events", args, n)
			}
			for _, some := range []int{1, 7, 1000} {
				if got, found := find(&textLog{plain, some, nil}); got != want || found != n {
					t.Errorf("%q as %s, %d at a time: %d events, %d as text, in %d bytes, %d as text", args, format, some, n, found, len(want), len(got))
				}
			}
		}
	}
}

// What was found before an error is written; and a search ends when nobody takes what it finds.
func TestFindTextEnds(t *testing.T) {
	var log strings.Builder
	for i := range 2000 {
		log.WriteString(task(i, i, 1, "p"))
	}
	src := &textLog{&logscan.Source{Input: logscan.Input{Path: writeLog(t, log.String())}}, 10, io.ErrUnexpectedEOF}
	o, err := ParseArgs([]string{"-sv", "yes", "--raw"}, utcEnv)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	w := output.NewWriter(&out, &o.Config, nil)
	found, err := Find(t.Context(), o, src, w, &out, nil)
	if !errors.Is(err, io.ErrUnexpectedEOF) || found != 2000 {
		t.Errorf("%d events, %v", found, err)
	}
	if err := w.Close(); err != nil || out.String() != log.String() {
		t.Errorf("%d bytes of %d, %v", out.Len(), log.Len(), err)
	}
	src.err = nil
	if _, err := Find(t.Context(), o, src, output.NewWriter(noSpace{}, &o.Config, nil), io.Discard, nil); !errors.Is(err, errNoSpace) {
		t.Errorf("written nowhere: %v", err)
	}
}

var errNoSpace = errors.New("no space")

type noSpace struct{}

func (noSpace) Write([]byte) (int, error) { return 0, errNoSpace }
