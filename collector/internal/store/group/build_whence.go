package group

import (
	"encoding/binary"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// whence has, of each of a Builder's events, who sent it, when it was received and which batch it is of, as the sections have it.
type whence struct {
	numbers map[event.Sender]uint64 // from 1, as they first occur
	senders []byte
	sent    runs // of senders

	// Receipts as they count from 1970 and from each event's time: the shorter ones are kept.
	receipts [2]partWriter
	last     [2]int64 // of the event before in the block

	batches partWriter
	run     runs // of batches in the present block
	begun   bool // there is one
}

// runs are numbers, many in a row equal.
type runs struct {
	of     []uint64
	events []uint32
}

func (r *runs) add(v uint64) {
	if n := len(r.of); n > 0 && r.of[n-1] == v {
		r.events[n-1]++
		return
	}
	r.of, r.events = append(r.of, v), append(r.events, 1)
}

func (w *whence) init() { w.numbers = map[event.Sender]uint64{} }

func (w *whence) memory() int {
	n := 12*cap(w.sent.of) + 128*len(w.numbers) + cap(w.batches.out)
	for i := range w.receipts {
		n += cap(w.receipts[i].out)
	}
	return n
}

// block begins a block.
func (w *whence) block(c *Codec) {
	w.end(c)
	w.begun = true
}

// end ends the present block.
func (w *whence) end(c *Codec) {
	if !w.begun {
		return
	}
	at := uint64(0)
	for i, batch := range w.run.of {
		w.batches.all = binary.AppendVarint(w.batches.all, int64(batch-at))
		w.batches.all = binary.AppendUvarint(w.batches.all, uint64(w.run.events[i]))
		at = batch
	}
	w.run.of, w.run.events = w.run.of[:0], w.run.events[:0]
	w.batches.end(c)
	for i := range w.receipts {
		w.receipts[i].end(c)
	}
	w.last = [2]int64{}
	w.begun = false
}

// add adds an event to the present block.
func (w *whence) add(batch uint64, ev *event.Event) {
	w.run.add(batch)
	n := uint64(0)
	if ev.From != nil {
		if n = w.numbers[*ev.From]; n == 0 {
			n = uint64(len(w.numbers) + 1)
			w.numbers[*ev.From] = n
			w.senders = appendSender(w.senders, ev.From)
		}
	}
	w.sent.add(n)
	o := store.OriginOf(ev)
	for byTime := range w.receipts {
		at := o.Received
		if byTime != 0 {
			at -= ev.Ms
		}
		r := &w.receipts[byTime]
		r.all = appendReceipt(r.all, at-w.last[byTime], o.Later)
		w.last[byTime] = at
	}
}

// encode writes the three sections, and that with the parts of two of them.
func (w *whence) encode(c *Codec) (senders, receipts, batches, all []byte) {
	w.end(c)
	var sent []byte
	for i, n := range w.sent.of {
		sent = binary.AppendUvarint(binary.AppendUvarint(sent, n), uint64(w.sent.events[i]))
	}
	senders = c.dictBody(len(w.numbers), w.senders, sent)
	w.batches.flush(c)
	byTime := 0
	for i := range w.receipts {
		if w.receipts[i].flush(c); len(w.receipts[i].out) < len(w.receipts[byTime].out) {
			byTime = i
		}
	}
	r := &w.receipts[byTime]
	receipts = append(binary.AppendUvarint([]byte{byte(byTime)}, 0), r.refs...)
	batches = append(binary.AppendUvarint(nil, uint64(len(r.out))), w.batches.refs...)
	return senders, receipts, batches, append(r.out, w.batches.out...)
}
