package search

import (
	"errors"
	"math"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/output"
)

// bound is one end of the time searched, in seconds since the epoch, because the stock
// tool compares whole seconds.
type bound struct{ sec int64 }

var errNotAWord = errors.New("search: no word for a time")

// civil is a date and time of day without a time zone.
type civil struct {
	year, month, day int
	hour, min, sec   int
}

func civilOf(t time.Time) civil {
	return civil{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second()}
}

func (c civil) midnight() civil {
	c.hour, c.min, c.sec = 0, 0, 0
	return c
}

func (c civil) in(loc *time.Location) time.Time {
	return time.Date(c.year, time.Month(c.month), c.day, c.hour, c.min, c.sec, 0, loc)
}

// timeWords are the time words of ausearch(8), except for "checkpoint".
var timeWords = [...]string{"now", "recent", "this-hour", "boot", "today", "yesterday", "this-week", "week-ago", "this-month", "this-year"}

// checkpointWord asks to start at the time in the checkpoint file.
const checkpointWord = "checkpoint"

func isTimeWord(s string) bool {
	for _, w := range timeWords {
		if w == s {
			return true
		}
	}
	return false
}

// timeWord returns what a word stands for; exact says that it is a moment rather
// than the start of a day. Errors are errNotAWord or the clock's.
func (p *parser) timeWord(w string) (c civil, exact bool, err error) {
	now := p.env.Now
	day := func(n int) civil { return civilOf(now.Add(-time.Duration(n) * 24 * time.Hour)).midnight() }
	switch w {
	case "now":
		return civilOf(now), true, nil
	case "recent":
		return civilOf(now.Add(-10 * time.Minute)), true, nil
	case "this-hour":
		c = civilOf(now)
		c.min, c.sec = 0, 0
		return c, true, nil
	case "boot":
		up, err := p.env.Uptime()
		if err != nil {
			return c, false, err
		}
		return civilOf(now.Add(-time.Duration(math.Floor(up.Seconds()+0.5)) * time.Second)), true, nil
	case "today":
		return day(0), false, nil
	case "yesterday":
		return day(1), false, nil
	case "this-week": // weeks start on Sunday
		return day(int(now.Weekday())), false, nil
	case "week-ago":
		return day(7), false, nil
	case "this-month":
		c = day(0)
		c.day = 1
		return c, false, nil
	case "this-year":
		c = day(0)
		c.month, c.day = 1, 1
		return c, false, nil
	}
	return c, false, errNotAWord
}

// timeArgs returns the date and the time of day given with -ts or -te, in
// either order, stepping over them.
func (p *parser) timeArgs(which string) (date, clock string, err error) {
	first, ok := p.peek(1)
	if !ok {
		return "", "", usagef("%s requires either date and/or time", p.name)
	}
	if first == "" { // not the same as none
		return "", "", badDate(which, first)
	}
	second, two := p.peek(2)
	p.pos++
	if two {
		p.pos++
		if strings.Contains(first, ":") {
			return second, first, nil
		}
		return first, second, nil
	}
	if !isTimeWord(first) && strings.Contains(first, ":") {
		return "", first, nil
	}
	return first, "", nil
}

const midnight = "00:00:00"

func (p *parser) startTime() error {
	date, clock, err := p.timeArgs("start")
	if err != nil {
		return err
	}
	if date == checkpointWord && clock == "" {
		p.o.CheckpointTime = true
		return nil
	}
	if clock == "" {
		clock = midnight
	}
	c, exact, err := p.date("start", date)
	if err != nil {
		return err
	}
	if date == "" || !exact || clock != midnight {
		if err := c.setClock("start", clock); err != nil {
			return err
		}
	}
	p.start, err = p.bound("start", c)
	return err
}

func (p *parser) endTime() error {
	date, clock, err := p.timeArgs("end")
	if err != nil {
		return err
	}
	if isTimeWord(date) && clock == "" {
		clock = midnight
	}
	c, exact, err := p.date("end", date)
	if err != nil {
		return err
	}
	if date == "today" { // as an end it means now
		c, exact = civilOf(p.env.Now), true
	}
	switch {
	case clock == "":
		now := civilOf(p.env.Now)
		c.hour, c.min, c.sec = now.hour, now.min, now.sec
	case date != "" && exact && clock == midnight:
	default:
		if err := c.setClock("end", clock); err != nil {
			return err
		}
	}
	p.end, err = p.bound("end", c)
	return err
}

