package cli

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/upkeep"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

func (p *program) salvageCommand() *cobra.Command {
	var forget bool
	cmd := p.onStore(&cobra.Command{
		Use:   "salvage [--store DIR] FILE | --forget PARTITION|all",
		Short: "Bring back the readable events of a partition that was set aside as damaged",
		Long: `Read FILE, a partition that was set aside (partitions/DAY.db.corrupt-NUMBER in the store, or a copy of one from
elsewhere), and store what its checksums hold good and the store does not have, under the day it was received. What is
there already, in a partition or in the journal, is not stored again; it may be interrupted and repeated.

With --forget nothing is brought back: PARTITION, such as 2026-11-22, is gone for good and is no longer missed by searches and
` + "`collector verify`" + `; all is everything that is known to be missing.

The collector must be stopped meanwhile. A file within the store is then called DAY.db.salvaged-NUMBER; it is never deleted.

Exit codes: 0 all of it is in the store, 1 some of it cannot be read, which is named, 2 not done.`,
		Args:              command.Args("FILE"),
		ValidArgsFunction: completion.By(nil, option.Files),
	}, func(ctx context.Context, dir string, args []string) int {
		if forget {
			return p.forget(dir, args[0])
		}
		return p.salvage(ctx, dir, args[0])
	})
	cmd.Flags().BoolVar(&forget, "forget", false, "no longer miss a partition, or all that is missing")
	return cmd
}

// forget removes partitions that are lost for good from the store's list of missing ones, and
// returns the exit code.
func (p *program) forget(dir, name string) int {
	log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: p.stdio.Err, Level: hclog.Off})
	n, err := upkeep.Forget(dir, name, log)
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "salvage: %v\n", err)
		return exitNotDone
	}
	if n == 0 {
		fmt.Fprintf(p.stdio.Err, "salvage: nothing of that name is missing: `collector verify` lists what is\n")
		return exitNotDone
	}
	fmt.Fprintf(p.stdio.Out, "%d things are no longer missed\n", n)
	return 0
}

// salvage brings back what can be read of a partition that was set aside, writes what it did,
// and returns the exit code.
func (p *program) salvage(ctx context.Context, dir, file string) int {
	if err := engine.InFolder(dir, "bring them back into an empty folder, as --store, and search that beside it"); err != nil {
		fmt.Fprintf(p.stdio.Err, "salvage: %v\n", err)
		return exitNotDone
	}
	m := newMeter(p.stdio.Err, "salvage")
	log := hclog.New(&hclog.LoggerOptions{Name: "collector", Output: terminal.GuardLog(p.stdio.Err), Level: hclog.Error})
	rep, err := upkeep.Salvage(ctx, upkeep.SalvageOptions{Dir: dir, File: file, Log: log, Progress: m.show})
	m.end()
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "salvage: %v\n", err)
		return exitNotDone
	}
	for _, d := range rep.Damage {
		fmt.Fprintf(p.stdio.Err, "salvage: damage: %s\n", d)
	}
	fmt.Fprintf(p.stdio.Out, "%s: %d events of %d records brought back; %d records were there already; %d events cannot be read\n",
		rep.Part, rep.Events, rep.Records, rep.Present, rep.Lost)
	if rep.Renamed != "" {
		fmt.Fprintf(p.stdio.Out, "%s: what is left of it; move it away when it is not needed\n", rep.Renamed)
	}
	if len(rep.Damage) > 0 {
		return exitDamage
	}
	return 0
}
