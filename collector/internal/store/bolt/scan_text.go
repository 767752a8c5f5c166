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
// lies within the query's times and has its serial. It reads no more than the stamp, which it puts into f.
func (sc *scan) sure(f *found, text []byte, counted bool) bool {
	ms, serial, is := store.Stamp(text, counted)
	f.ms, f.serial = ms, serial
	return (sc.q.Unparsable || is) && store.InTime(sc.q, ms) && (!sc.q.HasSerial || serial == sc.q.Serial)
}