// date reads a date: a word, the locale's form, or today when there is none.
func (p *parser) date(which, s string) (c civil, exact bool, err error) {
	if s == "" {
		return civilOf(p.env.Now), false, nil
	}
	c, exact, err = p.timeWord(s)
	if err == nil {
		return c, exact, nil
	}
	if !errors.Is(err, errNotAWord) {
		return c, false, usagef("Can't read uptime (%v)", err)
	}
	rest, ok := "", false
	for _, layout := range [...]string{output.DateLayout(p.env.Locale), "%m/%d/%y"} {
		if c, rest, ok = scanDate(layout, s); ok {
			break
		}
	}
	switch {
	case !ok:
		return c, false, badDate(which, s)
	case rest != "":
		return c, false, usagef("Error parsing %s date (%s)", which, s)
	}
	return c, false, nil
}

func badDate(which, s string) error {
	return usagef("Invalid %s date (%s). Month, Day, and Year are required.", which, s)
}

func (c *civil) setClock(which, s string) error {
	full := s
	if len(s) <= 5 {
		full += ":00"
	}
	if len(full) > 63 {
		full = full[:63]
	}
	rest, ok := full, true
	for i, part := range [...]struct{ to, max int }{{0, 23}, {1, 59}, {2, 61}} {
		if i > 0 {
			if rest, ok = strings.CutPrefix(rest, ":"); !ok {
				break
			}
		}
		var n int
		if n, rest, ok = scanNumber(rest, 0, part.max, 2); !ok {
			break
		}
		*[...]*int{&c.hour, &c.min, &c.sec}[part.to] = n
	}
	switch {
	case !ok:
		return usagef("Invalid %s time (%s). Hour, Minute, and Second are required.", which, s)
	case rest != "":
		return usagef("Error parsing %s time (%s)", which, s)
	}
	return nil
}

func (p *parser) bound(which string, c civil) (*bound, error) {
	if c.year < 2004 {
		return nil, usagef("Error - year is %d", c.year)
	}
	sec := c.in(p.env.Location).Unix()
	if sec <= 0 {
		return nil, usagef("Error converting %s time", which)
	}
	return &bound{sec}, nil
}

// scanDate reads a date in strptime's notation (%d %m %y %Y, - and O ignored)
// and returns what is left of s.
func scanDate(layout, s string) (c civil, rest string, ok bool) {
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' {
			if layout[i] == ' ' {
				s = strings.TrimLeft(s, " ")
				continue
			}
			if s == "" || s[0] != layout[i] {
				return c, s, false
			}
			s = s[1:]
			continue
		}
		for i++; i < len(layout)-1 && strings.IndexByte("-OE", layout[i]) >= 0; i++ {
		}
		switch layout[i] {
		case 'd', 'e':
			c.day, s, ok = scanNumber(s, 1, 31, 2)
		case 'm':
			c.month, s, ok = scanNumber(s, 1, 12, 2)
		case 'Y':
			c.year, s, ok = scanNumber(s, 0, 9999, 4)
		case 'y':
			if c.year, s, ok = scanNumber(s, 0, 99, 2); ok && c.year >= 69 {
				c.year += 1900
			} else if ok {
				c.year += 2000
			}
		default:
			ok = false
		}
		if !ok {
			return c, s, false
		}
	}
	return c, s, true
}

// scanNumber reads a number of at most digits digits and not above most, as
// strptime does: it stops before a digit that would go beyond.
func scanNumber(s string, least, most, digits int) (int, string, bool) {
	s = strings.TrimLeft(s, " ")
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, s, false
	}
	n, i := 0, 0
	for i < len(s) && i < digits && s[i] >= '0' && s[i] <= '9' && (i == 0 || n*10 <= most) {
		n = n*10 + int(s[i]-'0')
		i++
	}
	return n, s[i:], n >= least && n <= most
}
