package clickhouse

import (
	"context"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// row is what a part has of a batch. One without events begins another part of a day, with the number of the batch before.
type row struct {
	part           store.Part
	batch          uint64
	class          string // of the part; "": the batch is not divided
	first          uint64 // the place of the first event
	events         uint64
	records, bytes uint64
	minMs, maxMs   int64
	again          bool   // some of it may have been inserted more than once: there may be rows with the same key
	proof          string // the hashes that complete the root around these events, one after the other
}

// partsOf returns the parts of rows, each once.
func partsOf(rows []row) (parts []store.Part) {
	for _, r := range rows {
		if !slices.Contains(parts, r.part) {
			parts = append(parts, r.part)
		}
	}
	return parts
}

// joined puts hashes one behind the other.
func joined(list [][32]byte) string {
	b := make([]byte, 0, len(list)*32)
	for _, h := range list {
		b = append(b, h[:]...)
	}
	return string(b)
}

// stats is what a part has by one row of ours.
func (r *row) stats() *store.PartStats {
	p := &store.PartStats{Part: r.part, Received: r.part.Day, Class: r.class, Events: r.events, Records: r.records, RawBytes: r.bytes, MinMs: r.minMs, MaxMs: r.maxMs}
	if r.events > 0 {
		p.LastID = r.batch
	}
	return p
}

// count adds an event to a batch's row.
func (r *row) count(ev *event.Event) {
	r.events++
	r.records += uint64(len(ev.Records))
	r.bytes += uint64(ev.Size())
	if ev.Ms != 0 && (r.minMs == 0 || ev.Ms < r.minMs) {
		r.minMs = ev.Ms
	}
	r.maxMs = max(r.maxMs, ev.Ms)
}

// rowsOf returns what rows there are of a batch of ours, but for those that begin a part.
func (e *Engine) rowsOf(ctx context.Context, first []*node, batch uint64) (list []row, err error) {
	sql := fmt.Sprintf("SELECT day, part, class, first, events, records, bytes, min_ms, max_ms FROM %s.batches WHERE store = %s AND batch = %d AND events > 0 ORDER BY first", e.cluster.address.Database, quote(e.opts.Store), batch)
	err = e.cluster.ask(ctx, first, sql, func() { list = nil }, func(scan func(...any) error) error {
		var day int32
		var n uint32
		r := row{batch: batch}
		err := scan(&day, &n, &r.class, &r.first, &r.events, &r.records, &r.bytes, &r.minMs, &r.maxMs)
		r.part = store.Part{Day: dayOf(day), N: int(n)}
		list = append(list, r)
		return err
	})
	return list, err
}

// writeRows inserts rows of batches; each partition's are there or not.
func (e *Engine) writeRows(ctx context.Context, first []*node, rows []row) error {
	n := len(rows)
	days, parts, batches, counts, records, bytes := make([]int32, n), make([]uint32, n), make([]uint64, n), make([]uint64, n), make([]uint64, n), make([]uint64, n)
	mins, maxs, again, classes, firsts, proofs := make([]int64, n), make([]int64, n), make([]uint8, n), make([]string, n), make([]uint64, n), make([]string, n)
	for i, r := range rows {
		days[i], parts[i], batches[i], counts[i], records[i], bytes[i] = dayNumber(r.part.Day), uint32(r.part.N), r.batch, r.events, r.records, r.bytes
		mins[i], maxs[i], classes[i], firsts[i], proofs[i] = r.minMs, r.maxMs, r.class, r.first, r.proof
		if r.again {
			again[i] = 1
		}
	}
	err := e.cluster.insert(ctx, first, "INSERT INTO "+e.cluster.address.Database+".batches (day, part, store, batch, events, records, bytes, min_ms, max_ms, again, class, first, proof)",
		[]any{days, parts, same(e.opts.Store, n), batches, counts, records, bytes, mins, maxs, again, classes, firsts, proofs})
	if err != nil {
		e.unsure.Store(true)
	}
	return err
}

// takeIn takes what was written into the account.
func (e *Engine) takeIn(rows []row) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.account = e.account.with(e.opts.Store, rows)
	if e.meanwhile != nil {
		e.meanwhile = append(e.meanwhile, rows)
	}
}
