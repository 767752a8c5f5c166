package importing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Exit codes of an import.
const (
	ExitDone    = 0
	ExitDamage  = 1 // done, but some of it could not be read, or taken back
	ExitNotDone = 2
)

// Command is what a command is told of an import, and what it says of it.
type Command struct {
	Name, Undo, Reason string
	Dry, List          bool
	Format             string
	// OneHost says that the logs are those of the host whose certificate asks; where that may import any, Node or
	// NodeFrom of the logs say whose they are.
	OneHost bool
	// Wait says that an import waits until the others have had their turn.
	Wait bool
	// Reread is Config.Reread.
	Reread bool

	out, err io.Writer
	json     *jsonLines       // nil: text
	shown    map[string]int   // how many files were named, by why
	damaged  int64            // files
	unnamed  int64            // records
	others   map[string]int64 // lines that are no records, by file
	other    string           // the place of the first of them
	waited   bool
}

// AddFlags adds the options that all commands have.
func (c *Command) AddFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.Name, "name", "", "the import's name (default: made of the paths)")
	f.BoolVar(&c.Dry, "dry-run", false, "say what would be done, and store nothing")
	f.BoolVar(&c.List, "list", false, "list the imports that can be taken back")
	f.StringVar(&c.Undo, "undo", "", "take the import of this name back: what it stored is dropped")
	f.StringVar(&c.Reason, "reason", "", "why it is taken back, for the log of the store")
	f.StringVar(&c.Format, "format", "text", "text or json")
}

// Check says what is wrong with the words together.
func (c *Command) Check(paths []string) error {
	switch {
	case c.Format != "text" && c.Format != "json":
		return fmt.Errorf("--format %.40q: it is text or json", c.Format)
	case c.List && c.Undo != "", (c.List || c.Undo != "") && len(paths) > 0:
		return errors.New("--list, --undo NAME and PATHs are different things to do: give one of them")
	case c.Reason != "" && c.Undo == "":
		return errors.New("--reason goes with --undo NAME")
	case (c.List || c.Undo != "") && (c.Name != "" || c.Dry || c.Reread):
		return errors.New("--list and --undo go with no option of an import")
	case !c.List && c.Undo == "" && len(paths) == 0:
		return errors.New("nothing to import: give files or folders, or --list, or --undo NAME")
	}
	return nil
}

// Start says where to write.
func (c *Command) Start(out, errs io.Writer) {
	c.out, c.err, c.shown, c.others = out, errs, map[string]int{}, map[string]int64{}
	if c.Format == "json" {
		c.json = newJSONLines(terminal.GuardAs(out, terminal.JSON))
	}
}

// Complain says what is wrong.
func (c *Command) Complain(format string, args ...any) {
	fmt.Fprintf(c.err, "import: "+format+"\n", args...)
}

// Target is who imports: a collector that runs, or this process.
type Target interface {
	// BeginImport begins one. maxDays is for how many days the collector keeps all events at least, 0: for ever, or nobody says. host is the host whose records alone may
	// be imported; "": any.
	BeginImport(ctx context.Context, name string, dry bool) (sink Sink, host string, maxDays int64, err error)
	// ListImports and UndoImport are as Client's.
	ListImports(ctx context.Context) ([]*fleet.ImportDone, error)
	UndoImport(ctx context.Context, name, reason string) (*fleet.UndoImportResponse, error)
}

// Asked does what is asked beside reading logs, and returns the exit code.
func (c *Command) Asked(ctx context.Context, t Target) int {
	if c.List {
		return c.printList(ctx, t)
	}
	done, err := t.UndoImport(ctx, c.Undo, c.Reason)
	if err != nil {
		c.Complain("%v", err)
		return ExitNotDone
	}
	return c.sayUndone(done)
}

// Named is the import's name: the given one, or for the same paths, and words beside them, the same one.
func (c *Command) Named(paths []string, beside ...string) string {
	if c.Name != "" {
		return c.Name
	}
	h := sha256.New()
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			abs = path
		}
		fmt.Fprintf(h, "%s\x00", abs)
	}
	for _, word := range beside {
		fmt.Fprintf(h, "\x00%s", word)
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

// Read imports the logs under a name, and returns the exit code.
func (c *Command) Read(ctx context.Context, cfg oldlogs.Config, name string, t Target) int {
	begin := time.Now()
	var sum Sum
	var read, stored int64
	err := c.turns(ctx, func() error {
		set, err := c.find(ctx, cfg)
		if err != nil {
			return fmt.Errorf("%w%w", err, errNothing)
		}
		sum, err = c.once(ctx, set, name, t)
		sum.Stored, sum.Skipped = sum.Stored+stored, max(0, sum.Skipped-stored)
		stored = sum.Stored
		done, _ := set.Progress()
		read = max(read, done)
		return err
	})
	c.more()
	if !errors.Is(err, errNothing) {
		c.summary(name, sum, read, time.Since(begin), err)
	}
	switch {
	case errors.Is(err, context.Canceled):
		c.Complain("interrupted: what was read is stored; give the same command again, and it goes on where it was")
		return ExitNotDone
	case err != nil:
		c.Complain("%v", err)
		return ExitNotDone
	case c.damaged > 0 || c.unnamed > 0:
		return ExitDamage
	}
	return ExitDone
}

// errNothing is returned, and adds nothing to the words, where nothing was begun.
var errNothing = errors.New("")

// turnEvery is how long an import waits between two looks whether it is its turn.
const turnEvery = 3 * time.Second

// turns calls f until it is not another one's turn.
func (c *Command) turns(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !c.Wait || !errors.Is(err, ErrTurn) {
			return err
		}
		if !c.waited {
			c.waited = true
			c.Complain("%v: waiting for it", err)
		}
		select {
		case <-time.After(turnEvery + rand.N(turnEvery)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Command) once(ctx context.Context, set *oldlogs.Set, name string, t Target) (Sum, error) {
	sink, host, maxDays, err := t.BeginImport(ctx, name, c.Dry)
	if err != nil {
		return Sum{}, fmt.Errorf("%w%w", err, errNothing)
	}
	switch {
	case host != "":
		for _, f := range set.Files {
			f.Node = host
		}
	case c.OneHost:
		if err := c.nobodys(set); err != nil {
			_, ierr := sink.Interrupt(ctx)
			return Sum{}, errors.Join(err, ierr)
		}
	}
	c.sayRetention(set, maxDays)
	begin := time.Now()
	end := terminal.Status(c.err, func() string { return progress(set, begin) })
	defer end()
	return Read(ctx, set, sink, Config{Done: c.done, Reread: c.Reread})
}
