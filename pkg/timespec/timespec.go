// Package timespec reads times as people write them on a command line: the words and
// dates of the stock tools, ISO 8601, seconds since the epoch, and how long ago. Every
// option that takes a time reads it here. It imports no other package of this module.
package timespec

import (
	"fmt"
	"strings"
	"time"
)

// Clock holds what a time depends on besides its words.
type Clock struct {
	Now      time.Time
	Location *time.Location
	// DateLayout is how the locale writes a date, in strptime's notation ("%m/%d/%y").
	DateLayout string
	// Uptime returns how long the machine has been running, for the word "boot".
	Uptime func() (time.Duration, error)
}

// Error is returned for words that are no time. The first line of its text is that of
// the stock tool; the second shows what would do.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// Kind says which end of a range a time is. They differ where the words leave something
// open: what a date alone means, and which of two hours.
type Kind uint8

// Kinds of time.
const (
	Start Kind = iota
	End
)

func (k Kind) String() string {
	if k == End {
		return "end"
	}
	return "start"
}

// when is a time that has been read.
type when struct {
	civil                  // date and time of day, unless exact
	clocked bool           // the time of day was said
	word    bool           // the date was a word of a whole day, such as yesterday
	today   bool           // and that word was today, which as an end means now
	iso     bool           // the date was in ISO's form, of any year
	nano    int            // fraction of the second
	fine    bool           // which was said
	zone    *time.Location // that was said; nil is the clock's

	at    time.Time // the moment
	exact bool      // it is one
}

// Words returns how many of args, which follow an option, are its time: 0 when the first
// is another option. A time that begins with '-' has a digit next.
func Words(args []string) int {
	if len(args) == 0 || isOption(args[0]) {
		return 0
	}
	second := len(args) > 1 && !isOption(args[1])
	third := second && len(args) > 2 && !isOption(args[2])
	switch {
	case third && isCount(args[0]) && unitOf(args[1]) != 0 && args[2] == "ago":
		return 3
	case isSigned(args[0]):
		if second && unitOf(args[1]) != 0 && isCount(args[0][1:]) {
			return 2 // -2 hours
		}
		return 1
	case second:
		return 2
	}
	return 1
}

func isOption(arg string) bool { return strings.HasPrefix(arg, "-") && !isSigned(arg) }

// isSigned says whether a word is a number with a sign, as in -1h.
func isSigned(s string) bool { return len(s) > 1 && (s[0] == '-' || s[0] == '+') && s[1]-'0' <= 9 }

// Read reads the words of a time and returns it in milliseconds since the epoch: the
// first that is in a range which starts then, or the last that is in one which ends then.
// Unless a fraction is said that is a whole second, as the stock tool compares. The error
// is an *Error.
func (c *Clock) Read(kind Kind, words ...string) (ms int64, err error) {
	w, err := c.when(kind, words)
	if err != nil {
		return 0, err
	}
	switch {
	case w.exact || w.clocked:
	case kind == End && w.today:
		w.at, w.exact = c.Now, true
	case kind == End && !w.word: // a date alone means the present time of that day
		w.hour, w.min, w.sec = c.Now.Clock()
	}
	return c.bound(kind, &w)
}

// bound makes milliseconds of a time.
func (c *Clock) bound(kind Kind, w *when) (int64, error) {
	if !w.exact {
		if w.year < 2004 && !w.iso {
			return 0, &Error{fmt.Sprintf("Error - year is %d", w.year)}
		}
		zone := w.zone
		if zone == nil {
			zone = c.Location
		}
		w.at = w.in(zone, kind).Add(time.Duration(w.nano))
	}
	ms := w.at.Unix() * 1000
	if w.fine {
		ms = w.at.UnixMilli()
		if kind == Start && w.at.Nanosecond()%1e6 != 0 {
			ms++
		}
	} else if kind == End {
		ms += 999
	}
	switch {
	case ms > 0:
		return ms, nil
	case kind == Start && w.iso:
		return 1, nil // before everything
	}
	return 0, &Error{fmt.Sprintf("Error converting %s time", kind)}
}

// when reads the words. What is not said is left open.
func (c *Clock) when(kind Kind, words []string) (when, error) {
	if len(words) == 2 && strings.Contains(words[0], ":") && !strings.Contains(words[1], ":") {
		words = []string{words[1], words[0]} // the date comes first
	}
	text := strings.Join(words, " ")
	if w, ok, err := c.moment(kind, strings.TrimSpace(text)); ok {
		return w, err
	}
	if len(words) == 2 {
		return c.pair(kind, words[0], words[1])
	}
	w, err := c.date(kind, text)
	if err == nil || !strings.Contains(text, ":") {
		return w, err
	}
	date, clock, two := cutLast(text)
	if two && !strings.Contains(clock, ":") {
		date, clock = clock, date
	}
	if two && strings.Contains(clock, ":") {
		return c.pair(kind, date, clock)
	}
	return c.pair(kind, "", text)
}

// cutLast cuts a text at its last blank.
func cutLast(text string) (before, after string, ok bool) {
	text = strings.TrimSpace(text)
	i := strings.LastIndexByte(text, ' ')
	if i < 0 {
		return "", "", false
	}
	return strings.TrimSpace(text[:i]), text[i+1:], true
}

// moment reads the forms that no locale has; false when the text has none of them.
func (c *Clock) moment(kind Kind, text string) (w when, ok bool, err error) {
	switch {
	case strings.HasPrefix(text, "@"):
		w, err = c.epoch(kind, text)
	case isSigned(text) || strings.HasSuffix(text, " ago"):
		w, err = c.relative(kind, text)
	default:
		return c.isoDate(kind, text)
	}
	return w, true, err
}

const midnight = "00:00:00"

// pair is a date and a time of day. Without a date it is today.
func (c *Clock) pair(kind Kind, date, clock string) (w when, err error) {
	w.civil = civilOf(c.Now)
	if date != "" {
		var ok bool
		if w, ok, err = c.moment(kind, date); !ok {
			w, err = c.date(kind, date)
		} else if err == nil && (w.exact || w.clocked) {
			err = c.badClock(kind, clock) // it has one
		}
		if err != nil {
			return w, err
		}
	}
	if clock == midnight && (w.exact || w.today && kind == End) {
		return w, nil // as in the stock tool
	}
	w.exact, w.clocked = false, true
	return w, c.setClock(kind, &w, clock)
}

// example shows what would have been a time.
func (c *Clock) example() string {
	now := c.Now
	return fmt.Sprintf("  what would do: %s, \"%s\", today, yesterday, -1h, \"2 hours ago\", 14:04, @%d, or a date as the locale writes it: %s",
		now.Format("2006-01-02"), now.Format("2006-01-02 15:04:05"), now.Unix(), appendDate(nil, c.DateLayout, now))
}

func (c *Clock) badDate(kind Kind, s string) error {
	return &Error{fmt.Sprintf("Invalid %s date (%s). Month, Day, and Year are required.\n%s", kind, s, c.example())}
}

func (c *Clock) badClock(kind Kind, s string) error {
	return &Error{fmt.Sprintf("Invalid %s time (%s). Hour, Minute, and Second are required.\n%s", kind, s, c.example())}
}

// Required is the error for an option called name without a time.
func (c *Clock) Required(name string) error {
	return &Error{fmt.Sprintf("%s requires either date and/or time\n%s", name, c.example())}
}
