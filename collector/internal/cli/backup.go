package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/upkeep"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

func (p *program) backupCommand() *cobra.Command {
	return p.onStore(&cobra.Command{
		Use:   "backup [--store DIR] TARGET",
		Short: "Copy the whole store to a folder, also while it is written",
		Long: `Copy the store to TARGET/store, also beside ` + "`collector serve`" + `: every record acknowledged before the
backup began is in it once. A day that has not changed since the last backup to TARGET is not copied again (it is the
same file in both), and the new copy takes the old one's place in one step, when it is on stable storage. A TARGET that
holds anything but such a backup is refused.

To restore, stop the collector and copy TARGET/store back to where the store was: cp -a TARGET/store DIR.
` + "`collector verify --store TARGET/store`" + ` checks a backup.

Exit codes: 0 done, 1 done, but the store is damaged, 2 not done.`,
		Args:              command.Args("TARGET"),
		ValidArgsFunction: completion.By(nil, option.Folders),
	}, func(ctx context.Context, dir string, args []string) int { return p.backup(ctx, dir, args[0]) })
}

// backup makes a backup, writes what it did, and returns the exit code.
func (p *program) backup(ctx context.Context, dir, target string) int {
	if err := engine.InFolder(dir, "this copies the collector's own half of it, without which they are not found again; copy the cluster's as ClickHouse has it (ALTER TABLE … FREEZE)"); err != nil {
		fmt.Fprintf(p.stdio.Err, "backup: %v\n", err)
	}
	begin := time.Now()
	m := newMeter(p.stdio.Err, "backup")
	rep, err := upkeep.Backup(ctx, upkeep.BackupOptions{Dir: dir, Target: target, Progress: m.show})
	m.end()
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "backup: %v\n", err)
		return exitNotDone
	}
	for _, d := range rep.Damage {
		fmt.Fprintf(p.stdio.Err, "backup: damage: %s\n", d)
	}
	fmt.Fprintf(p.stdio.Out, "%s/store: up to batch %d, %d partitions copied, %d had not changed, %d journal entries, %s written in %s\n",
		target, rep.Batch, rep.Copied, rep.Kept, rep.Entries, terminal.Size(uint64(rep.Bytes)), time.Since(begin).Round(10*time.Millisecond))
	if len(rep.Damage) > 0 {
		fmt.Fprintf(p.stdio.Err, "backup: the store is damaged in %d places; what can be read was copied, and `collector verify` says what cannot\n", len(rep.Damage))
		return exitDamage
	}
	return 0
}
