package cli

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/internal/need"
)

// TestSeveralAreOne asks the same of one collector that has a log, and of three that have it together: what
// `--also` answers is byte for byte what one would. A host sends to one of the three for a while, and then to
// another; where it changes, both have some events.
func TestSeveralAreOne(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	seed := need.Seed(t)
	logs := sameLogs(t, seed)
	names := slices.Sorted(maps.Keys(logs))
	asked, found, told := 0, 0, map[string]bool{}
	for i, name := range names {
		for j, way := range sameWays {
			if i%len(sameWays) != j || testing.Short() && i%4 != 0 {
				continue
			}
			r := rand.New(rand.NewPCG(seed, uint64(2000*i+j)))
			l := way.make(r, logs[name], logs[names[r.IntN(len(names))]]).sprinkled(r)
			if len(l.sent) == 0 {
				continue
			}
			one, three := openSeveral(t, r, l, divided(r, l))
			questions := questionsOf(t, r, l)
			for k, q := range questions {
				if testing.Short() && k%4 != i/4%4 {
					continue
				}
				want, got := ofSource(q, one), ofSource(q, three)
				asked++
				if want.code == 0 && want.out != "" {
					found++
				}
				if diff := differs(want, got, true); diff != "" && !told[q.kind()] {
					told[q.kind()] = true
					t.Errorf("%s, %s: %q (-one +three):\n%.1500s", name, way.name, q.words(), diff)
				}
				if len(told) > 12 {
					t.Fatal("too many differences")
				}
			}
			if m := three.Missing(); m != nil {
				t.Fatal(m)
			}
		}
	}
	t.Logf("compared %d answers, %d with events", asked, found)
	if found < asked/4 {
		t.Errorf("only %d of %d answers had anything: they show little", found, asked)
	}
}

// TestSeveralTorn has events of which one collector has the beginning and another one the rest, or all.
func TestSeveralTorn(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	seed := need.Seed(t)
	for name, log := range sameLogs(t, seed) {
		if testing.Short() && !strings.HasPrefix(name, "made") {
			continue
		}
		r := rand.New(rand.NewPCG(seed, uint64(len(log))))
		l := spaced(hostOf(log, 0, "web1", false), nil)
		parts := make([][]sentLine, 3)
		tears, before := map[int]int{}, map[int]int{} // of each event: behind which line, and how many there were
		for _, s := range l.sent {
			if _, ok := tears[s.event]; !ok {
				tears[s.event] = 1 + r.IntN(4)
			}
			first, n := (s.event%3+3)%3, before[s.event]
			before[s.event]++
			at := first
			if n >= tears[s.event] {
				at = (first + 1) % 3
			}
			parts[at] = append(parts[at], s)
			if n == tears[s.event] && s.event%2 == 0 { // both have it
				parts[first] = append(parts[first], s)
			}
		}
		one, three := openSeveral(t, r, l, parts)
		for _, words := range [][]string{{"-r"}, {"-r", "--reverse"}, {"--format", "csv"}, {"--just-one"}, {"--limit", "7", "-r"}, {"--count"}} {
			q := question{command: "search", parts: [][]string{{"-n", "web1"}, words}}
			if diff := differs(ofSource(q, one), ofSource(q, three), true); diff != "" {
				t.Fatalf("%s: %q (-one +three):\n%.3000s", name, words, diff)
			}
		}
		if len(l.sent) == 0 {
			continue
		}
		if diff := differs(ofSource(question{command: "report", parts: [][]string{{"--summary"}}}, one), ofSource(question{command: "report", parts: [][]string{{"--summary"}}}, three), true); diff != "" {
			t.Fatalf("%s: report (-one +three):\n%.3000s", name, diff)
		}
	}
}

// ofSource is asked, without what only the time of receipt makes different.
func ofSource(q question, src api.Source) answer {
	a := asked(q.words(), "", src)
	a.out = ofStore.ReplaceAllString(a.out, "")
	return a
}

// divided gives the events of a log to three collectors: each host's by turns, some to two.
func divided(r *rand.Rand, l *sameLog) [][]sentLine {
	parts := make([][]sentLine, 3)
	at, last := map[int]int{}, map[int]int{}
	of := map[int][]int{}
	for _, s := range l.sent {
		if of[s.event] == nil {
			of[s.event] = []int{at[s.host]}
			if r.IntN(12) == 0 {
				last[s.host], at[s.host] = at[s.host], r.IntN(3)
			}
			if to := last[s.host]; to != of[s.event][0] && r.IntN(3) == 0 {
				of[s.event] = append(of[s.event], to)
			}
		}
		for _, p := range of[s.event] {
			parts[p] = append(parts[p], s)
		}
	}
	return parts
}

// openSeveral feeds a log to one collector, and its parts to others.
func openSeveral(t *testing.T, r *rand.Rand, l *sameLog, parts [][]sentLine) (one several.Collector, three *several.Source) {
	t.Helper()
	dir := t.TempDir()
	fed := func(name string, lines []sentLine) several.Collector {
		st := openSame(t, r.Uint64(), filepath.Join(dir, name), l.unnamed)
		if len(lines) > 0 {
			st.feed(lines)
		}
		st.close()
		return st.ended().(several.Collector)
	}
	one = fed("one", l.sent)
	var members []several.Member
	for i, part := range parts {
		name := fmt.Sprint("part", i)
		c := fed(name, part)
		members = append(members, several.Member{Name: name, Open: func(context.Context) (several.Collector, error) { return keptOpen{c}, nil }})
	}
	three, err := several.Open(t.Context(), members, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return one, three
}

// keptOpen is a collector that openSame closes.
type keptOpen struct{ several.Collector }

func (keptOpen) Close() error { return nil }
