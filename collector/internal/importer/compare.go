package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
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

// manyHosts is from how many hosts in a chunk on all hosts' events of its time are compared in one go.
const manyHosts = 16

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
	if l.rec.Node == nil && len(h.raw) > 0 {
		l.rec.Node = h.raw
	}
	l.host, l.key = h, s.keyOf(h, &l.rec)
	return l
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
		h.name = s.cfg.Target.ImportName(node)
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

// span is the time of a host's records.
type span struct{ from, to int64 }

// had returns how many of each of the records are stored: those of the present session's batches that may have records
// of the present file left out.
func (s *Session) had(ctx context.Context, lines []line) (map[key]uint32, error) {
	if len(lines) == 0 {
		return map[key]uint32{}, nil
	}
	spans := map[*host]span{}
	all := span{}
	for i := range lines {
		ms := lines[i].rec.Ms()
		x, ok := spans[lines[i].host]
		if !ok {
			x = span{ms, ms}
		}
		spans[lines[i].host] = span{min(x.from, ms), max(x.to, ms)}
		if i == 0 {
			all = span{ms, ms}
		}
		all = span{min(all.from, ms), max(all.to, ms)}
	}
	found := map[key]uint32{}
	wanted := map[key]bool{}
	var rec record.Record
	look := func(q *query.Query) error {
		err := s.cfg.Target.Scan(ctx, q, func(ev *event.Event) error {
			if ev.Batch > s.since && (s.own[ev.Batch] || ev.Batch == s.number.Load()) { // numbered before it is found
				return nil
			}
			if len(wanted) == 0 {
				for i := range lines {
					wanted[lines[i].key] = true
				}
			}
			for i := range ev.Records {
				rec = ev.Records[i]
				if k := s.keys.of(ev.Node, &rec); wanted[k] { // others' events, too: the name may be a pattern
					found[k]++
				}
			}
			return nil
		})
		if errors.Is(err, store.ErrDamaged) || errors.Is(err, head.ErrBehind) { // what cannot be read is not stored, as far as can be told
			return nil
		}
		return err
	}
	if len(spans) > manyHosts || s.cfg.Host != "" {
		q := &query.Query{StartMs: all.from, EndMs: all.to}
		if s.cfg.Host != "" { // it has others' names for events of its own only
			q.Nodes = []string{s.cfg.Host}
		}
		if err := look(q); err != nil {
			return nil, fmt.Errorf("compare with what is stored: %w", err)
		}
		return found, nil
	}
	for h, x := range spans {
		q := &query.Query{StartMs: x.from, EndMs: x.to}
		if h.name != "" {
			q.Nodes = []string{h.name}
		}
		if err := look(q); err != nil {
			return nil, fmt.Errorf("compare with what is stored: %w", err)
		}
	}
	return found, nil
}
