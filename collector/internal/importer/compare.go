package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// line is a record to be imported.
type line struct {
	host *host
	rec  record.Record
	key  key
	// claims says that its node= is another host than the one that imports it.
	claims bool
}

// compare goes through the chunks that wait.
func (s *Session) compare(ctx context.Context) error {
	if s.err != nil || len(s.chunks) == 0 {
		return s.err
	}
	lines := s.lines[:0]
	for _, c := range s.chunks {
		for text := range bytes.Lines(c.text) {
			l := s.line(text, s.cur.Node)
			if l.host == nil {
				continue
			}
			lines = append(lines, l)
		}
	}
	last := s.chunks[len(s.chunks)-1]
	s.chunks, s.size = s.chunks[:0], 0
	s.lines = lines
	if s.err != nil {
		return s.err
	}
	if last.end <= s.from {
		for i := range lines {
			s.consumed.add(lines[i].key)
		}
		return nil
	}
	if err := s.takeUp(ctx); err != nil {
		return err
	}
	s.cur.Records += int64(len(lines))
	s.cur = s.cur.At(last.content, last.end)
	return s.take(ctx, lines, func(l *line, stored uint32) bool {
		if s.consumed.of(l.key) >= stored {
			return true
		}
		s.consumed.add(l.key)
		return false
	})
}

// line parses a record. One that names no host, where the file does not tell it either, has no host.
func (s *Session) line(text []byte, node string) (l line) {
	_ = l.rec.Parse(text) // what is no record is not sent
	name := l.rec.Node
	if len(name) == 0 {
		name = []byte(node)
	}
	if len(name) == 0 || !l.rec.IsRecord() {
		return l
	}
	l.claims = s.cfg.Host != "" && !event.SameName(name, []byte(s.cfg.Host))
	h := s.hosts[string(name)]
	if h == nil {
		h = s.newHost(string(name))
	}
	switch {
	case l.rec.Node != nil:
	case len(h.raw) == 0: // nothing would say any more whose it is, and events of two hosts would be one
		s.fail(apartError(name))
		return l
	default:
		l.rec.Node = h.raw
	}
	l.host, l.key = h, s.keyOf(h, &l.rec)
	return l
}

// ErrHosts is returned where records come that do not name their host, and it is none of those that a collector tells apart.
var ErrHosts = errors.New("records that do not name their host would be stored as if they were of any")

func apartError(name []byte) error {
	if len(name) > store.MaxName {
		return fmt.Errorf("%w: the name %.80q… is longer than the %d bytes that a host's may have: give another one (--node)", ErrHosts, name, store.MaxName)
	}
	return fmt.Errorf("%w: %q is one host more than max_hosts: raise it, and begin the import again: it goes on where it was", ErrHosts, name)
}

// keyOf is the key of a host's record. Of hosts that are not told apart it has the name that stands in the record, as
// the stored event has.
func (s *Session) keyOf(h *host, r *record.Record) key {
	if h.name == "" {
		return s.keys.of(r.Node, r)
	}
	return s.keys.of(h.raw, r)
}

// newHost makes the host of a node. All that are not told apart are one, and none of these is kept by its own
// name: there may be any number.
func (s *Session) newHost(node string) *host {
	h := &host{name: s.cfg.Host} // which it has proved: as of those that send, it is told apart however many others there are
	switch {
	case h.name == "":
		h.name, h.alike = s.cfg.Target.ImportName(node)
	case len(s.hosts) >= mostClaims:
		node = h.name // its claims are not told apart any more
		if h := s.hosts[node]; h != nil {
			return h
		}
	}
	if h.name == "" {
		if mixed := s.hosts[""]; mixed != nil {
			return mixed
		}
		node = ""
	}
	h.raw = []byte(h.name)
	h.asm = event.NewAssembler(event.Config{Apart: true, MaxEvents: mostOpenEvents, MaxBytes: 1 << 20, Pool: &s.pool}, func(ev *event.Event) { s.complete(h, ev) })
	s.hosts[node] = h
	return h
}

// mostClaims is of how many names that a host's own records claim events are told apart.
const mostClaims = 256

// complete puts an event into the table.
func (s *Session) complete(h *host, ev *event.Event) {
	if len(h.raw) > 0 {
		ev.Node = h.raw
	}
	s.table.Add(h.name, ev)
	c := s.counts[h.name]
	c.Records += uint64(len(ev.Records))
	c.Bytes += uint64(ev.Size())
	c.LastMs = max(c.LastMs, ev.Ms)
	s.counts[h.name] = c
	s.pool.Put(ev)
}

// take compares records with what is stored, and takes those that are new, by how many like them are stored.
func (s *Session) take(ctx context.Context, lines []line, isNew func(l *line, stored uint32) bool) error {
	had, err := s.had(ctx, lines)
	if err != nil {
		s.fail(err)
		return err
	}
	now := s.cfg.Now().UnixMilli()
	gen := s.gens[len(s.gens)-1]
	for i := range lines {
		l := &lines[i]
		s.sum.Records++
		if l.claims {
			s.sum.Claims++
		}
		n := had[l.key]
		for _, g := range s.gens {
			if g.first != s.file { // else it has none of others
				n += g.others(l.key, s.file)
			}
		}
		if n > 0 && !isNew(l, n) {
			s.sum.Skipped++
			s.cur.Elsewhere++
			continue
		}
		s.sum.Stored++
		gen.add(l.key, s.file)
		l.rec.Received = now
		l.host.asm.Add(&l.rec, uint64(s.file), time.Time{})
	}
	for _, h := range s.hosts { // the chunks' memory is let go
		h.asm.Own(0)
	}
	if s.table.Stats().MemBytes < s.cfg.TableBytes {
		return nil
	}
	err = s.cut(ctx)
	s.fail(err)
	return err
}
