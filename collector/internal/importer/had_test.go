package importer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// slow is a head that lacks, so many times, what was acknowledged shortly before.
type slow struct {
	*head.Head
	behind int
	scans  int
	spans  []span
}

func (s *slow) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	s.scans++
	s.spans = append(s.spans, span{q.StartMs, q.EndMs})
	if s.behind == 0 {
		return s.Head.Scan(ctx, q, fn)
	}
	s.behind--
	n := 0
	err := s.Head.Scan(ctx, q, func(ev *event.Event) error {
		if n++; n > 3 { // it has some
			return nil
		}
		return fn(ev)
	})
	return errors.Join(err, head.ErrBehind)
}

// TestBehind: what the target does not find yet is not stored twice.
func TestBehind(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	path := write(t, filepath.Join(t.TempDir(), "log"), events(0, 100))
	wantSum(t, "first", c.imports("one", Config{}, path), 1, 300, 300)
	again := write(t, filepath.Join(t.TempDir(), "log"), events(0, 101))
	wantSum(t, "a target that is behind", c.imports("two", Config{Target: &slow{Head: c.Head, behind: mostLooks - 1}}, again), 1, 303, 3)
	last := write(t, filepath.Join(t.TempDir(), "log"), events(0, 102))
	target := &slow{Head: c.Head, behind: math.MaxInt}
	if sum, err := c.try(t.Context(), "three", Config{Target: target}, last); !errors.Is(err, head.ErrBehind) || sum.Stored != 0 || target.scans != mostLooks {
		t.Errorf("one that stays behind: %+v, %v, asked %d times", sum, err, target.scans)
	}
	if n := len(c.stored("web1")); n != 303 {
		t.Errorf("%d records are stored", n)
	}
}

// TestOddStamps: records with odd stamps have only what lies about these read.
func TestOddStamps(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	text := events(0, 100) + "type=USER_END msg=audit(1.000:1): pid=1\ntype=USER_END msg=audit(4000000000.000:1): pid=1\n"
	wantSum(t, "first", c.imports("one", Config{}, write(t, filepath.Join(t.TempDir(), "log"), text)), 1, 302, 302)
	target := &slow{Head: c.Head}
	wantSum(t, "again", c.imports("two", Config{Target: target}, write(t, filepath.Join(t.TempDir(), "log"), events(100, 1)+text)), 1, 305, 3)
	if want := []span{{1000, 1000}, {1764000000000, 1764000010100}, {4000000000000, 4000000000000}}; !slices.Equal(target.spans, want) {
		t.Errorf("it reads %v, want %v", target.spans, want)
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	var far, near []int64
	for i := range int64(2 * mostRuns) {
		far = append(far, i*10*apart, i*10*apart+apart)
		near = append(near, i*apart)
	}
	far = append(far, 1e6*apart)
	slices.Reverse(far)
	got := runs(far)
	if len(got) != mostRuns || got[mostRuns-1] != (span{1e6 * apart, 1e6 * apart}) || got[0].from != 0 {
		t.Errorf("%d runs: %v", len(got), got)
	}
	for _, ms := range far {
		if !slices.ContainsFunc(got, func(x span) bool { return x.from <= ms && ms <= x.to }) {
			t.Errorf("%d is in none", ms)
		}
	}
	if got := runs(near); len(got) != 1 || got[0] != (span{0, (2*mostRuns - 1) * apart}) {
		t.Errorf("%v", got)
	}
}

// TestOtherLetters: a host in other letters is no other host.
func TestOtherLetters(t *testing.T) {
	t.Parallel()
	const rec = "type=USER_LOGIN msg=audit(1764000000.000:%d): pid=1\n"
	c := newCollector(t)
	both := func(name string, serials ...int) string {
		var b strings.Builder
		for _, s := range serials {
			fmt.Fprintf(&b, "node="+name+" "+rec, s)
		}
		return b.String()
	}
	c.once("first", both("Db1", 1, 2), 2, 2)
	c.once("in other letters", both("db1", 1, 2, 3)+both("DB1.", 2, 3, 4), 6, 4) // what a file has twice is there twice
	c.once("again", both("dB1", 1, 2, 2, 3, 3, 4), 6, 0)
	c.once("beside a pattern that is a name", both("db*", 1)+both("db1", 1, 1), 3, 2)
	if got := len(c.stored("Db1")); got != 7 {
		t.Errorf("%d records of Db1", got)
	}
}

// TestBeyondMaxHosts: of hosts that are not told apart only records that name them themselves are taken.
func TestBeyondMaxHosts(t *testing.T) {
	t.Parallel()
	c, dir := newCollector(t), t.TempDir()
	const rec = "type=USER_LOGIN msg=audit(1764000000.000:7): pid=1\n"
	named := write(t, filepath.Join(dir, "named"), "node=db1 "+rec+"node=db2 "+rec)
	wantSum(t, "named", c.imports("one", Config{Target: full{c.Head}}, named), 1, 2, 2)
	unnamed := write(t, filepath.Join(dir, "unnamed"), "node=db1 "+rec+rec+rec)
	for _, dry := range []bool{true, false} {
		if sum, err := c.try(t.Context(), "two", Config{Target: full{c.Head}, Dry: dry}, unnamed); !errors.Is(err, ErrHosts) || !strings.Contains(err.Error(), `"web1"`) || sum.Stored != 0 {
			t.Errorf("dry %v: %+v, %v", dry, sum, err)
		}
	}
	wantSum(t, "with max_hosts raised", c.imports("two", Config{}, unnamed), 1, 3, 2)
}
