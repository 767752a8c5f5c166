package several

import (
	"crypto/sha256"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// recentEvents is how many events are remembered at least.
const recentEvents = 1 << 16

// Recent remembers the events that whoever follows several collectors had last, and which answer they came in: what a host has sent again to
// another collector is given once. The zero value remembers none. One goroutine at a time may use it.
type Recent struct {
	now, before map[[sha256.Size]byte]int64
}

// Has reports whether an event came before in another answer than this one, and remembers it. In one answer there may be several that are the same.
func (r *Recent) Has(ev *event.Event, answer int64) bool {
	text, _ := store.AppendText(append([]byte(nil), ev.Node...), ev)
	sum := sha256.Sum256(text)
	for _, seen := range []map[[sha256.Size]byte]int64{r.now, r.before} {
		if o, ok := seen[sum]; ok {
			return o != answer
		}
	}
	if r.now == nil || len(r.now) >= recentEvents {
		r.now, r.before = map[[sha256.Size]byte]int64{}, r.now
	}
	r.now[sum] = answer
	return false
}
