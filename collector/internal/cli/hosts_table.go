package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// tableColumns is how wide the table of hosts is at most, unless the terminal is wider.
const tableColumns = 100

// Columns of the table that give way to others: how wide they stay at least.
const (
	leastName    = 12
	leastAddress = 15
)

// bold says whether out may be written to in bold.
func bold(out io.Writer) bool {
	return terminal.IsTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// columnsOf is how wide a table on out may be.
func columnsOf(out io.Writer) int {
	if f, ok := terminal.File(out); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			return max(tableColumns, int(size.Col))
		}
	}
	return tableColumns
}

// columns are those that the table has where they say something of some host: tls and mismatch the narrow table, which
// has no room for more, held and collector either.
type columns struct{ tls, mismatch, held, collector bool }

// optional returns which columns the table has.
func (l *hostList) optional() columns {
	return columns{
		tls:       !l.wide && slices.ContainsFunc(l.hosts, func(h *fleet.Host) bool { return h.GetVerifiedMs() != 0 }),
		mismatch:  !l.wide && slices.ContainsFunc(l.hosts, func(h *fleet.Host) bool { return h.GetMismatched() != 0 }),
		held:      slices.ContainsFunc(l.hosts, func(h *fleet.Host) bool { return len(h.GetHolds()) > 0 }),
		collector: l.whose != nil || len(l.cluster) > 0,
	}
}

// heading is the first line of the table: names, and which columns are numbers.
func (l *hostList) heading(has columns) (names []string, numbers []bool) {
	all := "HOST ADDRESS STATE SEEN_AGO# LAG# RATE# RECORDS# SIZE# LOST#"
	if l.wide {
		all = "HOST ADDRESSES STATE FIRST_SEEN LAST_SEEN LAST_EVENT LAG# RATE# RECORDS# SIZE# LOST# DUPLICATES# UNPARSABLE# VERIFIED MISMATCH#"
	}
	if has.tls {
		all += " TLS"
	}
	if has.mismatch {
		all += " MISMATCH#"
	}
	if has.held {
		all += " HOLD"
	}
	if has.collector {
		all += " COLLECTOR"
	}
	for _, name := range strings.Fields(all) {
		name, number := strings.CutSuffix(name, "#")
		names, numbers = append(names, strings.ReplaceAll(name, "_", " ")), append(numbers, number)
	}
	return names, numbers
}

// cells are the i-th host's in the table.
func (l *hostList) cells(i int, has columns) []string {
	h, r := l.hosts[i], &l.rows[i]
	lag, rate := "-", "-"
	if r.LagSeconds != nil {
		lag = span(time.Duration(*r.LagSeconds * float64(time.Second)))
	}
	if r.Rate != nil {
		rate = perSecond(*r.Rate)
	}
	name := terminal.Clean(shown(h))
	if l.wide {
		state := r.State
		if state == stateSilent {
			state = "SILENT " + span(time.Duration(r.SilentSeconds)*time.Second)
		}
		row := []string{
			name, terminal.Clean(addresses(h)), state, stamp(h.GetFirstSeenMs()), stamp(h.GetLastSeenMs()), stamp(h.GetLastEventMs()), lag, rate,
			strconv.FormatUint(h.GetRecords(), 10), terminal.Size(h.GetBytes()), strconv.FormatUint(h.GetLost(), 10),
			strconv.FormatUint(h.GetDuplicates(), 10), strconv.FormatUint(h.GetUnparsable(), 10),
			stamp(h.GetVerifiedMs()), strconv.FormatUint(h.GetMismatched(), 10),
		}
		return append(row, l.last(i, has)...)
	}
	state, seen := r.State, "-"
	if state == stateSilent {
		state = "SILENT"
	}
	if at := h.GetLastSeenMs(); at != 0 {
		seen = span(max(0, l.now.Sub(time.UnixMilli(at))))
	}
	row := []string{name, terminal.Clean(lastAddress(h)), state, seen, lag, rate, short(float64(h.GetRecords())), shortSize(h.GetBytes()), short(float64(h.GetLost()))}
	if has.tls {
		proof := "-"
		if h.GetVerifiedMs() != 0 {
			proof = "yes"
		}
		row = append(row, proof)
	}
	if has.mismatch {
		row = append(row, short(float64(h.GetMismatched())))
	}
	return append(row, l.last(i, has)...)
}

