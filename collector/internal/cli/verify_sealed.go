package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/upkeep"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// verifySealed compares a store with a checkpoint, writes the report, and returns the exit code.
func (p *program) verifySealed(ctx context.Context, dir, file, key, from, to string) int {
	fail := func(err error) int {
		fmt.Fprintf(p.stdio.Err, "verify: %v\n", err)
		return exitNotDone
	}
	text, err := readCheckpoint(file, os.Stdin)
	if err != nil {
		return fail(err)
	}
	keys, err := seal.ReadVerifiers(key)
	if err != nil {
		return fail(fmt.Errorf("--key: %w", err))
	}
	o := upkeep.SealedOptions{Dir: dir, Checkpoint: text, Keys: note.VerifierList(keys...)}
	for _, day := range []struct {
		option, text string
		to           *store.Day
	}{{"--from", from, &o.From}, {"--to", to, &o.To}} {
		if day.text == "" {
			continue
		}
		if *day.to, err = store.ParseDay(day.text); err != nil {
			return fail(fmt.Errorf("%s: a day is wanted, as 2026-11-22: %w", day.option, err))
		}
	}
	far, err := engine.OpenAgain(dir, nil)
	if err != nil {
		return fail(err)
	}
	if far != nil {
		o.Elsewhere = far
	}
	m := newMeter(p.stdio.Err, "verify")
	o.Progress = m.show
	rep, err := upkeep.Sealed(ctx, o)
	m.end()
	if far != nil {
		err = errors.Join(err, far.Close())
	}
	switch {
	case errors.Is(err, checkpoint.ErrKey), errors.Is(err, checkpoint.ErrSignature), errors.Is(err, checkpoint.ErrFormat):
		return fail(fmt.Errorf("%s: %w", file, err))
	case err != nil:
		return fail(err)
	}
	if err := writeSealed(p.stdio.Out, rep); err != nil {
		return fail(fmt.Errorf("write the report: %w", err))
	}
	if len(rep.Changed) > 0 {
		return exitDamage
	}
	return 0
}

// readCheckpoint reads a file, or standard input for "-".
func readCheckpoint(file string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, checkpoint.MaxBytes+1))
}

// writeSealed writes the report as text, the verdict last.
func writeSealed(out io.Writer, rep *upkeep.SealedReport) (err error) {
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(out, format+"\n", args...)
		}
	}
	c := &rep.Checkpoint
	say("checkpoint of %s, signed %s: %d leaves, store %s", c.Origin, c.Time.Format(time.RFC3339), c.Size, c.Store)
	if rep.Server != "" {
		say("%s is in use %s: read beside it", rep.Dir, rep.Server)
	}
	for _, n := range rep.Notes {
		say("note: %s", terminal.Clean(n)) // it has words of the log
	}
	for _, d := range rep.Changed {
		say("changed: %s", terminal.Clean(d))
	}
	switch n := len(rep.Changed); n {
	case 0:
		say("nothing was changed: %d batches with %d events are what was stored", rep.Groups, rep.Events)
	case 1:
		say("1 change; %d batches with %d events are what was stored", rep.Groups, rep.Events)
	default:
		say("%d changes; %d batches with %d events are what was stored", n, rep.Groups, rep.Events)
	}
	return err
}
