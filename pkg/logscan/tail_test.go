package logscan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// followed is a Follow of a log, in a bubble whose clock stands while files are
// written: after step it has read all there is.
type followed struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan error

	mu      sync.Mutex // guards what follows
	serials []uint64   // of the events that came since the last got
	records []int      // how many each had
	skipped []string
}

func follow(t *testing.T, path string, timeout time.Duration, q *query.Query) *followed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &followed{t: t, cancel: cancel, done: make(chan error, 1)}
	src := &Source{Input: Input{LogFile: path, Logs: true}, EOETimeout: timeout, Skipped: f.skip}
	go func() { f.done <- src.Follow(ctx, q, f.event, nil) }()
	synctest.Wait()
	return f
}

func (f *followed) skip(line []byte, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skipped = append(f.skipped, string(line))
}

// event checks that a login is as it was written, and keeps what tells events apart.
func (f *followed) event(ev *event.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if raw := string(ev.Records[0].Raw) + "\n"; ev.Serial != 0 && strings.Contains(raw, "USER_LOGIN") && raw != login(int(ev.Serial)) {
		f.t.Errorf("event %d is %q", ev.Serial, raw)
	}
	f.serials, f.records = append(f.serials, ev.Serial), append(f.records, len(ev.Records))
	return nil
}

// step lets the log be looked at twice: a rotated file is left in one look, and the
// next one read in the other.
func (f *followed) step() {
	time.Sleep(2*pollEvery + pollEvery/2)
	synctest.Wait()
}

// got checks the serials that came since the last time.
func (f *followed) got(what string, want ...uint64) {
	f.t.Helper()
	f.step()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.serials, want) {
		f.t.Errorf("%s: events %d, want %d", what, f.serials, want)
	}
	f.serials, f.records = nil, nil
}

// end ends the following, and checks that it went on until then.
func (f *followed) end() {
	f.t.Helper()
	select {
	case err := <-f.done:
		f.t.Fatalf("it ended by itself: %v", err)
	default:
	}
	f.cancel()
	if err := <-f.done; !errors.Is(err, context.Canceled) {
		f.t.Errorf("ended with %v", err)
	}
}

// login is a record that is an event by itself, of second 1700000000 + serial.
func login(serial int) string {
	return fmt.Sprintf("type=USER_LOGIN msg=audit(%d.000:%d): pid=1 uid=0 res=success\n", 1700000000+serial, serial)
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// A growing log: only what is written later comes, each line once, when its end is
// there; an event of several records when it ends or no more comes for it.
func TestFollowGrowth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	appendTo(t, path, login(1))
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, path, time.Second, &query.Query{})
		f.got("what was there before")
		appendTo(t, path, login(2)+login(3))
		f.got("two lines", 2, 3)
		line := login(4)
		appendTo(t, path, line[:20])
		f.got("a line's beginning")
		appendTo(t, path, line[20:50])
		f.got("its middle")
		appendTo(t, path, line[50:]+"no record\n\n"+login(5))
		f.got("its end, and one behind a damaged line", 4, 5)
		f.mu.Lock()
		if d := cmp.Diff([]string{"no record"}, f.skipped); d != "" {
			t.Error(d)
		}
		f.mu.Unlock()

		const stamp = "msg=audit(1700000009.000:9): "
		appendTo(t, path, "type=SYSCALL "+stamp+"a\ntype=CWD "+stamp+"b\n")
		f.got("an event that goes on")
		appendTo(t, path, "type=EOE "+stamp+"\n")
		f.got("its end", 9)
		appendTo(t, path, "type=SYSCALL msg=audit(1700000010.000:10): a\ntype=CWD msg=audit(1700000010.000:10): b\n")
		f.got("another one without an end")
		time.Sleep(time.Second)
		f.step()
		f.mu.Lock()
		if !slices.Equal(f.records, []int{2}) {
			t.Errorf("events of %d records, want one of 2", f.records)
		}
		f.mu.Unlock()
		f.got("late", 10)
		f.end()
	})
}

// A log that is renamed: what was still written to it comes, then the new one's.
func TestFollowRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	appendTo(t, path, "")
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, path, 0, &query.Query{})
		appendTo(t, path, login(1))
		f.got("before", 1)

		rename(t, path, path+".1")
		f.got("no new one yet")
		appendTo(t, path+".1", login(2))
		f.got("the renamed one goes on", 2)
		appendTo(t, path+".1", login(3)+"type=USER_LOGIN msg=audit(170")
		appendTo(t, path, login(4))
		// The cut line has a second, 170, and so a place in time.
		f.got("the last two of the old one and the first of the new one", 3, 0, 4)

		// Twice between two looks: the one in between is audit.log.1.
		rename(t, path+".1", path+".2")
		appendTo(t, path, login(5))
		rename(t, path, path+".1")
		appendTo(t, path, login(6))
		rename(t, path+".2", path+".3")
		rename(t, path+".1", path+".2")
		rename(t, path, path+".1")
		appendTo(t, path, login(7))
		now := time.Unix(1800000000, 0)
		for i, name := range []string{path + ".3", path + ".2", path + ".1", path} {
			if err := os.Chtimes(name, now, now.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		f.got("two rotations at once", 5, 6, 7)
		appendTo(t, path, login(8))
		f.got("the present one", 8)
		f.end()
	})
}

