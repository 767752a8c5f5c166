package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/upkeep"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// meterMinimum is how long work must take before a bar is shown, and how often the bar is
// drawn.
const meterMinimum = 200 * time.Millisecond

func (p *program) verifyCommand() *cobra.Command {
	var checkpoint, key, from, to string
	cmd := p.onStore(&cobra.Command{
		Use:   "verify [--store DIR] [--checkpoint FILE --key KEY [--from DAY] [--to DAY]]",
		Short: "Read the whole store and say what in it is damaged, if anything",
		Long: `Read the journal and every partition: checksums, the order and number of records, and the index against
the events themselves. Each damaged place is named with file and offset, and what cannot be read because of it.

It changes nothing and takes no lock, so it may run beside ` + "`collector serve`" + `: then it checks what there was at
its last batch, and the journal up to its end.

With --checkpoint and --key it compares the store, or a copy of it, with what was signed then (collector seal) and says
what was changed since: rewritten, removed, put in, cut away, put back. What was stored later is no change. Of a store
whose events are in a ClickHouse cluster it reads there what the collector has stored, all of it or what was received on
some days (--from, --to), and says of each batch that is not as it was handed over what differs.

Exit codes: 0 nothing is damaged or changed, 1 something is, 2 it could not be checked.`,
		Args: command.NoArgs,
	}, func(ctx context.Context, dir string, _ []string) int {
		switch {
		case (checkpoint == "") != (key == ""):
			fmt.Fprintf(p.stdio.Err, "verify: --checkpoint FILE and --key KEY go together\n%s", command.Try("collector verify"))
			return exitNotDone
		case checkpoint != "":
			return p.verifySealed(ctx, dir, checkpoint, key, from, to)
		case from+to != "":
			fmt.Fprintf(p.stdio.Err, "verify: --from and --to go with --checkpoint\n%s", command.Try("collector verify"))
			return exitNotDone
		}
		return p.verify(ctx, dir)
	})
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "a checkpoint, as collector seal prints it; - for standard input")
	cmd.Flags().StringVar(&key, "key", "", "the public key, or a file with one or more: that of collector seal init")
	cmd.Flags().StringVar(&from, "from", "", "in a cluster, compare what was received on this day (2026-11-22, UTC) and later ones")
	cmd.Flags().StringVar(&to, "to", "", "in a cluster, compare what was received up to this day and on it")
	completion.Flags(cmd, map[string]option.Words{"checkpoint": option.Files, "key": option.Files})
	return cmd
}

// verify verifies a store, writes the report, and returns the exit code.
func (p *program) verify(ctx context.Context, dir string) int {
	if err := engine.InFolder(dir, "this checks the collector's own half of it; the servers check theirs whenever they read, and --checkpoint compares both"); err != nil {
		fmt.Fprintf(p.stdio.Err, "verify: %v\n", err)
	}
	m := newMeter(p.stdio.Err, "verify")
	rep, err := upkeep.Verify(ctx, upkeep.VerifyOptions{Dir: dir, Progress: m.show})
	m.end()
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "verify: %v\n", err)
		return exitNotDone
	}
	if err := writeReport(p.stdio.Out, rep); err != nil {
		fmt.Fprintf(p.stdio.Err, "verify: write the report: %v\n", err)
		return exitNotDone
	}
	if len(rep.Damage) > 0 {
		return exitDamage
	}
	return 0
}

// writeReport writes the report as text. Damage and the verdict come last, where a reader of
// a terminal looks first.
func writeReport(out io.Writer, rep *upkeep.Report) (err error) {
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(out, format+"\n", args...)
		}
	}
	if rep.Server != "" {
		say("%s is in use %s", rep.Dir, rep.Server)
		say("read beside it, without its lock: partitions as of their last batch, the journal up to its present end")
	} else {
		say("%s is used by no collector: read as it is", rep.Dir)
	}
	if j := rep.Journal; j.Entries == 0 {
		say("journal: %d segments, no entry", j.Disk.Segments)
	} else {
		say("journal: %d segments, %s, %d entries, %d records, LSN %d to %d", j.Disk.Segments, terminal.Size(uint64(j.Disk.Bytes)), j.Entries, j.Records, j.First, j.Last)
	}
	for _, d := range rep.Parts {
		verdict := "ok"
		if n := len(d.Findings); n > 0 {
			verdict = fmt.Sprintf("%d damaged", n)
		}
		if d.Catalogued > d.Events {
			verdict += fmt.Sprintf(", %d of %d events cannot be read", d.Catalogued-d.Events, d.Catalogued)
		}
		say("partition %s: %s, %d groups, %d blocks, %d events, %d records: %s", d.Part, terminal.Size(uint64(d.Size)), d.Groups, d.Blocks, d.Events, d.Records, verdict)
	}
	for _, n := range rep.Notes {
		say("note: %s", terminal.Clean(n))
	}
	for _, d := range rep.Damage {
		say("damage: %s", terminal.Clean(d))
	}
	if len(rep.Damage) == 0 {
		say("nothing is damaged: %d events in partitions", rep.Readable)
	} else {
		places := "places"
		if len(rep.Damage) == 1 {
			places = "place"
		}
		say("%d damaged %s; %d events in partitions are readable, %d are not", len(rep.Damage), places, rep.Readable, rep.Lost)
	}
	return err
}

// meter draws a bar of how far a long command is, on a terminal only.
type meter struct {
	out   io.Writer // nil: nothing is shown
	what  string
	mu    sync.Mutex // guards everything below
	start time.Time
	last  time.Time
	shown bool
}

// newMeter returns the meter of a command; the caller calls end.
func newMeter(out io.Writer, what string) *meter {
	m := &meter{what: what, start: time.Now()}
	if terminal.IsTerminal(out) {
		m.out = terminal.Bare(out)
	}
	return m
}

// show draws the bar, unless it was drawn just now. Several goroutines may call it.
func (m *meter) show(done, total int64) {
	if m.out == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Sub(m.start) < meterMinimum || now.Sub(m.last) < meterMinimum {
		return
	}
	m.last, m.shown = now, true
	const width = 30
	full := 0
	if total > 0 {
		full = int(min(done, total) * width / total)
	}
	bar := make([]byte, width)
	for i := range bar {
		bar[i] = '.'
		if i < full {
			bar[i] = '#'
		}
	}
	rate := float64(done) / max(now.Sub(m.start).Seconds(), 0.001)
	fmt.Fprintf(m.out, "\r%s [%s] %s of %s, %s/s\x1b[K", m.what, bar, terminal.Size(uint64(done)), terminal.Size(uint64(total)), terminal.Size(uint64(rate)))
}

// end removes the line of the meter.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown {
		fmt.Fprint(m.out, "\r\x1b[K")
	}
}
