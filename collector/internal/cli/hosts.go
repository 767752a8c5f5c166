package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/several"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/pkg/timespec"
)

// silentAfter is how long a host may send nothing before it is shown as silent: a running
// Linux host has a cron job or a session in that time.
const silentAfter = time.Hour

// Exit codes of hosts. With --silent they are for cron: exitSilent says that a host has
// fallen silent, and only that.
const (
	exitSilent      = 1
	exitHostsUsage  = 2 // wrong words, or a host is named that is not known
	exitNoCollector = 3 // whether hosts are silent could not be found out, or one of several collectors did not answer
)

const hostsHelp = `hosts lists the hosts that records came from: where from, whether they are connected, how long ago the last
record came, LAG, how late the newest event was received, how many records a second they send (over about the
last minute), how many records and bytes there were ever, and LOST, how many records they said that they lost
themselves. TLS says whose name was proved, and MISMATCH how many records claim to be another host's than the one
that they are kept under; both stand there where some host has it. NAMES choose hosts, and may be patterns such as 'web*'. The collector's own records stand apart.

With --silent AGE only hosts are listed that nothing came from for longer, connected or not, and the exit code
is 0 for none, 1 for some, 2 for wrong words or an unknown name, and 3 when no collector could be asked.

Of several collectors that keep their events in one cluster, COLLECTOR says which have received from a host, the latest
first; one that is silent, stopped or lost is said on standard error, and stands so behind its name. --forget-collector NAME
says that one is gone for good: how many records of which hosts are lost with it, which coverage says from then on.

With --also, COLLECTOR says which collectors have a host's records, that which heard of it last first, and numbers are
added up. The exit code is 3 when one of them does not answer.

--forget takes hosts off the list, to make room for others: by name, by a pattern ('web*'; hosts 'web*' shows
first which these are), or by an address, which stands for all that are known from there only. Their records
stay, and are found. --reattribute says whose the records are
that came from an address without a name: search -n HOST finds them from then on, too. ADDRESS= takes that back.`

// hostFlags are what hosts is told.
type hostFlags struct {
	where
	format string
	silent time.Duration // --silent; 0: not given
	change hostChange
	list   hostList
	names  []string
	// collector is the one of a cluster that is gone for good, with --forget-collector.
	collector string
	lacking   int // exit code where one of several collectors did not answer
	program   *program
}

func (p *program) hostsCommand() *cobra.Command {
	f := &hostFlags{program: p, list: hostList{now: time.Now(), silentAfter: silentAfter}}
	cmd := &cobra.Command{
		Use: "hosts [NAMES] [--silent AGE] [--wide] [--format table|json|csv] [--csv-safe] [--silent-after AGE] [--store DIR | --api SOCKET] [--also HOST:PORT,…] " +
			"[--forget NAME|PATTERN|ADDRESS…] [--reattribute ADDRESS=HOST] [--forget-collector NAME]",
		Short: "List the hosts that records came from",
		Long:  hostsHelp,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.names = args
			err := f.run(cmd)
			var wrong *command.UsageError
			if err != nil && !errors.Is(err, errReported) && !errors.As(err, &wrong) {
				return fmt.Errorf("hosts: %w", err)
			}
			return err
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		p.code = exitHostsUsage // cron must not take --silent without AGE for a silent host
		return cmd.Parent().FlagErrorFunc()(cmd, err)
	})
	flags := cmd.Flags()
	cmd.ValidArgsFunction = completeHosts
	addWhere(cmd, &f.where)
	addAlso(cmd, &f.where)
	flags.StringVar(&f.format, "format", "table", "table, json or csv")
	flags.BoolVar(&f.list.wide, "wide", false, "a table of all that is known, all addresses too, as wide as it is")
	flags.BoolVar(&f.list.csvSafe, "csv-safe", false, "csv with ' before cells that a spreadsheet would run as formulas (= + - @)")
	flags.Var(age{&f.silent}, "silent", "list only hosts not heard of for longer, with an exit code for cron")
	flags.Var(age{&f.list.silentAfter}, "silent-after", "a host not heard of for longer stands out; 0 for none")
	flags.StringArrayVar(&f.change.forget, "forget", nil, "take hosts off the list, by name, pattern or address; their records stay")
	flags.StringVar(&f.collector, "forget-collector", "", "a collector of the same cluster is gone for good, its journal, too: say what is lost with it")
	flags.StringArrayVar(&f.change.reattribute, "reattribute", nil, "ADDRESS=HOST: what came from there without node= is that host's, too")
	if err := cmd.RegisterFlagCompletionFunc("forget", completeHosts); err != nil {
		panic(err) // there is the flag: a mistake of this function
	}
	completion.Flags(cmd, map[string]option.Words{"format": option.These("table", "json", "csv"), "store": option.Folders, "api": option.Files, "tls-ca": option.Files, "tls-cert": option.Files, "tls-key": option.Files})
	return cmd
}

