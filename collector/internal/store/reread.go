package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Rereader is an engine that gives a place's batches again as they are now, for who compares them with what was stored: whoever may write where
// an engine keeps its events may change some, take some out or put others in.
type Rereader interface {
	// Reread fills in what there is of batches of the place that the engine has taken. With columns it looks at all that the engine has beside the
	// events' text, by which they are found, too.
	Reread(ctx context.Context, list []*Reread, columns bool) error
	// Counts returns how many events there are of each batch of the place that was received on a day, from one to another, also of batches that the
	// place has never stored. Some may be counted twice. Batches of which a part was dropped are left out, wholly or as far as they are gone.
	Counts(ctx context.Context, from, to Day) (map[uint64]uint64, error)
}

// RereadEvents and RereadBatches are how many are read again at once; a batch with more events is read alone. Each event takes some 170 bytes then.
const (
	RereadEvents  = 100_000
	RereadBatches = 1000
)

// WentWith reports whether a batch may have gone with a part that was dropped, of which a place had those from first to last. A part goes as a whole: where something
// is there of a batch of the same part, which is still, this one has not gone with it. there are the batches of that day of which something is, ascending.
func WentWith(batch, first, last uint64, there []uint64) (is bool, still uint64) {
	if batch < first || last < batch {
		return false, 0
	}
	if i, _ := slices.BinarySearch(there, first); i < len(there) && there[i] <= last {
		return false, there[i]
	}
	return true, 0
}

// Reread is a batch that is read again.
type Reread struct {
	// Batch, Day (of receipt) and Events, how many there were, say what is asked for.
	Batch  uint64
	Day    Day
	Events uint64

	// Hashes are those of the events, by their place in the batch (collector/internal/eventtree); zero: there is none.
	Hashes [][32]byte
	// Mixed has, by place, the hashes of events of hosts that are not told apart, by the name that each goes by.
	Mixed map[uint64][32]byte
	// Strange are events that have no place in the batch, or another one's with other content, and Altered those that are not found by what they
	// say, or not where they belong.
	Strange, Altered uint64
	// Dropped says that the part in which the batch was is dropped.
	Dropped bool
}

// Begin forgets what was filled in.
func (r *Reread) Begin() {
	r.Hashes = make([][32]byte, r.Events)
	r.Mixed, r.Strange, r.Altered = nil, 0, 0
}

// Add takes an event at a place: its hash, and that by the name that it goes by.
func (r *Reread) Add(place uint64, hash, mixed [32]byte) {
	switch {
	case place >= uint64(len(r.Hashes)):
		r.Strange++
		return
	case r.Hashes[place] == ([32]byte{}):
		r.Hashes[place] = hash
	case r.Hashes[place] != hash:
		r.Strange++
		return
	}
	if mixed != hash {
		if r.Mixed == nil {
			r.Mixed = map[uint64][32]byte{}
		}
		r.Mixed[place] = mixed
	}
}

// Gone is how many events are not there.
func (r *Reread) Gone() (n uint64) {
	for i := range r.Hashes {
		if r.Hashes[i] == ([32]byte{}) {
			n++
		}
	}
	return n
}

// Differs says in words what of the batch is not as it was stored, as far as that is seen without the log's root of its events; "" where nothing is.
func (r *Reread) Differs() string {
	var list []string
	if n := r.Gone(); n > 0 {
		list = append(list, fmt.Sprintf("%d of its %d events are GONE", n, r.Events))
	}
	if r.Strange > 0 {
		list = append(list, fmt.Sprintf("%d events were PUT IN, or are there in two forms", r.Strange))
	}
	if r.Altered > 0 {
		list = append(list, fmt.Sprintf("%d events are not found by what they say: what the cluster has beside their text was CHANGED", r.Altered))
	}
	return strings.Join(list, ", ")
}
