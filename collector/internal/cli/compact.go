package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/retention"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

func (p *program) compactCommand() *cobra.Command {
	var key string
	var retain []string
	how := store.Compaction{After: server.DefaultCompactAfter, ImportAfter: server.DefaultCompactImportAfter}
	cmd := p.onStore(&cobra.Command{
		Use:   "compact [--store DIR]",
		Short: "Write the days of a store again, in less room and so that they are searched sooner",
		Long: `Write each day that is over again: its events go into partitions of the days in which they happened, in a few large
groups. Searches give the same answers, sooner. What is written is read again before it takes the place of what was there; an
interrupted compaction leaves the store as it was. The disk needs room for a day twice.

A collector does that by itself, in the background, unless ` + "`compact = no`" + `. This command is for a store that no collector has.
Where its collector.conf has ` + "`retain`" + ` lines, give them here, too: a day that is not divided by them is kept for the longest time of all.

Exit codes: 0 all days that are over are compacted, 1 some are not, which are named, 2 not done.`,
		Args: command.Args(),
	}, func(ctx context.Context, dir string, _ []string) int {
		var rules retention.Rules
		for _, line := range retain {
			if err := rules.Add(line); err != nil {
				fmt.Fprintf(p.stdio.Err, "compact: --retain %q: %v\n", line, err)
				return exitNotDone
			}
		}
		how.Classes = rules.Classes()
		return p.compact(ctx, dir, key, how)
	})
	cmd.Flags().StringVar(&key, "key", server.DefaultSealKey, "the key that signs the store's log; a store whose log was ever signed needs it")
	cmd.Flags().DurationVar(&how.After, "after", how.After, "how long a day is over before it is compacted")
	cmd.Flags().BoolVar(&how.Today, "today", false, "compact what of days that are not over is sealed, too, such as by SIGUSR1")
	cmd.Flags().DurationVar(&how.ImportAfter, "import-after", how.ImportAfter, "how long after its last record an import is compacted; it can't be taken back then")
	cmd.Flags().IntVar(&how.Oldest, "max-event-age", server.DefaultEventAge, "how many days older than its receipt an event may be to go to the day in which it happened")
	cmd.Flags().StringArrayVar(&retain, "retain", nil, "a class of events that is kept for a time of its own, such as 'web*: 400d', as a line retain of collector.conf; given for each, in their order")
	completion.Flags(cmd, map[string]option.Words{"key": option.Files})
	return cmd
}

// compact compacts a store, says what it did, and returns the exit code.
func (p *program) compact(ctx context.Context, dir, key string, how store.Compaction) int {
	log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: terminal.GuardLog(p.stdio.Err), Level: hclog.Error})
	n := 0
	err := server.CompactStore(ctx, dir, key, how, log, func(c *store.Compacted) {
		n++
		fmt.Fprintf(p.stdio.Out, "%s: %d events of %d MiB, %d KiB on the disk, %d before, in %v: %s\n",
			parts(c.From), c.Events, c.RawBytes>>20, c.After>>10, c.Before>>10, c.Took.Round(time.Millisecond), cmp.Or(parts(c.Into), "nothing is left of it"))
	})
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "compact: %v\n", err)
		if n > 0 {
			return exitDamage
		}
		return exitNotDone
	}
	if n == 0 {
		fmt.Fprintln(p.stdio.Out, "nothing is to be compacted: no day is over, or all are compacted")
	}
	return 0
}

// parts lists partitions, the first few of many.
func parts(list []store.Part) string {
	const most = 4
	var out []string
	for i, part := range list {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		out = append(out, part.String())
	}
	return strings.Join(out, " ")
}
