package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// silentAfter is how long a host may be silent before it stands out: a running
// Linux host has a cron job or a session in that time.
const silentAfter = time.Hour

func (p *program) hostsCommand() *cobra.Command {
	var w where
	var format string
	var change hostChange
	l := hostList{now: time.Now()}
	cmd := &cobra.Command{
		Use:   "hosts [--forget NAME|ADDRESS…] [--reattribute ADDRESS=HOST] [--store DIR | --api SOCKET] [--format table|json|csv] [--csv-safe] [--silent-after DURATION] [--silent]",
		Short: "List the hosts that records came from",
		Long: "hosts lists the hosts that records came from: where from, whether they are connected, when they were\n" +
			"first and last heard of, how many records a second they send (over about the last minute), and LAG, how\n" +
			"far the newest event lay behind when it was received: a host that catches up after an outage has much\n" +
			"of it. Hosts silent for longer than --silent-after stand out, connected or not.\n\n" +
			"--forget takes hosts off the list, to make room for others: by name, or by an address, which stands for\n" +
			"all that are known from there only. Their records stay, and are found. --reattribute says whose the records\n" +
			"are that came from an address without a name: search -n HOST finds them from then on, too. ADDRESS= takes\n" +
			"that back.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if change.asked() || len(args) > 0 {
				c, err := change.change(args)
				if err == nil {
					err = p.changeHosts(cmd.Context(), w, c)
				}
				if err != nil {
					return fmt.Errorf("hosts: %w", err)
				}
				return nil
			}
			write, ok := map[string]func(*hostList, io.Writer) error{"table": (*hostList).table, "json": (*hostList).json, "csv": (*hostList).csv}[format]
			switch {
			case !ok:
				return fmt.Errorf("hosts: --format %s: it is table, json or csv", format)
			case l.silentAfter < 0:
				return errors.New("hosts: --silent-after: must not be negative")
			}
			src, err := w.open(cmd.Context(), p)
			if err != nil {
				return fmt.Errorf("hosts: %w", err)
			}
			defer func() { err = errors.Join(err, src.Close()) }()
			hosts, err := src.Hosts(cmd.Context())
			if err != nil {
				return fmt.Errorf("hosts: %w", err)
			}
			l.take(hosts)
			l.bold = bold(p.stdio.Out)
			out := p.stdio.Out
			l.people = terminal.IsTerminal(out)
			switch {
			case format == "json":
				out = terminal.GuardAs(out, terminal.JSON)
			case format == "table" && l.bold:
				out = terminal.GuardAs(out, terminal.Styled)
			}
			if err := write(&l, out); err != nil {
				return fmt.Errorf("hosts: write the list: %w", err)
			}
			if format == "table" && l.silent > 0 {
				fmt.Fprintf(p.stdio.Err, "%d of %d hosts have been silent for longer than %s\n", l.silent, len(hosts), span(l.silentAfter))
			}
			return nil
		},
	}
	addWhere(cmd, &w)
	cmd.Flags().StringVar(&format, "format", "table", "table, json or csv")
	cmd.Flags().BoolVar(&l.csvSafe, "csv-safe", false, "csv with ' before cells that a spreadsheet would run as formulas (= + - @)")
	cmd.Flags().DurationVar(&l.silentAfter, "silent-after", silentAfter, "a host not heard of for longer stands out; 0 for none")
	cmd.Flags().BoolVar(&l.onlySilent, "silent", false, "list only hosts that are silent")
	cmd.Flags().StringArrayVar(&change.forget, "forget", nil, "take hosts off the list, by name or address; their records stay")
	cmd.Flags().StringArrayVar(&change.reattribute, "reattribute", nil, "ADDRESS=HOST: what came from there without node= is that host's, too")
	completion.Flags(cmd, map[string]option.Words{"format": option.These("table", "json", "csv"), "store": option.Folders, "api": option.Files})
	return cmd
}

