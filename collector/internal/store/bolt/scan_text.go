package bolt

import (
	"context"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var _ store.TextScanner = (*snapshot)(nil)

// ScanText implements store.TextScanner.
func (sn *snapshot) ScanText(ctx context.Context, q *query.Query, fn func(*store.Found) error) error {
	sc := newScan(ctx, sn, q, true, nil)
	var out store.Found // used again for each
	sc.give = func(u *unit, pos int) error {
		text := u.matched[pos].text
		if u.matched[pos].text = nil; text == nil {
			if text = sc.textAgain(u, pos); text == nil {
				return nil
			}
		}
		out = sc.found(u, pos, text)
		return fn(&out)
	}
	return sc.all()
}

// found returns an event of a unit that matches.
func (sc *scan) found(u *unit, pos int, text []byte) store.Found {
	f, blk := &u.matched[pos], &u.cand.Block
	return store.Found{Key: query.Key{Ms: f.ms, Node: f.node, Serial: f.serial}, Batch: f.batch,
		Host: blk.Host, Text: text, Counted: blk.Counted, Origin: f.origin}
}

// seek is read for a block's text of which events are wanted that the query looks for by a field's number, and nothing is known of their
// places: it looks through the text of all of them at once.
func (sc *scan) seek(u *unit, rd *reader, text []byte) (size int, err error) {
	rd.seeker.Begin()
	for at := 0; ; {
		hit := rd.seeker.Next(text, at)
		if hit < 0 {
			return size, nil
		}
		begin, end, err := store.EventAt(text, at, hit)
		if err != nil {
			return size, err
		}
		size += sc.match(u, rd, text[begin:end:end], found{node: u.cand.Block.Host, off: uint32(begin), len: uint32(end - begin), batch: u.plan.id}, u.alone)
		at = end
	}
}
