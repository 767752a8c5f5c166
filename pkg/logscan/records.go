package logscan

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// Records calls fn with each record in the order of the logs, whatever its time and the
// event that it belongs to: for questions about what came before what, where a clock may
// have been set. Lines that are no records are left out. A record is valid during the call
// only. Of a damaged compressed log Records reads what can be unpacked, and returns the
// error at the end.
func (l *Logs) Records(ctx context.Context, fn func(r *record.Record) error) error {
	for _, log := range l.readers {
		if err := recordsOf(ctx, bufio.NewReaderSize(log, chunkBytes), fn); err != nil {
			return err
		}
	}
	return l.Damage()
}

func recordsOf(ctx context.Context, log *bufio.Reader, fn func(r *record.Record) error) error {
	var r record.Record
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return fmt.Errorf("read log: %w", ctx.Err())
		}
		line, err := log.ReadSlice('\n')
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if r.Parse(line[:min(len(line), maxLine)]) == nil {
			if err := fn(&r); err != nil {
				return err
			}
		}
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of what is no record any more
			_, err = log.ReadSlice('\n')
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read log: %w", err)
		}
	}
}
