package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const holdHelp = `hold keeps what retention would drop: nothing that is on hold is dropped, not for max_days, not for max_bytes, and
not where the disk is full; then records are refused instead, as they are on any full disk.

A DAY is a day of receipt (UTC), such as 2026-11-22, or days such as 2026-11-01..2026-11-05, both included. A HOST is
a name or a pattern ('web*'): every day that has events of such a host is kept whole, now and later.

add and remove are recorded in the collector's own records, with who asked.`

const (
	exitHoldUsage   = 2 // wrong words, or a hold to be removed is not there
	exitHoldNotDone = 3 // no collector could be asked, or the list could not be kept
)

// holdFlags are what a command of hold is told.
type holdFlags struct {
	where
	program *program
	reason  string
	all     bool
	format  string
}

func (p *program) holdCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "hold", Short: "Keep days and hosts from being dropped", Long: holdHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			p.code = command.ExitUsage
			return errReported
		}}
	add := p.holdPart("add HOST|DAY… [--reason TEXT]", "Put hosts and days on hold", func(f *holdFlags, ctx context.Context, args []string) error {
		return f.change(ctx, hold.Change{Add: args, Reason: f.reason})
	})
	remove := p.holdPart("remove HOST|DAY… | --all [--reason TEXT]", "Take hosts and days off hold", func(f *holdFlags, ctx context.Context, args []string) error {
		return f.change(ctx, hold.Change{Remove: args, All: f.all, Reason: f.reason})
	})
	list := p.holdPart("list [--format table|json]", "List what is on hold", func(f *holdFlags, ctx context.Context, _ []string) error { return f.list(ctx) })
	cmd.AddCommand(add, list, remove)
	return cmd
}

// holdPart is one command of hold.
func (p *program) holdPart(use, short string, run func(*holdFlags, context.Context, []string) error) *cobra.Command {
	f := &holdFlags{program: p}
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	name, _, _ := strings.Cut(use, " ")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(name, args); err != nil {
			p.code = exitHoldUsage
			return command.Wrong(err)
		}
		err := run(f, cmd.Context(), args)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, hold.ErrWords), errors.Is(err, hold.ErrNoHold):
			p.code = exitHoldUsage
		default:
			p.code = exitHoldNotDone
		}
		return fmt.Errorf("hold: %w", err)
	}
	addWhere(cmd, &f.where)
	words := map[string]option.Words{"store": option.Folders, "api": option.Files, "tls-ca": option.Files, "tls-cert": option.Files, "tls-key": option.Files}
	switch name {
	case "list":
		cmd.Flags().StringVar(&f.format, "format", "table", "table or json")
		words["format"] = option.These("table", "json")
	case "remove":
		cmd.Flags().BoolVar(&f.all, "all", false, "remove all, and begin a new list where the one that there is cannot be believed")
		fallthrough
	default:
		cmd.Flags().StringVar(&f.reason, "reason", "", "why, in a line: kept with the hold and in the record")
	}
	cmd.ValidArgsFunction = map[string]cobra.CompletionFunc{"add": completeHeld, "remove": completeHolds, "list": cobra.NoFileCompletions}[name]
	completion.Flags(cmd, words)
	return cmd
}

// check returns what is wrong with the words of a command.
func (f *holdFlags) check(name string, args []string) error {
	switch {
	case name == "list" && len(args) > 0:
		return fmt.Errorf("%q: hold list takes no names", args[0])
	case name == "list" && f.format != "table" && f.format != "json":
		return fmt.Errorf("--format %s: it is table or json", f.format)
	case name == "list":
		return nil
	case f.all && len(args) > 0:
		return errors.New("--all stands for all holds: leave the names out")
	case !f.all && len(args) == 0:
		return fmt.Errorf("hold %s: name a host, a pattern or a day", name)
	}
	return nil
}

// change makes a change at the collector that has the store, or in its files when none does.
func (f *holdFlags) change(ctx context.Context, c hold.Change) error {
	done, err := f.changeAt(ctx, c)
	if err != nil {
		return err
	}
	out := f.program.stdio.Out
	for _, d := range done {
		fmt.Fprintln(out, map[string]string{"add": "on hold:", "remove": "no longer on hold:"}[d.Op], terminal.Clean(d.What))
	}
	if len(done) == 0 {
		fmt.Fprintln(out, "all of that is on hold already")
	}
	return nil
}

func (f *holdFlags) changeAt(ctx context.Context, c hold.Change) ([]hold.Done, error) {
	if err := f.where.check(); err != nil {
		return nil, err
	}
	client, dir, err := f.where.client(ctx)
	if err != nil {
		return nil, err
	}
	if client == nil {
		log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: terminal.GuardLog(f.program.stdio.Err), Level: hclog.Warn})
		return server.ChangeHolds(dir, c, log)
	}
	f.unknown(ctx, client, c.Add)
	done, err := client.ChangeHolds(ctx, c)
	return done, errors.Join(err, client.Close())
}

// unknown says which hosts to be put on hold nobody knows yet: that may be meant, or a slip.
func (f *holdFlags) unknown(ctx context.Context, client *api.Client, words []string) {
	hosts, err := client.Hosts(ctx)
	if err != nil {
		return // the change says so
	}
	for _, w := range words {
		h := hold.Hold{What: w}
		known := !h.IsHost()
		for _, x := range hosts {
			known = known || h.OfHost(string(x.GetName()))
		}
		if !known {
			fmt.Fprintf(f.program.stdio.Err, "hold: no host called %s is known: it is on hold from its first record on\n", terminal.Clean(w))
		}
	}
}