// last are the i-th host's last cells.
func (l *hostList) last(i int, has columns) (row []string) {
	if has.held {
		row = append(row, holdOf(&l.rows[i]))
	}
	if has.collector {
		names := l.rows[i].collectors()
		if text := strings.Join(names, ","); l.wide || len(names) < 2 {
			row = append(row, terminal.Clean(text))
		} else {
			row = append(row, terminal.Clean(fmt.Sprintf("%s +%d", names[0], len(names)-1)))
		}
	}
	return row
}

// holdOf is what a host is on hold by, as the table has it.
func holdOf(r *hostRow) string {
	if len(r.Holds) == 0 {
		return "-"
	}
	return terminal.Clean(strings.Join(r.Holds, ","))
}

func (l *hostList) table(out io.Writer) error {
	has := l.optional() // once: it looks at all hosts
	names, numbers := l.heading(has)
	rows := make([][]string, 0, len(l.rows)+1)
	rows = append(rows, names)
	for i := range l.rows {
		rows = append(rows, l.cells(i, has))
	}
	widths := terminal.Widths(rows)
	if !l.wide {
		fit(widths, l.columns)
	}
	line := func(row []string) string {
		for c, v := range row {
			row[c] = cut(v, widths[c])
		}
		return string(terminal.AppendRow(nil, row, widths, numbers))
	}
	var text strings.Builder
	text.WriteString(line(rows[0]) + "\n")
	for _, own := range []bool{false, true} {
		if own && text.Len() > 0 && l.hasOwn() && len(l.rows) > 1 {
			text.WriteByte('\n') // the collector's own line stands apart
		}
		for i := range l.rows {
			state := l.rows[i].State
			switch {
			case (state == stateOwn) != own:
			case l.bold && state == stateSilent:
				text.WriteString("\x1b[1;31m" + line(rows[i+1]) + "\x1b[0m\n")
			default:
				text.WriteString(line(rows[i+1]) + "\n")
			}
		}
	}
	return write(out, []byte(text.String()))
}

func (l *hostList) hasOwn() bool {
	for i := range l.rows {
		if l.rows[i].State == stateOwn {
			return true
		}
	}
	return false
}

// fit makes addresses, and then names, narrower where a line has more than so many columns.
func fit(widths []int, columns int) {
	over := -2 - columns
	for _, n := range widths {
		over += n + 2
	}
	for _, give := range []struct{ column, least int }{{1, leastAddress}, {0, leastName}} {
		if n := min(over, widths[give.column]-give.least); n > 0 {
			widths[give.column] -= n
			over -= n
		}
	}
}

// cut cuts a text to so many columns; the last of them then says that something is missing.
func cut(text string, columns int) string {
	if terminal.Width(text) <= columns {
		return text
	}
	used := 0
	for i, r := range text {
		if used += terminal.Width(string(r)); used > columns-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// stamp is a time for people, in the local zone.
func stamp(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).Format("2006-01-02 15:04:05")
}

// span is a duration for people: its two largest units.
func span(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Hour:
		d = d.Truncate(time.Second)
		return d.String()
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// shortSize is terminal.Size without a decimal where there are digits enough.
func shortSize(n uint64) string {
	text := terminal.Size(n)
	whole, rest, ok := strings.Cut(text, ".")
	if ok && len(whole) > 2 {
		return whole + rest[1:]
	}
	return text
}

// short is a number for people, of at most five characters up to some 10^17: 0.02, 7,
// 12345, 1.2M.
func short(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 10 && f != float64(int(f)):
		return strconv.FormatFloat(f, 'g', 2, 64)
	case f < 99999.5:
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return thousands(f)
}

// perSecond is a rate for people.
func perSecond(f float64) string {
	switch {
	case f < 0.01:
		return "0/s" // fading: nothing came for minutes
	case f < 9.95:
		return strconv.FormatFloat(f, 'g', 2, 64) + "/s"
	case f < 999.5:
		return strconv.FormatFloat(f, 'f', 0, 64) + "/s"
	}
	return thousands(f) + "/s"
}

// thousands is a number with a letter for its thousands: 1.2k, 35M.
func thousands(f float64) string {
	units := "kMGTPE"
	f /= 1000
	i := 0
	for f >= 999.5 && i < len(units)-1 {
		f /= 1000
		i++
	}
	if f < 9.95 {
		return strconv.FormatFloat(f, 'f', 1, 64) + units[i:i+1]
	}
	return strconv.FormatFloat(f, 'f', 0, 64) + units[i:i+1]
}
