package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// A bar has a character for each day, or for some days where there are more than have room.
const (
	leastBar = 7  // characters; with less room there is none
	mostBar  = 62 // two months
	beside   = 69 // for the host, its state and why
)

// cell is what a bar says of a day: the worst counts.
type cell uint8

const (
	cellNone cell = iota // not asked about
	cellComplete
	cellOff
	cellPending
	cellUnknown
	cellLost
)

var (
	barPlain  = [...]string{" ", "#", ".", "+", "?", "X"}
	barUTF8   = [...]string{" ", "█", "·", "▄", "░", "×"}
	barColors = [...]string{"", "\x1b[32m", "\x1b[32m", "\x1b[36m", "\x1b[33m", "\x1b[31m"}
	barWords  = [...]string{"", "complete", "off", "pending", "unknown", "lost"}
)

// bars are the bars of some hosts, all about the same days.
type bars struct {
	v     *coverageView
	first time.Time // the begin of the first day
	days  int
	each  int // days a character
	width int // characters; 0: there are none
	used  [len(barPlain)]bool
}

// bars lays them out.
func (v *coverageView) bars(list []*fleet.Coverage) *bars {
	b := &bars{v: v, each: 1}
	if v.width == 0 {
		return b
	}
	from, to := int64(0), int64(0)
	for _, c := range list {
		if c.GetFromMs() > 0 && (from == 0 || c.GetFromMs() < from) {
			from = c.GetFromMs()
		}
		to = max(to, c.GetToMs())
	}
	if from == 0 || to <= from {
		return b
	}
	b.first = midnight(time.UnixMilli(from).In(v.zone))
	b.days = dayIndex(b.first, time.UnixMilli(to-1).In(v.zone)) + 1
	room := min(mostBar, v.width-beside) // what is said beside it
	if b.days < 2 || room < leastBar {
		return b
	}
	b.each = (b.days + room - 1) / room
	b.width = (b.days + b.each - 1) / b.each
	return b
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}

// dayIndex is how many days after first's a time is, by the calendar: days of 23 hours are days.
func dayIndex(first, t time.Time) int {
	utc := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC) }
	return int(utc(t).Sub(utc(first)) / (24 * time.Hour))
}

// of returns a host's bar.
func (b *bars) of(c *fleet.Coverage) string {
	cells := make([]cell, b.width)
	mark := func(from, to int64, x cell) {
		from, to = max(from, c.GetFromMs()), min(max(to, from+1), c.GetToMs())
		if from >= to {
			return
		}
		i, j := dayIndex(b.first, time.UnixMilli(from).In(b.v.zone))/b.each, dayIndex(b.first, time.UnixMilli(to-1).In(b.v.zone))/b.each
		for ; i <= min(j, len(cells)-1); i++ {
			if i >= 0 {
				cells[i] = max(cells[i], x)
			}
		}
	}
	mark(c.GetFromMs(), c.GetToMs(), cellComplete)
	of := func(cause, state string) cell {
		switch {
		case state == "lost":
			return cellLost
		case state == "unknown":
			return cellUnknown
		case cause == "off":
			return cellComplete // a day is off only as a whole
		}
		return cellNone
	}
	list := c.GetIntervals()
	for _, x := range list {
		mark(x.GetFromMs(), x.GetToMs(), of(x.GetCause(), x.GetState()))
	}
	if n := len(list); n >= mostIntervals { // the rest is in the sums only
		for _, x := range c.GetCauses() {
			mark(max(x.GetFromMs(), list[n-1].GetFromMs()), x.GetToMs(), of(x.GetCause(), x.GetState()))
		}
	}
	if c.GetState() == "pending" {
		mark(c.GetOldestMs(), c.GetToMs(), cellPending)
	}
	b.off(c, cells)
	return b.draw(cells)
}

// mostIntervals is how many intervals an answer has at most.
const mostIntervals = 10_000

// off marks what the host was shut down for as a whole.
func (b *bars) off(c *fleet.Coverage, cells []cell) {
	for _, x := range c.GetIntervals() {
		if x.GetCause() != "off" {
			continue
		}
		for i := range cells {
			begin, end := b.first.AddDate(0, 0, i*b.each), b.first.AddDate(0, 0, (i+1)*b.each)
			if cells[i] == cellComplete && x.GetFromMs() <= begin.UnixMilli() && x.GetToMs() >= end.UnixMilli() {
				cells[i] = cellOff
			}
		}
	}
}

func (b *bars) draw(cells []cell) string {
	chars := &barPlain
	if b.v.utf8 {
		chars = &barUTF8
	}
	var out strings.Builder
	was := ""
	for _, x := range cells {
		b.used[x] = true
		if color := barColors[x]; b.v.color && color != was && x != cellNone {
			out.WriteString(color)
			was = color
		}
		out.WriteString(chars[x])
	}
	if was != "" {
		out.WriteString("\x1b[0m")
	}
	return out.String()
}

// legend says what the characters mean, below the hosts.
func (b *bars) legend() string {
	if b.width == 0 {
		return ""
	}
	var parts []string
	for x := cellComplete; x <= cellLost; x++ {
		if b.used[x] {
			parts = append(parts, b.draw([]cell{x})+" "+barWords[x])
		}
	}
	day := "a day"
	if b.each > 1 {
		day = fmt.Sprintf("%d days", b.each)
	}
	return fmt.Sprintf("\na character is %s, from %s on: %s\n", day, b.first.Format("2006-01-02"), strings.Join(parts, ", "))
}

// viewOn is how coverage writes to out.
func viewOn(out io.Writer, detail bool, zone *time.Location, getenv func(string) string) *coverageView {
	v := &coverageView{zone: zone, now: time.Now(), detail: detail}
	if terminal.IsTerminal(out) {
		v.width, v.utf8, v.color = columnsOf(out), speaksUTF8(getenv), getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	}
	return v
}

// speaksUTF8 reports whether the locale's characters are UTF-8.
func speaksUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(strings.ReplaceAll(v, "-", ""))
			return strings.HasSuffix(v, "utf8") || strings.Contains(v, "utf8@")
		}
	}
	return false
}