// addWhere adds the options that say which collector is asked.
func addWhere(cmd *cobra.Command, w *where) {
	cmd.Flags().StringVar(&w.store, "store", "", "the collector's store: asks the collector that has it, or reads it when none does")
	cmd.Flags().StringVar(&w.api, "api", "", "the query socket of a running collector")
	cmd.Flags().StringVar(&w.server, "server", "", "HOST:PORT of a collector on another machine, by its gRPC port")
	cmd.Flags().StringVar(&w.tls.CA, "tls-ca", "", "certificates of the CAs by which it is known")
	cmd.Flags().StringVar(&w.tls.Cert, "tls-cert", "", "the certificate of who asks")
	cmd.Flags().StringVar(&w.tls.Key, "tls-key", "", "its key")
}

// age is a flag for a time such as 90s, 1h or 2d.
type age struct{ to *time.Duration }

// Set implements pflag.Value.
func (a age) Set(text string) (err error) {
	*a.to, err = timespec.Duration(text)
	return err
}

// String implements pflag.Value.
func (a age) String() string {
	if a.to == nil || *a.to == 0 {
		return ""
	}
	return span(*a.to)
}

// Type implements pflag.Value.
func (age) Type() string { return "AGE" }

// wrong is an error of the words given.
func (f *hostFlags) wrong(err error) error {
	f.program.code = exitHostsUsage
	return command.Wrong(err)
}

// run makes the change or writes the list that the flags ask for.
func (f *hostFlags) run(cmd *cobra.Command) error {
	if f.change.asked() {
		c, err := f.change.change(f.names)
		if err != nil {
			return f.wrong(err)
		}
		err = f.program.changeHosts(cmd.Context(), f.where, c)
		switch {
		case errors.Is(err, store.ErrNoHost):
			f.program.code = exitHostsUsage
		case err != nil:
			f.program.code = exitNoCollector
		}
		return err
	}
	if f.collector != "" {
		err := f.program.forgetCollector(cmd.Context(), f.where, f.collector)
		switch {
		case errors.Is(err, api.ErrNoCollector):
			f.program.code = exitHostsUsage
		case err != nil:
			f.program.code = exitNoCollector
		}
		return err
	}
	onlySilent := cmd.Flags().Changed("silent")
	write, ok := map[string]func(*hostList, io.Writer) error{"table": (*hostList).table, "json": (*hostList).json, "csv": (*hostList).csv}[f.format]
	switch {
	case !ok:
		return f.wrong(fmt.Errorf("--format %s: it is table, json or csv", f.format))
	case onlySilent && f.silent <= 0:
		return f.wrong(errors.New("--silent: an age such as 10m, 1h or 2d is wanted"))
	case onlySilent && cmd.Flags().Changed("silent-after"):
		return f.wrong(errors.New("--silent AGE says after which time a host is silent: leave --silent-after out"))
	case onlySilent:
		f.list.silentAfter, f.list.onlySilent = f.silent, true
	}
	if err := f.read(cmd.Context()); err != nil {
		return err
	}
	if err := f.list.choose(f.names); err != nil {
		f.program.code = exitHostsUsage
		return err
	}
	err := f.write(write)
	if f.lacking != 0 && (err == nil || errors.Is(err, errReported)) {
		f.program.code = f.lacking
		return errReported
	}
	return err
}

// read asks for the hosts.
func (f *hostFlags) read(ctx context.Context) (err error) {
	src, err := f.openAll(ctx, f.program, f.program.stdio.Err)
	if err != nil {
		f.program.code = exitNoCollector
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if _, files := src.(*server.ReadOnly); files && f.list.onlySilent {
		f.program.code = exitNoCollector
		return errors.New("--silent: no collector runs on this store, so every host is silent; start it, or list what the store knows without --silent")
	}
	switch src := src.(type) {
	case *several.Source:
		f.list.whose, err = src.HostsOfEach(ctx)
		f.list.known = several.Hosts(f.list.whose)
	case *api.Client:
		f.list.known, f.list.cluster, err = src.HostsOfCluster(ctx)
	default:
		f.list.known, err = src.Hosts(ctx)
	}
	if err != nil {
		f.program.code = exitNoCollector
		return err
	}
	f.list.sayCluster(f.program.stdio.Err)
	f.lacking = lacking(src, "hosts", 0, f.format == "json", &f.list.lacks, f.program.stdio.Err)
	return nil
}

// write writes the list, and on standard error how many hosts are silent.
func (f *hostFlags) write(write func(*hostList, io.Writer) error) error {
	l, out := &f.list, f.program.stdio.Out
	l.bold, l.toTerminal = bold(out), terminal.IsTerminal(out)
	l.columns = columnsOf(out)
	switch {
	case f.format == "json":
		out = terminal.GuardAs(out, terminal.JSON)
	case f.format == "table" && l.bold:
		out = terminal.GuardAs(out, terminal.Styled)
	}
	if l.onlySilent && l.silent == 0 && f.format == "table" {
		return nil // cron sends mail of whatever is printed
	}
	if err := write(l, out); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	if f.format == "table" && l.silent > 0 {
		fmt.Fprintf(f.program.stdio.Err, "%d of %d hosts have been silent for longer than %s\n", l.silent, l.chosen, span(l.silentAfter))
	}
	if l.onlySilent && l.silent > 0 {
		f.program.code = exitSilent
		return errReported
	}
	return nil
}
