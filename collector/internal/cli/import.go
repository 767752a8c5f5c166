package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const importHelp = `Read old audit logs into the store, each record once: files, and folders with all that is below them; plain ones and
those of gzip, zstd, xz and bzip2, whatever their names; of daemons of any age, and what syslog has put before the
records. The oldest file is read first. Links in folders are not followed.

A record's host is its node=, or the host that syslog names; where it has neither, what --node-from finds in the
file's path (a pattern such as '/logs/{node}/audit/*'; * is any text without a slash, ** any text), or --node.

A record that the store has is not stored again, whether it came from its host, or from another file or import, and
whatever the file's name and compression are. Identical records within one file stay as many as they are. An import
that was interrupted goes on where it was when the same command is given again; of a file that has grown, what is new
is read.

The collector that has the store imports while it runs, for root and its own user; where none runs, the command opens
the store itself. Where that collector was killed, what it accepted last goes into the store then, by the configuration that
--config names, its own. With --server, logs of this machine go to a collector on another one, for a certificate of the role
admin. What is imported is no sign of life of a host, and is in no account of its completeness.

Exit codes: 0 done, 1 done, but some of it could not be read, or taken back, 2 not done, or interrupted.`

// importFlags are what the command is told.
type importFlags struct {
	where
	importing.Command
	program        *program
	node, nodeFrom string
	config         string // of the store's collector
}

func (p *program) importCommand() *cobra.Command {
	f := &importFlags{program: p}
	cmd := &cobra.Command{
		Use:   "import PATH… | --list | --undo NAME",
		Short: "Read old logs into the store, each record once",
		Long:  importHelp,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args); err != nil {
				return command.Wrong(err)
			}
			return p.coded(f.run(cmd.Context(), args))
		},
		ValidArgsFunction: completion.By(nil, option.Files),
	}
	fl := cmd.Flags()
	addWhere(cmd, &f.where)
	fl.StringVar(&f.node, "node", "", "the host of records that name none")
	fl.StringVar(&f.nodeFrom, "node-from", "", "a pattern of paths in which {node} is the host of records that name none")
	fl.StringVar(&f.config, "config", "", "the configuration of the store's collector, where that does not run (and the store, without --store)")
	fl.BoolVar(&f.Reread, "reread", false, "read files again that an earlier import has read, and store what of them is not there any more")
	f.AddFlags(cmd)
	completion.Flags(cmd, map[string]option.Words{"config": option.Files, "store": option.Folders, "api": option.Files, "tls-ca": option.Files, "tls-cert": option.Files, "tls-key": option.Files, "format": option.These("text", "json")})
	return cmd
}

// check says what is wrong with the words together.
func (f *importFlags) check(args []string) error {
	switch {
	case f.store != "" && f.api != "":
		return errors.New("--store and --api: only one of them can be asked")
	case f.config != "" && (f.api != "" || f.server != ""):
		return errors.New("--config is for a store whose collector does not run: it goes with neither --api nor --server")
	case (f.List || f.Undo != "") && (f.node != "" || f.nodeFrom != ""):
		return errors.New("--list and --undo go with no option of an import")
	}
	if err := f.Check(args); err != nil {
		return err
	}
	if f.Name != "" {
		if err := store.CheckImport(f.Name); err != nil {
			return err
		}
	}
	return f.where.check()
}

// run does what is asked, says what is wrong, and returns the exit code.
func (f *importFlags) run(ctx context.Context, args []string) (code int) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	f.Start(f.program.stdio.Out, f.program.stdio.Err)
	cfg := oldlogs.Config{Paths: args, Node: f.node}
	var err error
	if f.nodeFrom != "" {
		if cfg.NodeFrom, err = oldlogs.ParsePattern(f.nodeFrom); err != nil {
			f.Complain("%v", err)
			return importing.ExitNotDone
		}
	}
	of, err := f.collector()
	if err != nil {
		f.Complain("%v", err)
		return importing.ExitNotDone
	}
	client, dir, err := f.where.client(ctx)
	if err != nil {
		f.Complain("%v", err)
		return importing.ExitNotDone
	}
	if client != nil {
		defer func() { _ = client.Close() }() // of a connection that was only used to ask
		return f.by(ctx, cfg, collecting{client.Imports(), f.program.words})
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: terminal.GuardLog(f.program.stdio.Err), Level: hclog.Warn})
	if uid, _, other := owner(dir); other && !f.Dry && !f.List {
		f.Complain("the store %s belongs to the user with uid %d, who could not read what is made there now: start the collector, which then imports what this command reads, or run this as that user", dir, uid)
		return importing.ExitNotDone
	}
	o, err := server.OpenImports(dir, f.Dry || f.List, of, log)
	if err != nil {
		f.Complain("%v", err)
		return importing.ExitNotDone
	}
	defer func() {
		if err := o.Close(); err != nil {
			f.Complain("%v", err)
			code = max(code, importing.ExitDamage)
		}
	}()
	return f.by(ctx, cfg, offline{o})
}

// collector reads the configuration of the store's collector, which also says where the store is; nil: none is given.
func (f *importFlags) collector() (*server.Config, error) {
	if f.config == "" {
		return nil, nil
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	newOptions().table().AddFlags(flags)
	if err := flags.Set("config", f.config); err != nil {
		return nil, err
	}
	o, _, err := configure(flags)
	if err != nil {
		return nil, err
	}
	if engine.IsCluster(o.server.Store) {
		return nil, errors.New("--config is of a collector whose events are in a cluster, which takes no imports: import into one with a store in its own files, and search it beside this one (--also)")
	}
	f.store = cmp.Or(f.store, o.server.Store)
	return &o.server, nil
}

func (f *importFlags) by(ctx context.Context, cfg oldlogs.Config, t importing.Target) int {
	if f.List || f.Undo != "" {
		return f.Asked(ctx, t)
	}
	return f.Read(ctx, cfg, f.Named(cfg.Paths), t)
}

// collecting are imports of a collector that runs.
type collecting struct {
	*importing.Client
	words []string
}

func (c collecting) BeginImport(ctx context.Context, name string, dry bool) (importing.Sink, string, int64, error) {
	return c.Started(c.Begin(ctx, name, dry, c.words[1:]))
}

// offline are imports by this process.
type offline struct{ *server.OfflineImports }

func (o offline) BeginImport(ctx context.Context, name string, dry bool) (importing.Sink, string, int64, error) {
	sink, maxDays, err := o.OfflineImports.BeginImport(ctx, api.Importing{Name: name, By: server.Self(), Dry: dry})
	return sink, "", maxDays, err
}

func (o offline) ListImports(ctx context.Context) (out []*fleet.ImportDone, err error) {
	list, err := o.OfflineImports.ListImports(ctx, "")
	for i := range list {
		out = append(out, api.FromImport(&list[i]))
	}
	return out, err
}

func (o offline) UndoImport(ctx context.Context, name, reason string) (*fleet.UndoImportResponse, error) {
	done, err := o.OfflineImports.UndoImport(ctx, name, api.WhyUndone(name, reason, server.Self()))
	return api.FromUndone(done), err
}
