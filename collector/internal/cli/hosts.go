package cli

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

func (p *program) hostsCommand() *cobra.Command {
	var w where
	var format string
	cmd := &cobra.Command{
		Use:   "hosts [--store DIR | --api SOCKET] [--format table|json|csv]",
		Short: "List the hosts that records came from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			write, ok := map[string]func(io.Writer, []*fleet.Host) error{"table": hostsTable, "json": hostsJSON, "csv": hostsCSV}[format]
			if !ok {
				return fmt.Errorf("hosts: --format %s: it is table, json or csv", format)
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
			if err := write(p.stdio.Out, hosts); err != nil {
				return fmt.Errorf("hosts: write the list: %w", err)
			}
			return nil
		},
	}
	addWhere(cmd, &w)
	cmd.Flags().StringVar(&format, "format", "table", "table, json or csv")
	return cmd
}

// addWhere adds the options that say which collector is asked.
func addWhere(cmd *cobra.Command, w *where) {
	cmd.Flags().StringVar(&w.store, "store", "", "the collector's store: asks the collector that has it, or reads it when none does")
	cmd.Flags().StringVar(&w.api, "api", "", "the query socket of a running collector")
}

func hostsTable(out io.Writer, hosts []*fleet.Host) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tADDRESS\tSTATE\tFIRST SEEN\tLAST SEEN\tLAST EVENT\tRECORDS\tSIZE\tDUPLICATES\tUNPARSABLE")
	for _, h := range hosts {
		state := "-"
		if h.GetConnected() {
			state = "connected"
		}
		name := string(h.GetName())
		if name == "" {
			name = "(others)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\n", printable(name), latest(h), state,
			stamp(h.GetFirstSeenMs()), stamp(h.GetLastSeenMs()), stamp(h.GetLastEventMs()),
			h.GetRecords(), size(h.GetBytes()), h.GetDuplicates(), h.GetUnparsable())
	}
	return w.Flush()
}

func latest(h *fleet.Host) string {
	if a := h.GetAddresses(); len(a) > 0 {
		return a[0]
	}
	return "-"
}

// stamp is a time for people, in the local zone.
func stamp(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).Format("2006-01-02 15:04:05")
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

// printable keeps a host's name from moving the cursor: it came from the network.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// hostRow is a host for programs. Times are RFC 3339 in UTC, absent when unknown.
type hostRow struct {
	Host       string   `json:"host"`
	Addresses  []string `json:"addresses"`
	Connected  bool     `json:"connected"`
	FirstSeen  string   `json:"first_seen,omitempty"`
	LastSeen   string   `json:"last_seen,omitempty"`
	LastEvent  string   `json:"last_event,omitempty"`
	Records    uint64   `json:"records"`
	Bytes      uint64   `json:"bytes"`
	Duplicates uint64   `json:"duplicates"`
	Unparsable uint64   `json:"unparsable"`
}

func rowOf(h *fleet.Host) hostRow {
	utc := func(ms int64) string {
		if ms == 0 {
			return ""
		}
		return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	addrs := h.GetAddresses()
	if addrs == nil {
		addrs = []string{}
	}
	return hostRow{
		Host: string(h.GetName()), Addresses: addrs, Connected: h.GetConnected(),
		FirstSeen: utc(h.GetFirstSeenMs()), LastSeen: utc(h.GetLastSeenMs()), LastEvent: utc(h.GetLastEventMs()),
		Records: h.GetRecords(), Bytes: h.GetBytes(), Duplicates: h.GetDuplicates(), Unparsable: h.GetUnparsable(),
	}
}

func hostsJSON(out io.Writer, hosts []*fleet.Host) error {
	rows := make([]hostRow, 0, len(hosts))
	for _, h := range hosts {
		rows = append(rows, rowOf(h))
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

func hostsCSV(out io.Writer, hosts []*fleet.Host) error {
	w := csv.NewWriter(out)
	if err := w.Write([]string{"host", "address", "connected", "first_seen", "last_seen", "last_event", "records", "bytes", "duplicates", "unparsable"}); err != nil {
		return err
	}
	for _, h := range hosts {
		r := rowOf(h)
		err := w.Write([]string{
			r.Host, latest(h), strconv.FormatBool(r.Connected), r.FirstSeen, r.LastSeen, r.LastEvent,
			strconv.FormatUint(r.Records, 10), strconv.FormatUint(r.Bytes, 10),
			strconv.FormatUint(r.Duplicates, 10), strconv.FormatUint(r.Unparsable, 10),
		})
		if err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}