// A log that is removed, emptied, or that comes back later is read from its beginning.
// A rotated one that was there before it is not read then.
func TestFollowRemovedAndEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	appendTo(t, path, login(1)+login(2))
	appendTo(t, path+".1", login(99))
	if err := os.Chtimes(path+".1", time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, path, 0, &query.Query{})
		appendTo(t, path, login(3)+"type=USER_LOGIN msg=aud")
		f.got("growth", 3)
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		f.got("emptied")
		appendTo(t, path, login(4))
		f.got("written again", 4)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		f.got("removed")
		appendTo(t, path, login(5))
		f.got("made again", 5)
		f.end()
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	src := &Source{Input: Input{LogFile: path, Logs: true}}
	err := src.Follow(t.Context(), &query.Query{}, nil, nil)
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "Error opening "+path) {
		t.Errorf("of a log that is not there: %v", err)
	}
	src.Input = Input{Path: path}
	if err := src.Follow(t.Context(), &query.Query{}, nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a path that is not there: %v", err)
	}
}

// With a start the older logs come first, within the times that are asked for.
func TestFollowFromStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	appendTo(t, path+".2", login(1)+login(2))
	appendTo(t, path+".1", login(3)+"type=USER_LOGIN msg=audit(17") // cut off
	appendTo(t, path, login(4))
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, path, 0, &query.Query{StartMs: 1700000002000, EndMs: 1700000005000})
		f.got("from the start", 2, 3, 4)
		appendTo(t, path, login(5)+login(6)+login(1))
		f.got("until the end", 5)
		f.end()
	})
	// An older one that cannot be read ends it.
	if err := os.Mkdir(path+".3", 0o700); err != nil {
		t.Fatal(err)
	}
	src := &Source{Input: Input{LogFile: path, Logs: true}}
	err := src.Follow(t.Context(), &query.Query{StartMs: 1}, func(*event.Event) error { return nil }, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "read log: ") {
		t.Errorf("of a folder: %v", err)
	}
}

// fn ends the following: with its error, or where the query has a limit without one.
func TestFollowEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	appendTo(t, path, login(1)+login(2)+login(3))
	appendTo(t, path+".1", "")
	broken := errors.New("broken")
	for _, c := range []struct {
		limit uint64
		fail  error
		want  error
		n     int
	}{{2, nil, nil, 2}, {0, broken, broken, 1}, {0, query.ErrStop, nil, 1}} {
		n := 0
		src := &Source{Input: Input{LogFile: path, Logs: true}}
		err := src.Follow(t.Context(), &query.Query{StartMs: 1, Limit: c.limit}, func(*event.Event) error { n++; return c.fail }, nil)
		if !errors.Is(err, c.want) || n != c.n {
			t.Errorf("%+v: %d events, %v", c, n, err)
		}
	}
	// Also when an event is complete only because nothing comes for it.
	appendTo(t, path+".1", "type=SYSCALL msg=audit(1700000000.000:1): a\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		src := &Source{Input: Input{LogFile: path, Logs: true}}
		if err := src.Follow(t.Context(), &query.Query{StartMs: 1}, func(*event.Event) error { return broken }, nil); !errors.Is(err, broken) {
			t.Errorf("when late: %v", err)
		}
	})
}

// An overlong line is cut to what the stock tool takes of it, however it comes, and
// what follows it is read.
func TestFollowLongLine(t *testing.T) {
	long := "type=USER_LOGIN msg=audit(1700000001.000:1): " + strings.Repeat("x", 3*streamPiece)
	for _, step := range []int{100, maxLine - 1, maxLine, maxLine + 1, streamPiece, 3 * streamPiece} {
		var got []string
		tl := newTail(t.Context(), 0, &query.Query{}, func(ev *event.Event) error {
			got = append(got, string(ev.Records[0].Raw))
			return nil
		})
		told := 0
		tl.skipped = func(line []byte, err error) {
			if told++; !errors.Is(err, errTooLong) || len(line) == 0 || strings.Trim(string(line), "x") != "" {
				t.Errorf("in steps of %d: told %v of %.50q", step, err, line)
			}
		}
		// Written step by step: each is read to its end before the next is there.
		for rest := long + "\n" + login(2); rest != ""; {
			n := min(step, len(rest))
			if err := tl.read(strings.NewReader(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if told != 1 {
			t.Errorf("in steps of %d: told %d times of the rest", step, told)
		}
		if len(got) != 2 || got[0] != long[:maxLine] || got[1]+"\n" != login(2) {
			t.Errorf("in steps of %d: %d lines", step, len(got))
		}
	}
}
