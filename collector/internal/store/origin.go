package store

import (
	"encoding/binary"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// Origin is what a collector knows of an event's records beside their text: who
// sent them, and when each was received.
type Origin struct {
	From     *event.Sender // nil where that is not known. Shared: not to be changed
	Received int64         // of the first record, in ms since 1970; 0 where that is not known
	// Later is, for each record behind the first, how many ms after the one before
	// it was received, as signed varints; "" where all came at once.
	Later string
	// ByTime says that Received is counted from the event's time.
	ByTime bool
}

// OriginOf returns the origin of an event. It reads the sender and each record's time of
// receipt, in ms, and keeps Later empty while all records came at once.
func OriginOf(ev *event.Event) Origin {
	o := Origin{From: ev.From}
	if len(ev.Records) == 0 {
		return o
	}
	o.Received = ev.Records[0].Received
	var later []byte
	for i := 1; i < len(ev.Records); i++ {
		gap := ev.Records[i].Received - ev.Records[i-1].Received
		if gap != 0 && later == nil {
			later = make([]byte, i-1, len(ev.Records)+8) // all zero so far
		}
		if later != nil {
			later = binary.AppendVarint(later, gap)
		}
	}
	o.Later = string(later)
	return o
}

// SentBy tells who sent an event from others: by the name that was proved, else by the address; "" where that is not known.
func (o *Origin) SentBy() string {
	switch from := o.From; {
	case from == nil:
		return ""
	case from.Host != "":
		return "name " + from.Host
	default:
		return from.Addr.String()
	}
}

// set puts the origin into an event that was just parsed from its text: the sender, and
// for each record when it was received. It is the reverse of OriginOf. Where Later ends
// early, the records behind it keep no receipt.
func (o *Origin) set(ev *event.Event) {
	ev.From = o.From
	at, later := o.Received, o.Later
	if o.ByTime {
		at += ev.Ms
	}
	for i := range ev.Records {
		if i > 0 && len(later) > 0 {
			gap, n := binary.Varint([]byte(later[:min(len(later), binary.MaxVarintLen64)]))
			if n <= 0 {
				return
			}
			at, later = at+gap, later[n:]
		}
		ev.Records[i].Received = at
	}
}

// NodeOf returns the name that records without node= go by in a host of mixed nodes
// (""): their sender's address as text, nil where that is not known.
func NodeOf(from *event.Sender) []byte {
	if from == nil || !from.Addr.IsValid() {
		return nil
	}
	return from.Addr.AppendTo(nil)
}
