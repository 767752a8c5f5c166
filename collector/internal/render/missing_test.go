package render

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// noEvents is a store in which nothing is found.
type noEvents struct {
	someEvents
	err error
}

func (noEvents) Scan(context.Context, *query.Query, func(*event.Event) error) error { return nil }

func (s noEvents) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	if s.err != nil && len(fields) > 0 {
		return nil, s.err
	}
	sum, err := s.someEvents.Tally(ctx, q, fields, rest)
	if len(fields) == 0 {
		sum.Events = 0
	}
	return sum, err
}

// A name that no record of the store has is said where nothing is found, by search and
// report alike, with the nearest one. Where it cannot be found out, nothing is said.
func TestMissing(t *testing.T) {
	all := events(t)
	for words, want := range map[string]string{
		"search -k kk":                          "has the key kk: did you mean k?",
		"search -k k":                           "",
		"search -n wbe1":                        "is of a host called wbe1: did you mean web1?",
		"search -n web1 -x /usr/bin/di":         "is of a program called /usr/bin/di: did you mean /usr/bin/id?",
		"search -c x":                           "",
		"search --count -c id3":                 "is of a command called id3: did you mean id?",
		"search -ul alcie":                      "is of the account alcie: did you mean alice?",
		"search -ul alice":                      "",
		"report --node wbe1":                    "is of a host called wbe1: did you mean web1?",
		"report -t --node wbe1":                 "is of a host called wbe1: did you mean web1?",
		"report --field key=kk -x":              "has the key kk: did you mean k?",
		"report --field key=kk -x --summary":    "has the key kk: did you mean k?",
		"report --field key=k -x --summary":     "",
		"report --by comm --field exe=/usr/bni": "is of a program called /usr/bni",
	} {
		for _, err := range []error{nil, query.ErrMemory, errors.New("a damaged store")} {
			args := strings.Fields(words)
			do := Text
			if args[0] == "report" {
				do = Summary
			}
			var out, errs strings.Builder
			if _, err := do(t.Context(), noEvents{all, err}, nil, args[1:], &out, &errs); err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(errs.String()) {
				if note, ok := strings.CutPrefix(line, "NOTE - no record "); ok {
					got = append(got, strings.TrimSuffix(note, "\n"))
				}
			}
			want := want
			if err != nil {
				want = ""
			}
			if d := cmp.Diff(want, strings.Join(got, "\n")); d != "" {
				t.Errorf("%s, %v: %s", words, err, d)
			}
		}
	}
}

// A name that no host has, and that records claim which are kept under another's, is found by
// --mismatch only: the note says so.
func TestClaimed(t *testing.T) {
	all := events(t)
	for _, ev := range all {
		ev.Node = []byte("10.0.0.9") // where they came from; their records say web1
	}
	for words, want := range map[string]bool{"search -n web1": true, "search -n web9": false, "report -t --node web1": true, "search -n 'web*' -k none": true} {
		args := strings.Fields(strings.ReplaceAll(words, "'", ""))
		do := Text
		if args[0] == "report" {
			do = Summary
		}
		var out, errs strings.Builder
		if _, err := do(t.Context(), claimedEvents{noEvents{all, nil}}, nil, args[1:], &out, &errs); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(errs.String(), "some claim to be"); got != want || strings.Count(errs.String(), "NOTE") == 0 {
			t.Errorf("%s: %s", words, errs.String())
		}
	}
}

// A host that is not on the list, since it was forgotten or there are too many, has records.
func TestUnlisted(t *testing.T) {
	all := events(t)
	for words, missing := range map[string]bool{"search -n web1 -p 4711": false, "report -t --node web1 --field pid=4711": false, "search -n web9 -p 4711": true, "search -n web* -p 4711": false} {
		args := strings.Fields(words)
		do := Text
		if args[0] == "report" {
			do = Summary
		}
		var out, errs strings.Builder
		if _, err := do(t.Context(), claimedEvents{noEvents{all, nil}}, nil, args[1:], &out, &errs); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(errs.String(), "NOTE"); got != missing {
			t.Errorf("%s: %q", words, errs.String())
		}
	}
}

// claimedEvents is a store without a host.
type claimedEvents struct{ noEvents }

func (s noEvents) Coverage(context.Context, *fleet.CoverageRequest, func(*fleet.Coverage) error) error {
	return nil
}

func (claimedEvents) Hosts(context.Context) ([]*fleet.Host, error) { return nil, nil }

func (s noEvents) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	return s.Scan(ctx, q, func(ev *event.Event) error { return fn(oneText{ev}) })
}

// pastEvents is a store whose newest events are many, and have no names: those that have some are of before. It counts the events of before that were
// asked for as a whole.
type pastEvents struct {
	someEvents
	whole *int
}

// Scan finds what asks for a name, and nothing for all other questions.
func (s pastEvents) Scan(_ context.Context, q *query.Query, fn func(*event.Event) error) error {
	m := query.NewMatcher(q)
	for _, ev := range s.someEvents {
		if q.Limit == 1 && len(q.Filters) == 1 && m.Match(ev) {
			return fn(ev)
		}
	}
	return nil
}

func (pastEvents) ScanText(context.Context, *query.Query, func(query.Texts) error) error { return nil }

func (s pastEvents) Tally(_ context.Context, q *query.Query, fields []query.Field, _ func(*event.Event) error) (*query.Tally, error) {
	sum := query.NewTally(fields, nil)
	if len(fields) > 0 && q.StartMs == 0 {
		*s.whole++
	}
	if len(fields) > 0 {
		sum.Events = missingEvents
	}
	return sum, nil
}

// Whether a name is there is told by the whole store, and which is the nearest one by its newest events: a store of years is not read for it.
func TestMissingInThePast(t *testing.T) {
	all := events(t)
	for words, want := range map[string]string{
		"-k kk": "has the key kk\n", "-k k -p 4711": "", "-x /usr/bin/id -p 4711": "", "-x /usr/bin/di": "is of a program called /usr/bin/di\n", "-c id -c x": "",
		"-ul alcie": "is of the account alcie\n", "-ul alice -p 4711": "",
	} {
		whole := 0
		var out, errs strings.Builder
		if _, err := Text(t.Context(), pastEvents{all, &whole}, nil, strings.Fields(words), &out, &errs); err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(errs.String(), "NOTE - no record ")
		if got != want || whole > 0 {
			t.Errorf("%s: %q, want %q; all events were counted %d times", words, errs.String(), want, whole)
		}
	}
}
