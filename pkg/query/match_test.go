package query

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
)

// values are those that a log's events can be searched by.
func values(events []*event.Event) (all [NumFields][]string) {
	var x Extractor
	for _, ev := range events {
		x.Extract(ev, func(f Field, v []byte) {
			if !slices.Contains(all[f], string(v)) {
				all[f] = append(all[f], string(v))
			}
		})
	}
	return all
}

// anyQuery is a query of one to three conditions, most of which some event meets.
func anyQuery(r *rand.Rand, all [NumFields][]string) *Query {
	q := &Query{}
	for range 1 + r.IntN(3) {
		f := Field(r.IntN(NumFields))
		t := Term{Fields: []Field{f}, Op: []Op{OpEqual, OpContains, OpRegexp}[r.IntN(3)], Text: "nowhere"}
		if list := all[f]; len(list) > 0 && r.IntN(20) > 0 {
			t.Text = list[r.IntN(len(list))]
			if t.Op != OpEqual && len(t.Text) > 2 {
				from := r.IntN(len(t.Text) - 1)
				t.Text = t.Text[from : from+1+r.IntN(len(t.Text)-from)]
			}
		}
		if t.Op == OpRegexp {
			// A piece of a value may be no UTF-8, of which there are no regular expressions.
			t.Text = regexp.QuoteMeta(strings.ToValidUTF8(t.Text, ""))
		}
		if f == FieldUID || f == FieldAUID {
			t.Op, t.Number, t.Fields = OpUser, t.Text, []Field{f, f.Name()}
		}
		if r.IntN(4) == 0 {
			q.Filters = append(q.Filters, Filter{Not: r.IntN(2) == 0, Term: &t})
			continue
		}
		q.Terms = append(q.Terms, t)
	}
	return q
}

// TestMatchIsPure checks that a Matcher's answer does not depend on the events
// it saw before, nor on its looking for the text first.
func TestMatchIsPure(t *testing.T) {
	events := append(eventtest.Read(t, testLogs+"types.log"), eventtest.Read(t, testLogs+"kernel-raw.log")...)
	all, r := values(events), rand.New(rand.NewPCG(need.Seed(t), 2))
	found := 0
	rounds := need.Size(300, 60)
	for range rounds {
		q := anyQuery(r, all)
		if err := q.Check(); err != nil {
			t.Fatal(err)
		}
		m, slow := NewMatcher(q), NewMatcher(q)
		slow.skim = nil
		for _, ev := range events {
			want := NewMatcher(q).Match(ev)
			if want {
				found++
			}
			if got := m.Match(ev); got != want {
				t.Fatalf("%+v: %v after other events, %v alone: %s", q, got, want, ev.Records[0].Raw)
			}
			if got := slow.Match(ev); got != want {
				t.Fatalf("%+v: %v without skimming, %v with: %s", q, got, want, ev.Records[0].Raw)
			}
		}
	}
	if found < 3*rounds {
		t.Errorf("%d found: that is hardly a test", found)
	}
}
