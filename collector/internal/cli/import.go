package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/importer"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
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
the store itself. With --server, logs of this machine go to a collector on another one, for a certificate of the role
admin. What is imported is no sign of life of a host, and is in no account of its completeness.

Exit codes: 0 done, 1 done, but some of it could not be read, 2 not done, or interrupted.`

// importFlags are what the command is told.
type importFlags struct {
	where
	program            *program
	node, nodeFrom     string
	name, undo, reason string
	dry, list          bool
	format             string
	json               *importJSON // nil: text
	begin              time.Time
	shown              map[string]int // how many files were named, by why
	damaged, unnamed   int64
}

func (p *program) importCommand() *cobra.Command {
	f := &importFlags{program: p, shown: map[string]int{}}
	cmd := &cobra.Command{
		Use:   "import PATH… | --list | --undo NAME",
		Short: "Read old logs into the store, each record once",
		Long:  importHelp,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args); err != nil {
				return command.Wrong(err)
			}
			f.begin = time.Now()
			return p.coded(f.run(cmd.Context(), args))
		},
		ValidArgsFunction: completion.By(nil, option.Files),
	}
	fl := cmd.Flags()
	addWhere(cmd, &f.where)
	fl.StringVar(&f.node, "node", "", "the host of records that name none")
	fl.StringVar(&f.nodeFrom, "node-from", "", "a pattern of paths in which {node} is the host of records that name none")
	fl.StringVar(&f.name, "name", "", "the import's name (default: made of the paths)")
	fl.BoolVar(&f.dry, "dry-run", false, "say what would be done, and store nothing")
	fl.BoolVar(&f.list, "list", false, "list the imports that can be taken back")
	fl.StringVar(&f.undo, "undo", "", "take the import of this name back: what it stored is dropped")
	fl.StringVar(&f.reason, "reason", "", "why it is taken back, for the log of the store")
	fl.StringVar(&f.format, "format", "text", "text or json")
	completion.Flags(cmd, map[string]option.Words{"store": option.Folders, "api": option.Files, "tls-ca": option.Files, "tls-cert": option.Files, "tls-key": option.Files, "format": option.These("text", "json")})
	return cmd
}

// check says what is wrong with the words together.
func (f *importFlags) check(args []string) error {
	switch {
	case f.format != "text" && f.format != "json":
		return fmt.Errorf("--format %.40q: it is text or json", f.format)
	case f.store != "" && f.api != "":
		return errors.New("--store and --api: only one of them can be asked")
	case f.list && f.undo != "", (f.list || f.undo != "") && len(args) > 0:
		return errors.New("--list, --undo NAME and PATHs are different things to do: give one of them")
	case f.reason != "" && f.undo == "":
		return errors.New("--reason goes with --undo NAME")
	case (f.list || f.undo != "") && (f.node != "" || f.nodeFrom != "" || f.name != "" || f.dry):
		return errors.New("--list and --undo go with no option of an import")
	case !f.list && f.undo == "" && len(args) == 0:
		return errors.New("nothing to import: give files or folders, or --list, or --undo NAME")
	}
	if f.name != "" {
		if err := store.CheckImport(f.name); err != nil {
			return err
		}
	}
	return f.where.check()
}

func (f *importFlags) complain(format string, args ...any) {
	fmt.Fprintf(f.program.stdio.Err, "import: "+format+"\n", args...)
}

// run does what is asked, says what is wrong, and returns the exit code.
func (f *importFlags) run(ctx context.Context, args []string) (code int) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if f.format == "json" {
		f.json = newImportJSON(terminal.GuardAs(f.program.stdio.Out, terminal.JSON))
	}
	set, err := f.find(ctx, args)
	if err != nil {
		f.complain("%v", err)
		return exitNotDone
	}
	client, dir, err := f.where.client(ctx)
	if err != nil {
		f.complain("%v", err)
		return exitNotDone
	}
	if client != nil {
		defer func() { _ = client.Close() }() // of a connection that was only used to ask
		return f.by(ctx, set, args, collecting{client, f.program.words})
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: terminal.GuardLog(f.program.stdio.Err), Level: hclog.Warn})
	if uid, _, other := owner(dir); other && !f.dry && !f.list {
		f.complain("the store %s belongs to the user with uid %d, who could not read what is made there now: start the collector, which then imports what this command reads, or run this as that user", dir, uid)
		return exitNotDone
	}
	o, err := server.OpenImports(dir, f.dry || f.list, 0, log)
	if err != nil {
		f.complain("%v", err)
		return exitNotDone
	}
	defer func() {
		if err := o.Close(); err != nil {
			f.complain("%v", err)
			code = max(code, exitDamage)
		}
	}()
	return f.by(ctx, set, args, offline{o})
}

// imports is who imports: a collector that runs, or this process.
type imports interface {
	begin(ctx context.Context, name string, dry bool) (sink importer.Sink, maxDays int64, err error)
	list(ctx context.Context) ([]*fleet.ImportDone, error)
	undo(ctx context.Context, name, reason string) (records int64, err error)
}

type collecting struct {
	*api.Client
	words []string
}

func (c collecting) begin(ctx context.Context, name string, dry bool) (importer.Sink, int64, error) {
	i, err := c.BeginImport(ctx, name, dry, c.words[1:])
	if err != nil {
		return nil, 0, err
	}
	return i, i.MaxDays, nil
}

func (c collecting) list(ctx context.Context) ([]*fleet.ImportDone, error) { return c.Imports(ctx) }

func (c collecting) undo(ctx context.Context, name, reason string) (int64, error) {
	return c.UndoImport(ctx, name, reason)
}

type offline struct{ *server.OfflineImports }

func (o offline) begin(ctx context.Context, name string, dry bool) (importer.Sink, int64, error) {
	return o.BeginImport(ctx, name, server.Self(), dry)
}

func (o offline) list(ctx context.Context) (out []*fleet.ImportDone, err error) {
	list, err := o.ListImports(ctx)
	for i := range list {
		out = append(out, api.FromImport(&list[i]))
	}
	return out, err
}

func (o offline) undo(ctx context.Context, name, reason string) (int64, error) {
	return o.UndoImport(ctx, name, api.WhyUndone(name, reason, server.Self()))
}

func (f *importFlags) by(ctx context.Context, set *oldlogs.Set, args []string, x imports) int {
	switch {
	case f.list:
		return f.printList(ctx, x)
	case f.undo != "":
		n, err := x.undo(ctx, f.undo, f.reason)
		if err != nil {
			f.complain("%v", err)
			return exitNotDone
		}
		if f.json != nil {
			f.json.line(map[string]any{"undone": f.undo, "records": n})
		} else {
			fmt.Fprintf(f.program.stdio.Out, "import %s was taken back: %d records are dropped\n", f.undo, n)
		}
		return 0
	}
	return f.read(ctx, set, args, x)
}

// importName is the name of an import that is given none: the same for the same paths.
func importName(paths []string) string {
	h := sha256.New()
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			abs = path
		}
		fmt.Fprintf(h, "%s\x00", abs)
	}
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, filepath.Base(filepath.Clean(paths[0])))
	base = strings.TrimLeft(base[:min(len(base), 40)], ".-_")
	return strings.TrimLeft(fmt.Sprintf("%s-%x", base, h.Sum(nil)[:4]), "-")
}
