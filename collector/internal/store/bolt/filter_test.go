package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// What no event of a day has is said by the day's filter, and what is there never is.
func TestCompactFilter(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: made(t, 4), now: later})
	compactAll(t, s)
	var serial uint64
	for _, p := range s.parts {
		if v := p.now(); v.compacted != nil && len(v.entries) > 0 {
			q := &query.Query{StartMs: v.entries[0].sum.MinMs, EndMs: v.entries[0].sum.MaxMs}
			must(t, scanAll(s, q, func(ev *event.Event) { serial = ev.Serial }))
		}
	}
	for _, c := range []struct {
		name string
		q    *query.Query
		yes  bool
	}{
		{"a program", exe(query.OpEqual, "/usr/bin/sudo"), true},
		{"no program", exe(query.OpEqual, "/opt/needle"), false},
		{"a part of a program", exe(query.OpContains, "bin/sud"), true},
		{"a part of none", exe(query.OpContains, "/opt/needle"), false},
		{"a short part of none", exe(query.OpContains, "zq"), false},
		{"an expression for a program", exe(query.OpRegexp, `^/usr/(s?)bin/sudo+$`), true},
		{"an expression for none", exe(query.OpRegexp, `^/usr/(s?)bin/needle+$`), false},
		{"an expression that says little", exe(query.OpRegexp, `needle|haystack`), true},
		{"a serial", &query.Query{HasSerial: true, Serial: serial}, true},
		{"no serial", &query.Query{HasSerial: true, Serial: 4_000_000_000}, false},
	} {
		conds := store.ConditionsOf(c.q)
		asked := 0
		for _, p := range s.parts {
			v := p.now()
			a := v.filter(c.q, conds)
			if a == nil || len(v.entries) == 0 {
				continue
			}
			asked++
			if a.may(p, c.q, conds) != c.yes {
				t.Errorf("%s: a day may have it: %v", c.name, !c.yes)
			}
		}
		if asked != 1 {
			t.Errorf("%s: %d days were asked", c.name, asked)
		}
	}
}

func exe(op query.Op, text string) *query.Query {
	return &query.Query{Terms: []query.Term{{Fields: []query.Field{query.FieldExe}, Op: op, Text: text}}}
}

func scanAll(s *Store, q *query.Query, fn func(ev *event.Event)) error {
	sn, err := s.Snapshot(context.Background())
	if err != nil {
		return err
	}
	defer sn.Close()
	return sn.Scan(context.Background(), q, func(ev *event.Event) error {
		fn(ev)
		return nil
	})
}

// oddEvents have values of which index and filter could think otherwise: in hex, with bytes of any kind, of one byte and of none, long ones, and some that are
// in no field of their own.
func oddEvents(rng *rand.Rand, n int) (all []*event.Event) {
	text := func() []byte {
		b := make([]byte, rng.IntN(12))
		if rng.IntN(20) == 0 {
			b = make([]byte, 3000)
		}
		for i := range b {
			if b[i] = byte('a' + rng.IntN(4)); rng.IntN(5) == 0 {
				b[i] = byte(rng.IntN(256))
			}
		}
		return b
	}
	for i := range n {
		at := fmt.Sprintf("msg=audit(%d.%03d:%d):", storetest.Start.Unix()+int64(i), i%1000, 100+rng.IntN(1<<rng.IntN(31)))
		lines := []string{
			fmt.Sprintf("type=SYSCALL %s arch=c000003e syscall=2 success=yes exit=3 pid=%d auid=0 uid=0 comm=%X exe=%X key=%X", at, rng.IntN(1000), text(), text(), text()),
			fmt.Sprintf("type=CWD %s cwd=%X", at, text()),
			fmt.Sprintf("type=PATH %s item=0 name=%X inode=1", at, text()),
			fmt.Sprintf("type=PATH %s item=1 name=%q inode=1", at, "/srv/"+fmt.Sprint(rng.IntN(500))),
			fmt.Sprintf("type=PROCTITLE %s proctitle=%X", at, text()),
		}
		if rng.IntN(3) == 0 {
			lines = []string{fmt.Sprintf("type=USER_LOGIN %s pid=1 uid=0 auid=0 ses=1 msg='op=login acct=%X exe=%X hostname=%d.example.net addr=? terminal=ssh res=success'", at, text(), text(), rng.IntN(50))}
		}
		all = append(all, storetest.Parse("odd", lines...))
	}
	return all
}

