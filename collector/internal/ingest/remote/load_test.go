package remote

import (
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/poll"
)

// What a connection is, by what it sends and how many there are.
func TestLoad(t *testing.T) {
	t.Parallel()
	type turn struct {
		after           time.Duration
		frames, useless int
		more            bool
	}
	often := func(n int, x turn) (out []turn) {
		for range n {
			out = append(out, x)
		}
		return out
	}
	for name, c := range map[string]struct {
		of    int
		turns []turn
		want  poll.Class
	}{
		"a first record":                        {9000, []turn{{0, 1, 0, false}}, poll.Light},
		"a first burst":                         {9000, []turn{{0, 8, 0, false}}, poll.Fresh},
		"a first flood":                         {9000, []turn{{0, 9, 0, false}}, poll.Heavy},
		"a first heartbeat":                     {9000, []turn{{0, 1, 1, false}}, poll.Heavy},
		"a part of a frame":                     {9000, []turn{{0, 0, 0, false}}, poll.Heavy},
		"one of a few that had a second":        {20, []turn{{time.Second, 1000, 0, false}}, poll.Light},
		"ten records a second":                  {9000, often(100, turn{100 * time.Millisecond, 1, 0, false}), poll.Light},
		"a heartbeat a second":                  {9000, often(100, turn{time.Second, 1, 1, false}), poll.Heavy},
		"a heartbeat a minute, records between": {9000, append(often(9, turn{time.Minute, 1, 1, false}), turn{time.Second, 1, 0, false}), poll.Light},
		"a hundred records a second":            {9000, often(100, turn{10 * time.Millisecond, 1, 0, false}), poll.Heavy},
		"the same among few":                    {20, append([]turn{{time.Second, 1, 0, false}}, often(100, turn{10 * time.Millisecond, 1, 0, false})...), poll.Light},
		"a byte at a time":                      {9000, often(100, turn{200 * time.Millisecond, 0, 0, false}), poll.Heavy},
		"more than a light turn takes":          {9000, []turn{{time.Second, 1, 0, false}, {time.Second, 3, 0, true}}, poll.Heavy},
		"that was heavy and rests":              {9000, []turn{{0, 500, 0, false}, {2 * time.Second, 1, 0, false}}, poll.Light},
		"that was heavy and rests a moment":     {9000, []turn{{0, 500, 0, false}, {300 * time.Millisecond, 1, 0, false}}, poll.Heavy},
		"a clock that goes back":                {9000, []turn{{time.Second, 1, 0, false}, {-time.Hour, 1, 0, false}, {time.Second, 1, 0, false}}, poll.Light},
	} {
		now := time.Unix(1_700_000_000, 0)
		l := newLoad(now)
		for _, x := range c.turns {
			now = now.Add(x.after)
			l.turn(x.frames, x.useless, x.more, c.of, now)
		}
		if l.class != c.want {
			t.Errorf("%s: class %d, want %d; spare %v", name, l.class, c.want, l.spare)
		}
	}
}