// client connects to the collector that is named, or has the store; nil where none has it, with the store's
// folder.
func (w where) client(ctx context.Context) (c *api.Client, dir string, err error) {
	if w.server != "" {
		c, err = dial(ctx, w.server, w.tls)
		return c, "", err
	}
	path, dir := w.api, w.store
	if path == "" {
		if dir == "" {
			dir = server.DefaultStore
		}
		path = filepath.Join(dir, server.APISocket)
	}
	c, err = api.Dial(ctx, path)
	if errors.Is(err, api.ErrNoServer) && w.api == "" {
		return nil, dir, nil
	}
	return c, dir, err
}

// list prints the holds.
func (f *holdFlags) list(ctx context.Context) (err error) {
	src, err := f.open(ctx, f.program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	holder, ok := src.(interface {
		Holds(context.Context) (*fleet.HoldsResponse, error)
	})
	if !ok {
		return errors.New("nothing is on hold there")
	}
	list, err := holder.Holds(ctx)
	if err != nil {
		return err
	}
	if f.format == "json" {
		return f.json(list)
	}
	f.table(list)
	if list.GetBroken() != "" {
		f.program.code = exitHoldNotDone
		fmt.Fprintf(f.program.stdio.Err, "hold: everything is on hold, for the list can't be believed: %s; put it back and start the collector again, or begin a new one by `collector hold remove --all`\n", terminal.Clean(list.GetBroken()))
		return errReported
	}
	return nil
}

func (f *holdFlags) table(list *fleet.HoldsResponse) {
	out := f.program.stdio.Out
	rows := [][]string{{"HOLD", "SINCE", "DAYS", "SIZE", "REASON"}}
	for _, h := range list.GetHolds() {
		rows = append(rows, []string{terminal.Clean(string(h.GetWhat())), time.UnixMilli(h.GetAtMs()).UTC().Format(time.DateOnly),
			fmt.Sprint(h.GetPartitions()), terminal.Size(h.GetBytes()), terminal.Clean(string(h.GetReason()))})
	}
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len(c))
		}
	}
	for _, r := range rows {
		line := fmt.Sprintf("%-*s  %-*s  %*s  %*s  %s", width[0], r[0], width[1], r[1], width[2], r[2], width[3], r[3], r[4])
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
	fmt.Fprintf(out, "on hold in all: %d days or parts of days, %s, %d events\n", list.GetPartitions(), terminal.Size(list.GetBytes()), list.GetEvents())
}

// holdRow is a hold for programs.
type holdRow struct {
	Hold       string `json:"hold"`
	Kind       string `json:"kind"` // host or day
	Reason     string `json:"reason,omitempty"`
	By         string `json:"by,omitempty"`
	At         string `json:"at"`
	Partitions uint32 `json:"partitions"`
	Bytes      uint64 `json:"bytes"`
	Events     uint64 `json:"events"`
}

func (f *holdFlags) json(list *fleet.HoldsResponse) error {
	out := struct {
		Holds      []holdRow `json:"holds"`
		Broken     string    `json:"broken,omitempty"`
		Partitions uint32    `json:"partitions"`
		Bytes      uint64    `json:"bytes"`
		Events     uint64    `json:"events"`
	}{Holds: []holdRow{}, Broken: list.GetBroken(), Partitions: list.GetPartitions(), Bytes: list.GetBytes(), Events: list.GetEvents()}
	for _, h := range list.GetHolds() {
		one := hold.Hold{What: string(h.GetWhat())}
		kind := "day"
		if one.IsHost() {
			kind = "host"
		}
		out.Holds = append(out.Holds, holdRow{Hold: one.What, Kind: kind, Reason: string(h.GetReason()), By: string(h.GetBy()),
			At: time.UnixMilli(h.GetAtMs()).UTC().Format("2006-01-02T15:04:05.000Z07:00"), Partitions: h.GetPartitions(), Bytes: h.GetBytes(), Events: h.GetEvents()})
	}
	enc := json.NewEncoder(terminal.GuardAs(f.program.stdio.Out, terminal.JSON))
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

// completeHeld offers hosts, and the days of which events are stored, as far as hosts tell: from the first
// to the last receipt, the latest ones.
func completeHeld(cmd *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
	before = toldWhere(cmd, before)
	words := beginning(offeredHosts(before, typed), typed)
	if typed == "" || typed[0] < '0' || typed[0] > '9' {
		return completion.Answer(option.Found{Words: words})
	}
	var first, last int64
	askFor(before, func(ctx context.Context, c *api.Client) error {
		hosts, err := c.Hosts(ctx)
		for _, h := range hosts {
			if at := h.GetFirstSeenMs(); at > 0 && (first == 0 || at < first) {
				first = at
			}
			last = max(last, h.GetLastSeenMs())
		}
		return err
	})
	for at, n := time.UnixMilli(last).UTC(), 0; last > 0 && n < offerWords && at.Format(time.DateOnly) >= time.UnixMilli(first).UTC().Format(time.DateOnly); at, n = at.AddDate(0, 0, -1), n+1 {
		if day := at.Format(time.DateOnly); strings.HasPrefix(day, typed) {
			words = append(words, day)
		}
	}
	return completion.Answer(option.Found{Words: words})
}

// completeHolds offers what is on hold.
func completeHolds(cmd *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
	var words []string
	askFor(toldWhere(cmd, before), func(ctx context.Context, c *api.Client) error {
		list, err := c.Holds(ctx)
		for _, h := range list.GetHolds() {
			if w := string(h.GetWhat()); offerable(w, typed) {
				words = append(words, w)
			}
		}
		return err
	})
	return completion.Answer(option.Found{Words: words})
}
