package logscan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// backwards reverses a sequence of events: it writes each event as it arrives and reads
// them from the end. A few stay in memory; more go to a file without a name, so memory
// does not grow with the number of events found. (The order of a log's events is known
// only after reading the log from its beginning, because one record can delay other
// events for any time.)
type backwards struct {
	keep uint64 // of the latest; 0 is all

	mem  []byte // what is not in the file
	file *os.File
	size int64 // of the file
}

const (
	backwardsMem = 4 << 20
	readBack     = 1 << 20
)

// An event is written as its records, each with its length behind it, then the
// bytes of all of them and their number, 8 bytes each.
func (b *backwards) add(ev *event.Event) error {
	start := len(b.mem)
	for i := range ev.Records {
		raw := ev.Records[i].Raw
		b.mem = append(b.mem, raw...)
		b.mem = binary.LittleEndian.AppendUint32(b.mem, uint32(len(raw)))
	}
	b.mem = binary.LittleEndian.AppendUint64(b.mem, uint64(len(b.mem)-start))
	b.mem = binary.LittleEndian.AppendUint64(b.mem, uint64(len(ev.Records)))
	if len(b.mem) < backwardsMem {
		return nil
	}
	if b.file == nil {
		f, err := os.CreateTemp("", "search-*")
		if err != nil {
			return fmt.Errorf("keep events to turn them round: %w", err)
		}
		b.file = f
		if err := os.Remove(f.Name()); err != nil {
			return errors.Join(fmt.Errorf("keep events to turn them round: %w", err), b.close())
		}
	}
	if _, err := b.file.WriteAt(b.mem, b.size); err != nil {
		return fmt.Errorf("keep events to turn them round: %w (TMPDIR names another folder for them)", err)
	}
	b.size += int64(len(b.mem))
	b.mem = b.mem[:0]
	return nil
}

func (b *backwards) close() error {
	if b.file == nil {
		return nil
	}
	err := b.file.Close()
	b.file = nil
	return err
}

// each gives fn the events, the last first.
func (b *backwards) each(fn func(*event.Event) error) error {
	n := uint64(0)
	rest := b.mem
	b.mem = nil
	var last []byte // what was read of an event that begins before it
	for {
		for {
			ev, before, ok := cutLast(rest)
			if !ok {
				break
			}
			rest = before
			if err := fn(ev); err != nil {
				return err
			}
			if n++; n == b.keep {
				return nil
			}
		}
		if b.size == 0 {
			return nil
		}
		// An event may be larger than a step: steps double until one is in.
		last = rest
		step := min(b.size, int64(max(readBack, len(last))))
		buf := make([]byte, step, step+int64(len(last)))
		b.size -= step
		if _, err := b.file.ReadAt(buf, b.size); err != nil {
			return fmt.Errorf("turn events round: %w", err)
		}
		rest = append(buf, last...)
	}
}

// cutLast takes the last event off; false when not all of it is there.
func cutLast(b []byte) (ev *event.Event, before []byte, ok bool) {
	if len(b) < 16 {
		return nil, b, false
	}
	size, n := binary.LittleEndian.Uint64(b[len(b)-16:]), binary.LittleEndian.Uint64(b[len(b)-8:])
	if size > uint64(len(b)-16) {
		return nil, b, false
	}
	text := b[uint64(len(b)-16)-size : len(b)-16]
	ev = &event.Event{Records: make([]record.Record, n)}
	for i := int(n) - 1; i >= 0; i-- {
		end := len(text) - 4
		start := end - int(binary.LittleEndian.Uint32(text[end:]))
		parseAgain(&ev.Records[i], text[start:end:end])
		text = text[:start]
	}
	identify(ev)
	return ev, b[:uint64(len(b)-16)-size], true
}

// parseAgain parses a record that a log was found to have, damaged ones too.
func parseAgain(r *record.Record, raw []byte) {
	_ = r.Parse(raw) // of damaged ones it finds the same as before
	r.Raw = raw
}

// identify makes the event what its first record says.
func identify(ev *event.Event) {
	if len(ev.Records) > 0 {
		r := &ev.Records[0]
		ev.Node, ev.Ms, ev.Serial = r.Node, r.Ms(), r.Serial
	}
}

// keepEvent is a copy of an event that is valid for a while only.
func keepEvent(ev *event.Event) *event.Event {
	size := 0
	for i := range ev.Records {
		size += len(ev.Records[i].Raw)
	}
	text := make([]byte, 0, size)
	out := &event.Event{Records: make([]record.Record, len(ev.Records))}
	for i := range ev.Records {
		at := len(text)
		text = append(text, ev.Records[i].Raw...)
		parseAgain(&out.Records[i], text[at:len(text):len(text)])
	}
	identify(out)
	return out
}
