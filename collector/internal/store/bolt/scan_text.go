package bolt

import (
	"context"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var _ store.TextScanner = (*snapshot)(nil)

// ScanText implements store.TextScanner.
func (sn *snapshot) ScanText(ctx context.Context, q *query.Query, fn func(*store.Found) error) error {
	sc := newScan(ctx, sn, q, true)
	var out store.Found // used again for each
	sc.give = func(u *unit, pos int) error {
		f, blk := &u.matched[pos], &u.cand.Block
		text := f.text
		if f.text = nil; text == nil {
			if text = sc.textAgain(u, pos); text == nil {
				return nil
			}
		}
		out = store.Found{Key: query.Key{Ms: f.ms, Node: f.node, Serial: f.serial}, Batch: f.batch,
			Host: blk.Host, Text: text, Counted: blk.Counted, Origin: f.origin}
		return fn(&out)
	}
	return sc.all()
}

// sure decides of an event that meets what the query asks of values, by the index: whether it
// lies within the query's times and has its serial; and where it meets that only if it has a record of a type that is asked for, whether it has one.
// It reads no more than the stamp, which it puts into f, and types.
func (sc *scan) sure(f *found, text []byte, counted, met bool, m *query.Matcher) bool {
	var is bool
	if met {
		f.ms, f.serial, is = store.Stamp(text, counted)
	} else if f.ms, f.serial, is, met = store.StampOf(text, counted, m.Typed); !met {
		return false
	}
	return (sc.q.Unparsable || is) && store.InTime(sc.q, f.ms) && (!sc.q.HasSerial || f.serial == sc.q.Serial)
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
