package search

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// HostState is what a store knows of a host: when it sent something last, and the
// greatest time of its events.
type HostState struct {
	Name        string
	Seen        time.Time
	LastEventMs int64
}

// active is how long after it was heard of a host may still have open events in a
// store: their two seconds, and some.
const active = 3 * time.Second

// unnamed is the place of the hosts that do not name themselves.
const unnamed = ""

// hostsCheckpoint is how far a search of a store came with each host
// (CHECKPOINT.md).
type hostsCheckpoint struct {
	place map[string]mark  // by host
	until map[string]int64 // the time of the youngest event to print; none of a host that is not here

	// placeless events that were received up to then, in ms since 1970, were printed; 0:
	// there were none yet. settled is how far they can be printed now.
	received, settled int64
}

// settledAfter is how long after its receipt a placeless event is complete: an open
// event's two seconds, and many.
const settledAfter = 10 * time.Second

func loadHostsCheckpoint(path string) (*hostsCheckpoint, error) {
	cp := &hostsCheckpoint{place: map[string]mark{}}
	b, err := readCheckpoint(path)
	if b == nil || err != nil {
		return cp, err
	}
	invalid := func(format string, args ...any) error {
		return &CheckpointError{codeInvalid, fmt.Sprintf(format, args...)}
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	if !s.Scan() || s.Text() != hostsLine {
		return nil, invalid("%s is not the checkpoint of a collector's store", path)
	}
	for s.Scan() {
		if v, ok := bytes.CutPrefix(s.Bytes(), []byte("received=")); ok {
			if cp.received, err = strconv.ParseInt(string(v), 10, 64); err != nil || cp.received <= 0 {
				return nil, invalid("Malformed received checkpoint line - [%s]", s.Bytes())
			}
			continue
		}
		v, ok := bytes.CutPrefix(s.Bytes(), []byte("output="))
		if !ok {
			return nil, invalid("Unknown checkpoint line - [%s]", s.Bytes())
		}
		m, ok := parseMark(string(v))
		if !ok {
			return nil, invalid("Malformed output/event checkpoint line - [%s]", s.Bytes())
		}
		cp.place[m.node] = m
	}
	if err := s.Err(); err != nil {
		return nil, invalid("Cannot open checkpoint file - %s: %v", path, err)
	}
	return cp, nil
}

func (cp *hostsCheckpoint) save(path string) error {
	text := []byte(hostsLine + "\n")
	if cp.received > 0 {
		text = fmt.Appendf(text, "received=%d\n", cp.received)
	}
	for _, node := range slices.Sorted(maps.Keys(cp.place)) {
		m := cp.place[node]
		text = m.appendTo(text)
	}
	return writeCheckpoint(path, text)
}

// limit sets how far each host's events are known to be complete. now and hosts
// must be from before the search.
func (cp *hostsCheckpoint) limit(hosts []HostState, now time.Time) {
	cp.until = make(map[string]int64, len(hosts)+1)
	least := now.UnixMilli()
	cp.settled = least - settledAfter.Milliseconds()
	for _, h := range hosts {
		until := h.LastEventMs
		if now.Sub(h.Seen) < active {
			until -= lateness * 1000
			least = min(least, until)
		}
		cp.until[h.Name] = until
	}
	cp.until[unnamed] = least
}

// from is a time before which there is nothing new, 0 when that is not known.
func (cp *hostsCheckpoint) from(hosts []HostState) int64 {
	from := int64(1<<63 - 1)
	for _, h := range hosts {
		m, ok := cp.place[h.Name]
		if !ok {
			return 0
		}
		if at := m.sec*1000 + m.milli; at < h.LastEventMs {
			from = min(from, at)
		}
	}
	if m, ok := cp.place[unnamed]; ok {
		from = min(from, m.sec*1000+m.milli)
	}
	return from
}

// receipt is when the last of an event's records was received, in ms since 1970; 0
// where that is not known.
func receipt(ev *event.Event) (at int64) {
	for i := range ev.Records {
		at = max(at, ev.Records[i].Received)
	}
	return at
}

// isPlaceless says whether no host's place can tell if an event was printed: it is of
// the far future, and any sender could hide an event in that way. Its receipt decides.
func isPlaceless(ev *event.Event) bool {
	at := receipt(ev)
	return at > 0 && ev.Ms > at+farFuture.Milliseconds()
}

// isNew says whether an event is behind its host's place, and complete with all
// before it. With again, those of the time of the place are, too.
func (cp *hostsCheckpoint) isNew(ev *event.Event, again bool) bool {
	if isPlaceless(ev) {
		at := receipt(ev)
		return at > cp.received && at <= cp.settled
	}
	until, ok := cp.until[string(ev.Node)]
	if !ok || ev.Ms > until {
		return false
	}
	m, ok := cp.place[string(ev.Node)]
	if !ok {
		return true
	}
	at := m.sec*1000 + m.milli
	return ev.Ms > at || ev.Ms == at && (again || ev.Serial > m.serial)
}

// FindNew is Find with --checkpoint: it writes what is new since the last time and
// leaves for the next what may not be complete. now and hosts must be from before
// the call. The error is a *CheckpointError where it is the checkpoint's.
func FindNew(ctx context.Context, o *Options, src Source, hosts []HostState, now time.Time, w Writer) (found uint64, err error) {
	cp, err := loadHostsCheckpoint(o.Checkpoint)
	if err != nil {
		return 0, err
	}
	cp.limit(hosts, now)
	q := o.Query
	q.Origin = true
	// What is of the future is looked at each time.
	if from := min(cp.from(hosts), now.UnixMilli()); from > q.StartMs {
		q.StartMs = from
	}
	next := maps.Clone(cp.place)
	placeless := cp.received > 0
	err = src.Scan(ctx, &q, 0, func(ev *event.Event) error {
		if !cp.isNew(ev, o.CheckpointTime) {
			return nil
		}
		if isPlaceless(ev) {
			if o.JustOne {
				return nil // left for a search that prints all
			}
			placeless = true
			found++
			if err := w.Event(ev); err != nil {
				return fmt.Errorf("write result: %w", err)
			}
			return nil
		}
		found++
		if err := w.Event(ev); err != nil {
			return fmt.Errorf("write result: %w", err)
		}
		if m, ok := next[string(ev.Node)]; !ok || ev.Ms > m.sec*1000+m.milli || ev.Ms == m.sec*1000+m.milli && ev.Serial > m.serial {
			next[string(ev.Node)] = markOf(ev)
		}
		if o.JustOne {
			return ErrStop
		}
		return nil
	})
	if err = closeWriter(w, err); err != nil {
		return found, err
	}
	cp.place = next
	if placeless && !o.JustOne {
		cp.received = max(cp.received, cp.settled)
	}
	return found, cp.save(o.Checkpoint)
}
