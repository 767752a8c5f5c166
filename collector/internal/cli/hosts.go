package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// silentAfter is how long a host may send nothing before it is shown as silent: a running
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
			l.add(hosts)
			l.bold = bold(p.stdio.Out)
			out := p.stdio.Out
			l.toTerminal = terminal.IsTerminal(out)
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

// addWhere adds the options that say which collector is asked.
func addWhere(cmd *cobra.Command, w *where) {
	cmd.Flags().StringVar(&w.store, "store", "", "the collector's store: asks the collector that has it, or reads it when none does")
	cmd.Flags().StringVar(&w.api, "api", "", "the query socket of a running collector")
}

// hostList is the list that hosts prints: which hosts, and how they are shown.
type hostList struct {
	now         time.Time
	silentAfter time.Duration
	onlySilent  bool
	bold        bool
	toTerminal  bool
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

// add puts hosts on the list, only silent ones where these are asked for, and counts the
// silent ones.
func (l *hostList) add(hosts []*fleet.Host) {
	for _, h := range hosts {
		r := rowOf(h)
		quiet := l.now.Sub(time.UnixMilli(h.GetLastSeenMs()))
		// The collector's own events have no address, and no rhythm: they are never silent.
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

func write(out io.Writer, text []byte) error {
	_, err := out.Write(text)
	return err
}
