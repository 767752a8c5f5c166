package group

import (
	"encoding/binary"
	"slices"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// whence has, of each of a Builder's events, who sent it, when it was received and which batch it is of: as the sections have it, but
// for what is known at the end only.
type whence struct {
	numbers map[event.Sender]uint64 // from 1, as they first occur
	senders []byte
	sent    runs // of senders

	// Receipts as they count from 1970 and from each event's time: the shorter ones are kept.
	receipts [2]struct {
		all  []byte
		lens []byte
		from int   // where the present block begins in all
		last int64 // of the event before in the block
	}
	blocks int

	batches   runs     // of batches, which end with each block, too
	batchEnds []uint32 // by block but the last: how many of these runs there were
	fresh     bool
}

// runs are numbers, many in a row equal.
type runs struct {
	of     []uint64
	events []uint32
}

// add adds a number; fresh begins a run in any case.
func (r *runs) add(v uint64, fresh bool) {
	if n := len(r.of); n > 0 && r.of[n-1] == v && !fresh {
		r.events[n-1]++
		return
	}
	r.of, r.events = append(r.of, v), append(r.events, 1)
}

func (w *whence) init() { w.numbers = map[event.Sender]uint64{} }

func (w *whence) memory() int {
	return 12*(cap(w.sent.of)+cap(w.batches.of)) + cap(w.receipts[0].all) + cap(w.receipts[1].all) + 128*len(w.numbers)
}

// block begins a block.
func (w *whence) block() {
	if w.blocks > 0 {
		w.batchEnds = append(w.batchEnds, uint32(len(w.batches.of)))
		for i := range w.receipts {
			r := &w.receipts[i]
			r.lens = binary.AppendUvarint(r.lens, uint64(len(r.all)-r.from))
			r.from, r.last = len(r.all), 0
		}
	}
	w.blocks++
	w.fresh = true
}

// add adds an event to the present block.
func (w *whence) add(batch uint64, ev *event.Event) {
	w.batches.add(batch, w.fresh)
	w.fresh = false
	n := uint64(0)
	if ev.From != nil {
		if n = w.numbers[*ev.From]; n == 0 {
			n = uint64(len(w.numbers) + 1)
			w.numbers[*ev.From] = n
			w.senders = appendSender(w.senders, ev.From)
		}
	}
	w.sent.add(n, false)
	o := store.OriginOf(ev)
	for byTime := range w.receipts {
		r := &w.receipts[byTime]
		at := o.Received
		if byTime != 0 {
			at -= ev.Ms
		}
		r.all = appendReceipt(r.all, at-r.last, o.Later)
		r.last = at
	}
}

// encode writes the three sections.
func (w *whence) encode(c *Codec) (senders, receipts, batches []byte) {
	var sent []byte
	for i, n := range w.sent.of {
		sent = binary.AppendUvarint(binary.AppendUvarint(sent, n), uint64(w.sent.events[i]))
	}
	senders = c.dictBody(len(w.numbers), w.senders, sent)
	for byTime := range w.receipts {
		r := &w.receipts[byTime]
		lens := binary.AppendUvarint(r.lens, uint64(len(r.all)-r.from))
		if body := c.dictBody(byTime, lens, r.all); receipts == nil || len(body) < len(receipts) {
			receipts = body
		}
	}
	return senders, receipts, w.encodeBatches(c)
}

func (w *whence) encodeBatches(c *Codec) []byte {
	all := slices.Clone(w.batches.of)
	slices.Sort(all)
	all = slices.Compact(all)
	var keys, out []byte
	last := uint64(0)
	for _, b := range all {
		keys = binary.AppendUvarint(keys, b-last)
		last = b
	}
	run := 0
	for _, end := range append(w.batchEnds, uint32(len(w.batches.of))) {
		before, at := len(out), 0
		for ; run < int(end); run++ {
			place, _ := slices.BinarySearch(all, w.batches.of[run])
			out = binary.AppendVarint(out, int64(place-at))
			out = binary.AppendUvarint(out, uint64(w.batches.events[run]))
			at = place
		}
		keys = binary.AppendUvarint(keys, uint64(len(out)-before))
	}
	return c.dictBody(len(all), keys, out)
}
