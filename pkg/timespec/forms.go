package timespec

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// lastSecond is the end of the year 9999.
const lastSecond = 253402300799

// epoch reads @SECONDS or @SECONDS.FRACTION.
func (c *Clock) epoch(kind Kind, text string) (w when, err error) {
	whole, fraction, fine := strings.Cut(text[1:], ".")
	sec, err := digits(whole)
	nano, ok := nanoseconds(fraction)
	if err != nil || fine && !ok {
		return w, c.badDate(kind, text)
	}
	if sec > lastSecond {
		hint := ""
		if sec/1000 <= lastSecond {
			hint = fmt.Sprintf("\n  milliseconds? Those are @%d.%03d", sec/1000, sec%1000)
		}
		return w, &Error{fmt.Sprintf("Invalid %s date (%s). It is in seconds since 1970%s", kind, text, hint)}
	}
	w.at, w.exact, w.fine, w.iso = time.Unix(sec, int64(nano)).In(c.Location), true, fine, true
	return w, nil
}

// digits reads a number that is digits only.
func digits(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// nanoseconds reads the digits of a fraction of a second.
func nanoseconds(s string) (int, bool) {
	n, scale := 0, 100_000_000
	for i := range len(s) {
		if s[i]-'0' > 9 {
			return 0, false
		}
		n += int(s[i]-'0') * scale
		scale /= 10
	}
	return n, s != ""
}

var isoForm = regexp.MustCompile(`^([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})(?:$|[Tt ]+)`)

// isoDate reads a date as ISO 8601 has it, and the time of day behind it; false when the
// text does not begin with one.
func (c *Clock) isoDate(kind Kind, text string) (w when, ok bool, err error) {
	m := isoForm.FindStringSubmatch(text)
	if m == nil {
		return w, false, nil
	}
	for i, to := range []*int{&w.year, &w.month, &w.day} {
		*to, _ = strconv.Atoi(m[i+1]) // digits
	}
	if t := time.Date(w.year, time.Month(w.month), w.day, 0, 0, 0, 0, time.UTC); civilOf(t) != w.civil {
		return w, true, c.badDate(kind, text)
	}
	w.iso = true
	if clock := text[len(m[0]):]; clock != "" || len(m[0]) > len(strings.TrimRight(m[0], "Tt ")) {
		w.clocked = true
		return w, true, c.setClock(kind, &w, clock)
	}
	return w, true, nil
}

var clockForm = regexp.MustCompile(`^([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?[ ]*(Z|z|UTC|GMT|[-+][0-9]{2}(?::?[0-9]{2})?)?$`)

// setClock reads a time of day: in the stock tool's form, or with a fraction and a zone.
func (c *Clock) setClock(kind Kind, w *when, s string) error {
	m := clockForm.FindStringSubmatch(s)
	if m == nil {
		rest, ok := w.stockClock(s)
		switch {
		case !ok:
			return c.badClock(kind, s)
		case rest != "":
			return &Error{fmt.Sprintf("Error parsing %s time (%s)\n%s", kind, s, c.example())}
		}
		return nil
	}
	w.sec = 0
	for i, part := range []struct {
		to  *int
		max int
	}{{&w.hour, 23}, {&w.min, 59}, {&w.sec, 61}} { // a leap second is one, as strptime has it
		if m[i+1] == "" {
			break
		}
		if *part.to, _ = strconv.Atoi(m[i+1]); *part.to > part.max {
			return c.badClock(kind, s)
		}
	}
	w.nano, w.fine = nanoseconds(m[4])
	return c.setZone(kind, w, s, m[5])
}

func (c *Clock) setZone(kind Kind, w *when, clock, zone string) error {
	switch zone {
	case "":
		return nil
	case "Z", "z", "UTC", "GMT":
		w.zone = time.UTC
	default:
		n := strings.ReplaceAll(zone[1:], ":", "")
		hours, _ := strconv.Atoi(n[:2]) // digits
		minutes := 0
		if len(n) == 4 {
			minutes, _ = strconv.Atoi(n[2:])
		}
		if hours > 14 || minutes > 59 {
			return c.badClock(kind, clock)
		}
		offset := hours*3600 + minutes*60
		if zone[0] == '-' {
			offset = -offset
		}
		w.zone = time.FixedZone(zone, offset)
	}
	return nil
}

// unitOf is the unit that a word is: s, m (minutes), h, d, w, M (months), y; 0 when it
// is none.
func unitOf(word string) byte {
	if len(word) > 1 { // M is no m: elsewhere it means months
		word = strings.ToLower(word)
	}
	switch word {
	case "s", "sec", "secs", "second", "seconds":
		return 's'
	case "m", "min", "mins", "minute", "minutes":
		return 'm'
	case "h", "hr", "hrs", "hour", "hours":
		return 'h'
	case "d", "day", "days":
		return 'd'
	case "w", "week", "weeks":
		return 'w'
	case "mo", "month", "months":
		return 'M'
	case "y", "year", "years":
		return 'y'
	}
	return 0
}

func isCount(word string) bool {
	_, err := digits(word)
	return err == nil || word == "a" || word == "an"
}

var spanForm = regexp.MustCompile(`^ *([0-9]+|an?\b) *([A-Za-z]+)`)

// longestSpan is the largest number of one unit, and in seconds: further back than any log.
const longestSpan = 1 << 32

// relative reads how long ago a time was: -1h, -1d12h, "2 hours ago". With + it is to
// come. Days and longer ones are counted by the calendar, so that the time of day stays.
func (c *Clock) relative(kind Kind, text string) (w when, err error) {
	sign, rest := int64(-1), strings.TrimSpace(strings.TrimSuffix(text, " ago"))
	if isSigned(text) {
		if len(rest) < len(text) {
			return w, c.badDate(kind, text) // -1h ago
		}
		if text[0] == '+' {
			sign = 1
		}
		rest = text[1:]
	}
	t, seconds := c.Now.In(c.Location), int64(0)
	for first := true; rest != "" || first; first = false {
		m := spanForm.FindStringSubmatch(rest)
		if m == nil {
			return w, c.badDate(kind, text)
		}
		rest = strings.TrimSpace(rest[len(m[0]):])
		n := int64(1)
		if m[1][0] != 'a' {
			n, err = digits(m[1])
		}
		if err != nil || n > longestSpan {
			return w, c.badDate(kind, text)
		}
		count := int(sign * n)
		switch unitOf(m[2]) {
		case 's':
			seconds += n
		case 'm':
			seconds += 60 * n
		case 'h':
			seconds += 3600 * n
		case 'd':
			t = t.AddDate(0, 0, count)
		case 'w':
			t = t.AddDate(0, 0, 7*count)
		case 'M':
			t = t.AddDate(0, count, 0)
		case 'y':
			t = t.AddDate(count, 0, 0)
		default:
			return w, c.badDate(kind, text)
		}
		if year := t.Year(); year < 1970 || year > 9999 || seconds > longestSpan {
			return w, c.badDate(kind, text)
		}
	}
	w.at, w.exact = t.Add(time.Duration(sign*seconds)*time.Second), true
	return w, nil
}
