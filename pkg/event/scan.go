package event

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// ErrLineTooLong is what ScanConfig.BadLine is given for a line of more than
// MaxLine bytes.
var ErrLineTooLong = errors.New("event: line too long")

// ScanConfig says how to read a log.
type ScanConfig struct {
	Config
	// MaxLine is the longest line taken, in bytes. Default 64 KiB, seven times
	// what a daemon writes.
	MaxLine int
	// BadLine, when set, hears of each line that gave no event: its number and
	// why. Such lines are passed over. A line that is no record is an event of
	// its own and not reported here.
	BadLine func(line uint64, err error)
}

const (
	defaultMaxLine = 64 << 10
	scanBlock      = 256 << 10
)

// Scan reads the lines of a log and hands its events to fn until fn returns an
// error, which Scan then returns. Event.Tags are the line numbers, from 1. Empty
// lines are passed over. A last line without a newline is a line.
//
// The events' records lie in blocks of 256 KiB: to keep an event keeps its block.
func Scan(r io.Reader, cfg ScanConfig, fn func(*Event) error) error {
	if cfg.MaxLine <= 0 {
		cfg.MaxLine = defaultMaxLine
	}
	s := scanner{cfg: cfg}
	s.asm = NewAssembler(cfg.Config, func(ev *Event) {
		if s.err == nil {
			s.err = fn(ev)
		}
	})
	if err := s.read(r); err != nil {
		return err
	}
	s.asm.Flush()
	return s.err
}

type scanner struct {
	cfg  ScanConfig
	asm  *Assembler
	err  error // of fn
	line uint64
	skip bool // in the rest of a line that is too long
}

func (s *scanner) read(r io.Reader) error {
	size := max(scanBlock, 2*s.cfg.MaxLine)
	var buf []byte // buf[done:] is read and not yet taken
	done := 0
	for {
		if buf == nil || cap(buf)-len(buf) < size/8 {
			// Records point into the old block, so it cannot be used again.
			next := make([]byte, 0, size)
			buf, done = append(next, buf[done:]...), 0
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for s.err == nil {
			i := bytes.IndexByte(buf[done:], '\n')
			if i < 0 {
				break
			}
			s.take(buf[done : done+i : done+i])
			done += i + 1
		}
		if s.err != nil {
			return s.err
		}
		if len(buf)-done > s.cfg.MaxLine {
			s.skip, done = true, len(buf)
		}
		if err == io.EOF {
			if done < len(buf) || s.skip {
				s.take(buf[done:len(buf):len(buf)])
			}
			return s.err
		}
		if err != nil {
			return err
		}
	}
}

func (s *scanner) take(line []byte) {
	s.line++
	if s.skip || len(line) > s.cfg.MaxLine {
		s.skip = false
		if s.cfg.BadLine != nil {
			s.cfg.BadLine(s.line, ErrLineTooLong)
		}
		return
	}
	if len(line) == 0 {
		return
	}
	var r record.Record
	_ = r.Parse(line) // kept in r.Err: such a record is an event of its own
	s.asm.Add(&r, s.line, time.Time{})
}
