package search

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// digest identifies an event by its sender, the time of receipt of each record, and the
// records' text. It is cryptographic: a sender who could find two events with the same
// digest could hide the second one.
type digest [16]byte

func digestOf(ev *event.Event) (d digest) {
	h := sha256.New()
	var b []byte
	text := func(s []byte) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
		_, _ = h.Write(b) // never fails
		b = b[:0]
	}
	if from := ev.From; from != nil {
		text(from.Addr.AppendTo(nil))
		text([]byte(from.Host))
		b = append(b, byte(from.Transport))
	}
	text(ev.Node)
	for i := range ev.Records {
		b = binary.AppendVarint(b, ev.Records[i].Received)
		text(ev.Records[i].Raw)
	}
	return digest(h.Sum(nil)[:len(d)])
}

// logDigestOf is the digest of an event of a log. An EOE does not count: it may come after
// the event was printed, and says nothing more about it.
func logDigestOf(ev *event.Event) digest {
	but := *ev
	for n := len(but.Records); n > 1 && but.Records[n-1].Type == tables.EOE; n-- {
		but.Records = but.Records[:n-1]
	}
	return digestOf(&but)
}
