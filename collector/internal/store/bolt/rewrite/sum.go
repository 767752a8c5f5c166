package rewrite

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// tally is what many events are together, in whatever order they come: two runs over the same events have the same.
type tally struct {
	Events, Records uint64
	Sums            [2]uint64 // of the hashes of all events, by two seeds
}

// summer hashes events. All tallies that are compared are by one.
type summer struct {
	seeds [2]maphash.Seed
	buf   []byte
}

func newSummer() *summer {
	return &summer{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

// add adds an event: its host, batch, text, and who sent it when.
func (s *summer) add(t *tally, host string, batch uint64, ev *event.Event) {
	t.Events++
	t.Records += uint64(len(ev.Records))
	b := binary.AppendUvarint(s.buf[:0], uint64(len(host)))
	b = append(b, host...)
	for _, n := range [...]uint64{batch, uint64(ev.Ms), ev.Serial, uint64(len(ev.Node))} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	b = append(b, ev.Node...)
	if ev.From != nil {
		b = append(b, byte(ev.From.Transport)+1)
		b = append(b, ev.From.Addr.String()...)
		b = append(b, 0)
		b = append(b, ev.From.Host...)
	}
	for i := range ev.Records {
		r := &ev.Records[i]
		b = binary.LittleEndian.AppendUint64(b, uint64(len(r.Raw)))
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Received))
		b = append(b, r.Raw...)
	}
	for i, seed := range s.seeds {
		t.Sums[i] += maphash.Bytes(seed, b)
	}
	s.buf = b
}