// bold says whether out may be written to in bold.
func bold(out io.Writer) bool {
	return terminal.IsTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// addWhere adds the options that say which collector is asked.
func addWhere(cmd *cobra.Command, w *where) {
	cmd.Flags().StringVar(&w.store, "store", "", "the collector's store: asks the collector that has it, or reads it when none does")
	cmd.Flags().StringVar(&w.api, "api", "", "the query socket of a running collector")
}

// hostList is what is to be listed.
type hostList struct {
	now         time.Time
	silentAfter time.Duration
	onlySilent  bool
	bold        bool
	people      bool // the list goes to a terminal
	csvSafe     bool
	rows        []hostRow
	hosts       []*fleet.Host // of rows
	silent      int           // of all hosts
}

// The states of a host.
const (
	stateConnected    = "connected"
	stateDisconnected = "disconnected"
	stateSilent       = "silent"
)

func (l *hostList) take(hosts []*fleet.Host) {
	for _, h := range hosts {
		r := rowOf(h)
		quiet := l.now.Sub(time.UnixMilli(h.GetLastSeenMs()))
		// The collector's own events come from no address, and when they come.
		if l.silentAfter > 0 && quiet > l.silentAfter && len(r.Addresses) > 0 {
			r.State = stateSilent
			r.SilentSeconds = int64(quiet / time.Second)
			l.silent++
		} else if l.onlySilent {
			continue
		}
		l.rows, l.hosts = append(l.rows, r), append(l.hosts, h)
	}
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

func write(out io.Writer, text []byte) error {
	_, err := out.Write(text)
	return err
}

func latest(h *fleet.Host) string {
	if a := h.GetAddresses(); len(a) > 0 {
		return a[0]
	}
	return "-"
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

// hostRow is a host for programs. Times are RFC 3339 in UTC, absent when unknown.
type hostRow struct {
	Host          string   `json:"host"`
	Addresses     []string `json:"addresses"`
	Connected     bool     `json:"connected"`
	FirstSeen     string   `json:"first_seen,omitempty"`
	LastSeen      string   `json:"last_seen,omitempty"`
	LastEvent     string   `json:"last_event,omitempty"`
	Records       uint64   `json:"records"`
	Bytes         uint64   `json:"bytes"`
	Duplicates    uint64   `json:"duplicates"`
	Unparsable    uint64   `json:"unparsable"`
	State         string   `json:"state"`
	Rate          *float64 `json:"records_per_second,omitempty"`
	LagSeconds    *float64 `json:"lag_seconds,omitempty"`
	SilentSeconds int64    `json:"silent_seconds,omitempty"`
	Also          string   `json:"also,omitempty"`
}

func rowOf(h *fleet.Host) hostRow {
	utc := func(ms int64) string {
		if ms == 0 {
			return ""
		}
		return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	r := hostRow{
		Host: string(h.GetName()), Addresses: h.GetAddresses(), Connected: h.GetConnected(), State: stateDisconnected,
		FirstSeen: utc(h.GetFirstSeenMs()), LastSeen: utc(h.GetLastSeenMs()), LastEvent: utc(h.GetLastEventMs()),
		Records: h.GetRecords(), Bytes: h.GetBytes(), Duplicates: h.GetDuplicates(), Unparsable: h.GetUnparsable(), Rate: h.Rate, Also: string(h.GetAlso()),
	}
	if r.Addresses == nil {
		r.Addresses = []string{}
	}
	if r.Connected {
		r.State = stateConnected
	}
	if h.GetLastEventMs() > 0 && h.GetLastSeenMs() > 0 {
		lag := float64(max(0, h.GetLastSeenMs()-h.GetLastEventMs())) / 1000 // a clock ahead is no lag
		r.LagSeconds = &lag
	}
	return r
}

func (l *hostList) json(out io.Writer) error {
	rows := l.rows
	if rows == nil {
		rows = []hostRow{}
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

// cell is a text of the csv: a host's name came from the network.
func (l *hostList) cell(text string) string {
	if l.people {
		text = terminal.Clean(text)
	}
	if l.csvSafe {
		text = output.CSVSafe(text)
	}
	return text
}

func (l *hostList) csv(out io.Writer) error {
	w := csv.NewWriter(out)
	if err := w.Write([]string{
		"host", "address", "connected", "first_seen", "last_seen", "last_event", "records", "bytes", "duplicates", "unparsable",
		"state", "records_per_second", "lag_seconds", "silent_seconds", "addresses", "also",
	}); err != nil {
		return err
	}
	number := func(f *float64) string {
		if f == nil {
			return ""
		}
		return strconv.FormatFloat(*f, 'f', 3, 64)
	}
	for i, h := range l.hosts {
		r := &l.rows[i]
		err := w.Write([]string{
			l.cell(r.Host), l.cell(latest(h)), strconv.FormatBool(r.Connected), r.FirstSeen, r.LastSeen, r.LastEvent,
			strconv.FormatUint(r.Records, 10), strconv.FormatUint(r.Bytes, 10),
			strconv.FormatUint(r.Duplicates, 10), strconv.FormatUint(r.Unparsable, 10),
			r.State, number(r.Rate), number(r.LagSeconds), strconv.FormatInt(r.SilentSeconds, 10),
			strings.Join(r.Addresses, " "), r.Also,
		})
		if err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}
