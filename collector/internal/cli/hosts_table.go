package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// bold says whether out may be written to in bold.
func bold(out io.Writer) bool {
	return terminal.IsTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func (l *hostList) table(out io.Writer) error {
	rows := [][]string{{"HOST", "ADDRESS", "STATE", "FIRST SEEN", "LAST SEEN", "LAST EVENT", "LAG", "RATE", "RECORDS", "SIZE", "DUPLICATES", "UNPARSABLE"}}
	for i, h := range l.hosts {
		r := &l.rows[i]
		state := r.State
		if state == stateSilent {
			state = "SILENT " + span(time.Duration(r.SilentSeconds)*time.Second)
		}
		name := string(h.GetName())
		if name == "" {
			name = "(others)"
		}
		if also := h.GetAlso(); len(also) > 0 {
			name += " (" + string(also) + ")"
		}
		lag, rate := "-", "-"
		if r.LagSeconds != nil {
			lag = span(time.Duration(*r.LagSeconds * float64(time.Second)))
		}
		if r.Rate != nil {
			rate = fmt.Sprintf("%.3g/s", *r.Rate)
		}
		rows = append(rows, []string{
			terminal.Clean(name), addresses(h), state, stamp(h.GetFirstSeenMs()), stamp(h.GetLastSeenMs()), stamp(h.GetLastEventMs()), lag, rate,
			strconv.FormatUint(h.GetRecords(), 10), size(h.GetBytes()), strconv.FormatUint(h.GetDuplicates(), 10), strconv.FormatUint(h.GetUnparsable(), 10),
		})
	}
	text := []byte(terminal.Columns(rows))
	if !l.bold {
		return write(out, text)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for i := range l.rows {
		if l.rows[i].State == stateSilent {
			lines[i+1] = fmt.Appendf(nil, "\x1b[1;31m%s\x1b[0m\n", bytes.TrimSuffix(lines[i+1], []byte("\n")))
		}
	}
	return write(out, bytes.Join(lines, nil))
}

// addresses are all that are known of a host, the latest first.
func addresses(h *fleet.Host) string {
	if len(h.GetAddresses()) == 0 {
		return "-"
	}
	return strings.Join(h.GetAddresses(), ",")
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

// size is a number of bytes for people.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 {
		return strconv.FormatUint(n, 10) + " B"
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}
