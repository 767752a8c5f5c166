package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/auditfleet/auditfleet/pkg/logscan"
)

// openPacked looks whether the source is compressed.
func (a *Agent) openPacked() error {
	r, packed, damage, err := logscan.Unpack(a.input)
	if err != nil {
		return fmt.Errorf("--source %s: %w", a.cfg.Source, errors.Join(err, a.input.Close()))
	}
	if packed {
		a.packed, a.damage = r, damage
	}
	return nil
}

// refusePacked refuses to follow a compressed file, which does not grow by lines.
func refusePacked(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--source: %w", err)
	}
	defer f.Close()
	_, packed, damage, err := logscan.Unpack(f)
	if err == nil && packed {
		err = errors.Join(errors.New("is compressed and can't be followed: give the log itself, or leave out --follow"), damage())
	}
	if err != nil {
		return fmt.Errorf("--source %s: %w", path, err)
	}
	return nil
}

// readPacked reads a compressed file to its end: io.EOF. What follows its first damage
// is missing, which is an error once all before it was handed on.
func (a *Agent) readPacked(ctx context.Context, r *reader) error {
	for {
		if err := r.take(ctx); err != nil {
			return err
		}
		n, err := a.packed.Read(r.room())
		atEnd := errors.Is(err, io.EOF)
		if err != nil && !atEnd {
			return fmt.Errorf("read %s: %w", a.cfg.Source, err)
		}
		if err := r.filled(ctx, n, atEnd, position{}); err != nil {
			return err
		}
		if atEnd {
			if err := a.damage(); err != nil {
				return fmt.Errorf("--source: %w", err)
			}
			return io.EOF
		}
	}
}

// once says whether the source is a file that ends, or no source at all.
func (a *Agent) once() bool {
	return !a.cfg.Follow && !a.cfg.fromKernel() && a.cfg.Source != SourceStdin
}

// Status says how far a source that ends is. It may be called while Run runs.
func (a *Agent) Status() string {
	text := fmt.Sprintf("%d records", a.pump.records.Load())
	if a.cfg.Source == SourceNone {
		text = "the spool"
	} else if info, err := a.input.Stat(); err == nil && info.Size() > 0 {
		if at, err := a.input.Seek(0, io.SeekCurrent); err == nil {
			text = fmt.Sprintf("%s: %d %% read, %s", a.cfg.Source, at*100/info.Size(), text)
		}
	}
	if a.spool != nil {
		text += fmt.Sprintf(", %d acknowledged, %d left", a.shipMetrics.Acked.Load(), a.spool.Left())
	}
	return text
}

// summary says what became of a source that ends.
func (a *Agent) summary(begun time.Time) {
	if !a.once() {
		return
	}
	took := a.cfg.Now().Sub(begun)
	n := a.pump.records.Load()
	words := []any{"source", a.cfg.Source, "records", n, "bytes", a.pump.bytes.Load()}
	if a.spool != nil {
		acked := a.shipMetrics.Acked.Load()
		words = append(words, "acknowledged", acked, "left", a.spool.Left())
		n = max(n, acked)
	}
	rate := 0.0
	if took > 0 {
		rate = float64(n) / took.Seconds()
	}
	a.cfg.Logger.Info("done", append(words, "time", took.Round(time.Millisecond), "records_per_second", int64(rate))...)
}
