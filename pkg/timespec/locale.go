package timespec

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Words that stand for a time, those of ausearch(8) but for "checkpoint", and tomorrow.
var names = [...]string{"now", "recent", "this-hour", "boot", "today", "yesterday", "tomorrow", "this-week", "week-ago", "this-month", "this-year"}

// Names returns the words that stand for a time.
func Names() []string { return append([]string(nil), names[:]...) }

// named returns what a word stands for; false when it is none.
func (c *Clock) named(word string) (w when, ok bool, err error) {
	now := c.Now
	moment := func(t time.Time) { w.at, w.exact, w.civil = t, true, civilOf(t) }
	day := func(n int) { w.civil, w.word = civilOf(now.AddDate(0, 0, n)).midnight(), true }
	switch word {
	case "now":
		moment(now)
	case "recent":
		moment(now.Add(-10 * time.Minute))
	case "this-hour":
		moment(now.Add(-time.Duration(now.Minute())*time.Minute - time.Duration(now.Second())*time.Second))
	case "boot":
		up, err := c.Uptime()
		if err != nil {
			return w, true, &Error{fmt.Sprintf("Can't read uptime (%v)", err)}
		}
		moment(now.Add(-time.Duration(math.Floor(up.Seconds()+0.5)) * time.Second))
	case "today":
		day(0)
		w.today = true
	case "yesterday":
		day(-1)
	case "tomorrow":
		day(1)
	case "this-week": // weeks start on Sunday
		day(-int(now.Weekday()))
	case "week-ago":
		day(-7)
	case "this-month":
		day(0)
		w.day = 1
	case "this-year":
		day(0)
		w.month, w.day = 1, 1
	default:
		return w, false, nil
	}
	return w, true, nil
}

// date reads a word, or a date as the locale writes it.
func (c *Clock) date(kind Kind, s string) (w when, err error) {
	w, ok, err := c.named(s)
	if ok || err != nil {
		return w, err
	}
	rest := ""
	for _, layout := range [...]string{c.DateLayout, "%m/%d/%y"} {
		if w.civil, rest, ok = scanDate(layout, s); ok {
			break
		}
	}
	switch {
	case !ok:
		return w, c.badDate(kind, s)
	case rest != "":
		return w, &Error{fmt.Sprintf("Error parsing %s date (%s)\n%s", kind, s, c.example())}
	}
	return w, nil
}

// stockClock reads a time of day as strptime does, and returns what is left of it.
func (c *civil) stockClock(s string) (rest string, ok bool) {
	rest = s
	if len(s) <= 5 {
		rest += ":00"
	}
	if len(rest) > 63 {
		rest = rest[:63]
	}
	for i, part := range [...]struct {
		to  *int
		max int
	}{{&c.hour, 23}, {&c.min, 59}, {&c.sec, 61}} {
		if i > 0 {
			if rest, ok = strings.CutPrefix(rest, ":"); !ok {
				return rest, false
			}
		}
		var n int
		if n, rest, ok = scanNumber(rest, 0, part.max, 2); !ok {
			return rest, false
		}
		*part.to = n
	}
	return rest, true
}

// scanDate reads a date in strptime's notation (%d %m %y %Y, - and O ignored) and returns
// what is left of s. A year of four digits is one in every locale, and so is one of two.
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
		case 'Y', 'y':
			c.year, s, ok = scanYear(s, layout[i])
		default:
			ok = false
		}
		if !ok {
			return c, s, false
		}
	}
	return c, s, true
}

// scanYear reads a year of four digits, or of two, which is between 1969 and 2068.
func scanYear(s string, form byte) (year int, rest string, ok bool) {
	s = strings.TrimLeft(s, " ")
	if n := len(s) - len(strings.TrimLeft(s, "0123456789")); n == 4 || form == 'Y' && n != 2 {
		return scanNumber(s, 0, 9999, 4)
	}
	year, rest, ok = scanNumber(s, 0, 99, 2)
	switch {
	case !ok:
	case year >= 69:
		year += 1900
	default:
		year += 2000
	}
	return year, rest, ok
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

// appendDate appends a date in strptime's notation.
func appendDate(dst []byte, layout string, t time.Time) []byte {
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' {
			dst = append(dst, layout[i])
			continue
		}
		for i++; i < len(layout)-1 && strings.IndexByte("-OE", layout[i]) >= 0; i++ {
		}
		switch layout[i] {
		case 'd', 'e':
			dst = t.AppendFormat(dst, "02")
		case 'm':
			dst = t.AppendFormat(dst, "01")
		case 'Y':
			dst = t.AppendFormat(dst, "2006")
		case 'y':
			dst = t.AppendFormat(dst, "06")
		}
	}
	return dst
}
