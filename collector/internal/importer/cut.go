package importer

import (
	"context"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// opened is the text of open events.
func (s *Session) opened() (n int) {
	for _, h := range s.hosts {
		if h.asm.Len() > 0 {
			h.asm.Each(func(ev *event.Event) { n += ev.Size() })
		}
	}
	return n
}

// cut hands the table to the target, with the note. One batch is stored while the next one is filled.
func (s *Session) cut(ctx context.Context) error {
	if err := s.landed(ctx); err != nil {
		return err
	}
	if s.cfg.Dry {
		s.table, s.news = store.NewTable(), note{}
		s.gens = []*generation{newGeneration(s.file)}
		return nil
	}
	if s.cfg.Room != nil {
		if err := s.cfg.Room(); err != nil {
			return err
		}
	}
	if s.opened() > mostOpen {
		for _, h := range s.hosts {
			h.asm.Flush()
		}
		s.settle()
	}
	n := &s.news
	n.Sum, n.At, n.By, n.Host = s.sum, s.cfg.Now().UnixMilli(), s.cfg.By, s.cfg.Host
	s.cuts = s.sum
	for _, k := range s.ended {
		n.Begun = append(n.Begun, k)
	}
	if s.cur.Size > 0 {
		n.Begun = append(n.Begun, s.cur)
	}
	n.Open = s.reopen
	for _, h := range s.hosts {
		h.asm.Each(func(ev *event.Event) {
			for i := range ev.Records {
				n.Open = append(n.Open, open{h.name, ev.Records[i].Raw})
			}
		})
	}
	text, err := n.encode()
	if err != nil {
		return err
	}
	in := head.Imported{Import: store.Import{Name: s.cfg.Name, Note: text}, Hosts: s.counts, Numbered: s.number.Store}
	if s.table.Stats().Events > 0 {
		in.Events = s.table
	}
	s.flying = make(chan stored, 1)
	go func(done chan<- stored) {
		batch, err := s.cfg.Target.Import(ctx, in)
		done <- stored{batch, err}
	}(s.flying)
	s.table, s.counts, s.news = store.NewTable(), map[string]head.ImportCount{}, note{}
	s.gens = append(s.gens, s.nextGeneration())
	return nil
}

// nextGeneration begins the keys of the next batch with those of open records, which are in that one.
func (s *Session) nextGeneration() *generation {
	next := newGeneration(s.file)
	for _, h := range s.hosts {
		h.asm.Each(func(ev *event.Event) {
			for i := range ev.Records {
				k := s.keyOf(h, &ev.Records[i])
				for _, g := range slices.Backward(s.gens) {
					if c, ok := g.keys[k]; ok {
						next.add(k, c.file)
						next.first = min(next.first, c.file)
						break
					}
				}
			}
		})
	}
	return next
}

// landed waits for the batch that is being stored.
func (s *Session) landed(context.Context) error {
	if s.flying == nil {
		return nil
	}
	got := <-s.flying
	s.flying = nil
	if got.err != nil {
		return got.err
	}
	s.latest, s.kept = got.batch, s.cuts
	s.own[got.batch] = true
	kept := s.gens[:0]
	for i, g := range s.gens {
		if i < len(s.gens)-1 && g.batch == 0 {
			g.batch = got.batch
			if g.first == s.file { // only the present file's: it is not compared with itself
				continue
			}
			g.forget(s.file) // or a record of an earlier file that stays open kept the keys of all of this one
		}
		kept = append(kept, g)
	}
	s.gens = kept
	return nil
}
