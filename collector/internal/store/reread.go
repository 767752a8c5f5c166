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
	// place has never stored: in each part that it is in. Some may be counted twice. What is in parts that were dropped is left out.
	Counts(ctx context.Context, from, to Day) (map[uint64][]Counted, error)
}

// Counted is how many events of a batch there are in a part, and the places of the first and the last of them.
type Counted struct{ First, Last, Events uint64 }

// CountOf adds up what there is of a batch.
func CountOf(list []Counted) (n uint64) {
	for _, c := range list {
		n += c.Events
	}
	return n
}

// CountIn adds up what there is of one class of a batch. What lies in a part with other classes is taken for all that may be there.
func (d *Divided) CountIn(list []Counted) (n uint64) {
	for _, c := range list {
		if d.Name == "" { // also what is at a place that the batch does not have
			n += c.Events
		} else if from, to := max(c.First, d.First), min(c.Last+1, d.First+d.Events); from < to {
			n += min(to-from, c.Events)
		}
	}
	return n
}

// DividedOf returns of which classes a batch's events are, as its leaf says in words; all of them are of the class "" where it was not divided.
func DividedOf(words string, events uint64) []Divided {
	if list := ParseWords(words, events); list != nil {
		return list
	}
	return []Divided{{Events: events}}
}

// IsDropOf reports whether a drop of parts of a class has taken events of one of a batch.
func IsDropOf(dropped, class string) bool {
	return IsClass(class, dropped) || dropped == Undivided && class != ""
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

// WentOf reports whether what a batch had of a class may have gone with a part of a class that was dropped; see WentWith. there are the batches of that day by ClassKey of the
// class of which something is. A part that is undivided has a class of a batch as a whole, too: where something of it is still there, it has not gone with that.
func WentOf(batch uint64, class, dropped string, first, last uint64, there map[string][]uint64) (is bool, still uint64) {
	if !IsDropOf(dropped, class) {
		return false, 0
	}
	is, still = WentWith(batch, first, last, there[ClassKey(dropped)])
	if _, some := slices.BinarySearch(there[ClassKey(class)], batch); is && some {
		return false, batch
	}
	return is, still
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
	// Around has, of a batch that is divided by classes, what completes the root around those of which there is something. It is the engine's word, by which no other root
	// is made than that of what was stored.
	Around []Divided
	// Drops are the parts that are dropped in which something of the batch may have been.
	Drops []DroppedPart

	without []Divided // see Without
}

// Without leaves a class of the batch out, which was dropped: what there is of it may be deleted at any time.
func (r *Reread) Without(d Divided) {
	if end := d.First + d.Events; end <= uint64(len(r.Hashes)) && d.First <= end {
		clear(r.Hashes[d.First:end])
		r.without = append(r.without, d)
	}
}

// Rest is how many events the batch has but for those that are left out.
func (r *Reread) Rest() uint64 {
	n := r.Events
	for _, d := range r.without {
		n -= min(n, d.Events)
	}
	return n
}

// Lost returns those classes of which events are gone.
func (r *Reread) Lost(classes []Divided) (lost []Divided) {
	for _, d := range classes {
		if slices.Contains(r.Hashes[min(d.First, uint64(len(r.Hashes))):min(d.First+d.Events, uint64(len(r.Hashes)))], [32]byte{}) {
			lost = append(lost, d)
		}
	}
	return lost
}

// Torn reports whether a class was perhaps dropped between its events were read and what completes the root around them: its events are there, and that is not. It is read again
// then, and has lost the events, or somebody has only taken away what would show that they were changed.
func (r *Reread) Torn(classes []Divided) bool {
	return slices.ContainsFunc(classes, func(d Divided) bool {
		return slices.ContainsFunc(r.Drops, func(x DroppedPart) bool { return IsDropOf(x.Class, d.Name) }) &&
			!slices.ContainsFunc(r.Around, func(x Divided) bool { return x.First == d.First && x.Events == d.Events }) && len(r.Lost([]Divided{d})) == 0
	})
}

// Begin forgets what was filled in.
func (r *Reread) Begin() {
	r.Hashes = make([][32]byte, r.Events)
	r.Mixed, r.Strange, r.Altered, r.Around, r.Drops, r.without = nil, 0, 0, nil, nil, nil
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
	for _, d := range r.without {
		n -= min(n, d.Events)
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
