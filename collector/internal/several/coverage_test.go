package several

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// account is what a collector says of a host from one time to another.
func account(from, to int64, said int64, gaps ...*fleet.CoverageInterval) *fleet.Coverage {
	state := "complete"
	for _, x := range gaps {
		if x.GetState() != "complete" {
			state = x.GetState()
		}
	}
	return &fleet.Coverage{Host: []byte("h"), State: state, FromMs: from, ToMs: to, SaidMs: said, Intervals: gaps}
}

func gap(cause, state string, from, to int64, n uint64) *fleet.CoverageInterval {
	return &fleet.CoverageInterval{Cause: cause, State: state, FromMs: from, ToMs: to, Records: n}
}

// TestCoverage puts together what two collectors say of a host that went from one to the other and back.
func TestCoverage(t *testing.T) {
	for name, c := range map[string]struct {
		a, b *fleet.Coverage
		want string
	}{
		"away for a while": {account(0, 1000, 1000, gap("other-collector", "unknown", 400, 600, 9)), account(390, 900, 590, gap("silent", "unknown", 590, 900, 0)), "unknown 0: silent 590-600 0, other-collector 590-600 9"},
		"away, with both":  {account(0, 1000, 1000, gap("other-collector", "unknown", 400, 600, 9)), account(390, 1000, 610, gap("silent", "unknown", 610, 1000, 0)), "complete 0:"},
		"neither knows":    {account(0, 1000, 1000, gap("other-collector", "unknown", 400, 600, 9)), account(400, 1000, 700, gap("other-collector", "unknown", 400, 500, 3), gap("silent", "unknown", 700, 1000, 0)), "unknown 0: other-collector 400-500 9, other-collector 400-500 3"},
		"lost at the host": {account(0, 1000, 1000, gap("kernel", "lost", 400, 500, 7)), account(300, 1000, 600, gap("silent", "unknown", 600, 1000, 0)), "lost 7: kernel 400-500 7"},
		"dropped by one":   {account(0, 1000, 1000, gap("retention", "lost", 0, 300, 50)), account(100, 1000, 500, gap("silent", "unknown", 500, 1000, 0)), "lost 50: retention 0-100 50"},
		"a hole between":   {account(0, 300, 300), account(500, 1000, 1000), "unknown 0: nothing-said 300-500 0"},
		"off":              {account(0, 1000, 1000, gap("off", "complete", 100, 200, 0)), account(0, 1000, 900, gap("silent", "unknown", 900, 1000, 0)), "complete 0: off 100-200 0"},
	} {
		for _, order := range [][]*fake{{{cover: []*fleet.Coverage{c.a}}, {cover: []*fleet.Coverage{c.b}}}, {{cover: []*fleet.Coverage{c.b}}, {cover: []*fleet.Coverage{c.a}}}} {
			s := opened(t, order...)
			var got []string
			err := s.Coverage(t.Context(), &fleet.CoverageRequest{Intervals: true}, func(c *fleet.Coverage) error {
				var gaps []string
				for _, x := range c.GetIntervals() {
					gaps = append(gaps, fmt.Sprintf("%s %d-%d %d", x.GetCause(), x.GetFromMs(), x.GetToMs(), x.GetRecords()))
				}
				slices.SortFunc(gaps, func(a, b string) int { return -strings.Compare(a, b) })
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %d: %s", c.GetState(), c.GetLost(), strings.Join(gaps, ", "))))
				return nil
			})
			if d := cmp.Diff([]string{c.want}, got); err != nil || d != "" {
				t.Errorf("%s: %v (-want +got):\n%s", name, err, d)
			}
		}
	}
}

// TestUnheard leaves out that one collector has never heard of a host if another has.
func TestUnheard(t *testing.T) {
	known := account(0, 1000, 1000)
	for _, c := range []struct {
		a, b []*fleet.Coverage
		want string
	}{
		{[]*fleet.Coverage{known}, []*fleet.Coverage{{Host: []byte("h"), Unheard: true}}, "h false"},
		{[]*fleet.Coverage{{Host: []byte("h"), Unheard: true}}, []*fleet.Coverage{{Host: []byte("h"), Unheard: true}}, "h true"},
		{[]*fleet.Coverage{known}, []*fleet.Coverage{{Unheard: true}}, "h false"},
	} {
		s := opened(t, &fake{cover: c.a}, &fake{cover: c.b})
		var got []string
		err := s.Coverage(t.Context(), &fleet.CoverageRequest{}, func(c *fleet.Coverage) error {
			got = append(got, fmt.Sprintf("%s %v", c.GetHost(), c.GetUnheard()))
			return nil
		})
		if d := cmp.Diff([]string{c.want}, got); err != nil || d != "" {
			t.Errorf("%v (-want +got):\n%s", err, d)
		}
	}
}

// TestCoverageDamaged says that an answer lacks something where a collector's account is damaged.
func TestCoverageDamaged(t *testing.T) {
	s := opened(t, &fake{cover: []*fleet.Coverage{account(0, 1000, 1000)}}, &fake{cover: []*fleet.Coverage{account(0, 1000, 900)}, damaged: true})
	n := 0
	err := s.Coverage(t.Context(), &fleet.CoverageRequest{}, func(*fleet.Coverage) error { n++; return nil })
	if got := s.Missing(); err != nil || n != 1 || len(got) != 1 || got[0].Collector != "c2" || !errors.Is(got[0].Err, store.ErrDamaged) {
		t.Errorf("%v, %d answers, missing %v", err, n, got)
	}
}