// However short, long or odd what is asked for, a compacted store finds what reading every event finds.
func TestFilterHidesNothing(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := open(t, Options{Dir: t.TempDir(), now: later})
	tab := store.NewTable()
	for _, ev := range oddEvents(rng, need.Size(400, 100)) {
		tab.Add("odd", ev)
	}
	must(t, s.Append(context.Background(), &store.Batch{ID: 1, Day: store.DayOf(storetest.Start), Events: tab, LSN: 1}))
	must(t, s.Rotate(context.Background()))
	if n := compactAll(t, s); n == 0 {
		t.Fatal("nothing was compacted")
	}
	var all []*event.Event
	var values [query.NumIndexed][][]byte
	var x query.Extractor
	must(t, scanAll(s, &query.Query{}, func(ev *event.Event) {
		ev = store.CloneEvent(ev)
		all = append(all, ev)
		x.Index(ev, func(f query.Field, v []byte) { values[f] = append(values[f], bytes.Clone(v)) })
	}))
	fields := []query.Field{query.FieldKey, query.FieldComm, query.FieldExe, query.FieldFile, query.FieldHost, query.FieldAcct, query.FieldTerminal}
	found, hidden := 0, 0
	for i := range need.Size(4000, 300) {
		f := fields[rng.IntN(len(fields))]
		v := values[f][rng.IntN(len(values[f]))]
		from := rng.IntN(len(v) + 1)
		part := bytes.Clone(v[from : from+rng.IntN(min(len(v)-from, 20)+1)])
		if len(part) > 0 && rng.IntN(2) == 0 {
			part[rng.IntN(len(part))] ^= byte(1 << rng.IntN(8))
		}
		q := &query.Query{Terms: []query.Term{{Fields: []query.Field{f}, Op: query.OpContains, Text: string(part)}}}
		switch rng.IntN(4) {
		case 0:
			q.Terms[0].Op = query.OpEqual
		case 1:
			q.Terms[0].Op, q.Terms[0].Text = query.OpRegexp, fmt.Sprintf([]string{"%s", "^(?:%s)+", "x*%s", "(?i)%s", ".%s|nothing", "(%s){1,3}", "(%s){0,3}"}[rng.IntN(7)], regexp.QuoteMeta(string(part)))
		case 2:
			if rng.IntN(3) == 0 {
				q = &query.Query{HasSerial: true, Serial: all[rng.IntN(len(all))].Serial ^ uint64(rng.IntN(2))}
			}
			if rng.IntN(3) == 0 && len(part) > 0 && f != query.FieldFile && f != query.FieldHost {
				q.Filters = []query.Filter{{Field: &query.FieldTest{Name: f.String()}, Term: &query.Term{Fields: []query.Field{f}, Op: query.OpContains, Text: string(part)}}}
				q.Terms = nil
			}
		}
		if q.Check() != nil {
			continue // no expression
		}
		m := query.NewMatcher(q)
		var want, got []string
		for _, ev := range all {
			if m.Match(ev) {
				want = append(want, fmt.Sprint(ev.Ms, ev.Serial))
			}
		}
		must(t, scanAll(s, q, func(ev *event.Event) { got = append(got, fmt.Sprint(ev.Ms, ev.Serial)) }))
		slices.Sort(want)
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("question %d, %+v %+v (-every event +search):\n%.600s", i, q, q.Needs(), d)
		}
		found += len(want)
		for _, p := range s.parts {
			v := p.now()
			if a := v.filter(q, store.ConditionsOf(q)); a != nil && !a.may(p, q, store.ConditionsOf(q)) {
				hidden++
			}
		}
	}
	if found == 0 || hidden == 0 {
		t.Errorf("%d events were found, and the filter answered %d questions", found, hidden)
	}
}

// A copy of what can be read of a file has its filter, and verify says of one that is damaged or hides something that it is.
func TestFilterCopiedAndVerified(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: made(t, 4), now: later})
	compactAll(t, s)
	var path string
	var part store.Part
	for _, p := range s.parts {
		if v := p.now(); v.compacted != nil && len(v.entries) > 0 {
			path, part = p.path, p.part
		}
	}
	must(t, s.Close())
	from, err := raw.Open(path, part, true)
	must(t, err)
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	must(t, from.CopyTo(context.Background(), to, nil))
	must(t, from.Close())
	verify := func() (texts []string) {
		v, err := raw.NewVerifier(1)
		must(t, err)
		rep, err := v.Partition(context.Background(), to, part)
		must(t, errors.Join(err, v.Close()))
		for _, f := range rep.Findings {
			texts = append(texts, f.Err.Error())
		}
		return texts
	}
	if found := verify(); len(found) > 0 {
		t.Fatalf("the copy: %q", found)
	}
	filter := func(path string, change func([]byte)) (b []byte) {
		db, err := bbolt.Open(path, 0o600, nil)
		must(t, err)
		must(t, db.Update(func(tx *bbolt.Tx) error {
			bkt := tx.Bucket(layout.BucketFilter)
			b = bytes.Clone(bkt.Get(layout.KeyFilter))
			if change == nil {
				return nil
			}
			change(b)
			return bkt.Put(layout.KeyFilter, b)
		}))
		must(t, db.Close())
		return b
	}
	was := filter(path, nil)
	if !bytes.Equal(was, filter(to, nil)) || len(was) == 0 {
		t.Error("the copy has another filter, or none")
	}
	for name, c := range map[string]struct {
		change func(b []byte)
		want   string
	}{
		"a byte of a page":   {func(b []byte) { b[len(b)/2] ^= 1 }, "checksum of page"},
		"a byte of the head": {func(b []byte) { b[40] ^= 1 }, "checksum of a filter's head"},
		"another filter": {func(b []byte) {
			var w group.FilterBuilder
			copy(b, w.Bytes())
		}, "a filter"},
	} {
		filter(to, func(b []byte) {
			copy(b, was)
			c.change(b)
		})
		if found := verify(); len(found) != 1 || !strings.Contains(found[0], c.want) {
			t.Errorf("%s: %q", name, found)
		}
	}
}
