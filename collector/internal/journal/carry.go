package journal

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// An event that stays open must not keep the whole journal behind its first record:
// where a segment is needed for nothing but records of open events, Trim writes
// those again at the end, with their LSNs, and lets the segment go.
//
// Why a record is still taken once:
//   - Trim is called after the store has committed {LSN, open}, durably. So a carried
//     record's LSN is not greater than the store's, and replay feeds such a record
//     only while it is on the store's list.
//   - The copy is durable before the segment with the original is removed. Between the
//     two both are there: replay goes by the original as long as the journal has it.
//   - Copies of a record that has left the list are passed over, and trimmed in turn.

// carrySegments is how many segments may be there for open events alone: few are no
// burden, and what is in the journal still helps where a partition is lost.
const carrySegments = 3

// Trim forgets what is not needed any more, whole segments only: everything up to an
// LSN but for the records in open (ascending). The store must have committed both.
func (j *Journal) Trim(lsn uint64, open []uint64) error {
	j.commitMu.Lock()
	log := j.log
	if log == nil {
		j.commitMu.Unlock()
		return nil
	}
	for l := range j.carried {
		if _, wanted := slices.BinarySearch(open, l); !wanted {
			delete(j.carried, l)
		}
	}
	need := j.indexOf(lsn + 1)
	low := need
	if original := j.firstOriginal(open); original > 0 {
		low = min(low, j.indexOf(original))
	}
	for _, index := range j.carried {
		low = min(low, index)
	}
	i := 0
	for i+1 < len(j.points) && j.points[i+1].index <= low {
		i++
	}
	j.points = append(j.points[:0], j.points[i:]...)
	j.noteSizes()
	j.commitMu.Unlock()
	if need == 0 {
		return nil
	}
	var carryErr error
	if start, n := log.Start(need, low); n >= carrySegments {
		var done bool
		if done, carryErr = j.carry(log, low, start, open); done {
			low = start
		}
	}
	if err := log.TruncateFront(low); err != nil {
		return fmt.Errorf("trim the journal: %w", err)
	}
	j.counters.diskBytes.Store(log.Size())
	return carryErr
}

// indexOf is an entry at or shortly before the one with an LSN, 0 when that is not
// known. commitMu is held.
func (j *Journal) indexOf(lsn uint64) uint64 {
	if lsn >= j.nextLSN {
		return j.committed + 1
	}
	i, found := slices.BinarySearchFunc(j.points, lsn, func(p point, lsn uint64) int {
		switch {
		case p.lsn < lsn:
			return -1
		case p.lsn > lsn:
			return 1
		}
		return 0
	})
	switch {
	case found:
		return j.points[i].index
	case i == 0:
		return 0
	}
	return j.points[i-1].index
}

// firstOriginal is the least of the open LSNs whose record was not carried, 0 when
// there is none. commitMu is held.
func (j *Journal) firstOriginal(open []uint64) uint64 {
	for _, lsn := range open {
		if _, carried := j.carried[lsn]; !carried {
			return lsn
		}
	}
	return 0
}

// carry writes the open records of the entries from low up to end again, and makes
// them durable. It says no when they are more than half of what lies there: so
// carrying writes no more than what it frees, and the journal holds at most about
// twice what is open. What was lost to damage is not there to be carried; a place
// that cannot be read now ends it with an error, and nothing is trimmed.
func (j *Journal) carry(log *seglog.Log, low, end uint64, open []uint64) (bool, error) {
	part, whole := 0, 0
	err := j.openRecords(log, low, end, open, func(payload int, parts []*Batch) error {
		whole += payload
		for _, b := range parts {
			part += int(b.Bytes())
		}
		return nil
	})
	if err != nil || part > whole/2 {
		return false, err
	}
	var out []*Batch
	size := 0
	err = j.openRecords(log, low, end, open, func(_ int, parts []*Batch) error {
		for _, b := range parts {
			for i := range b.Records {
				b.Records[i].Raw = slices.Clone(b.Records[i].Raw) // was the reader's
			}
			out = append(out, b)
			size += int(b.Bytes()) + recordCost*(len(b.Records)+1)
		}
		if size < groupBytes {
			return nil
		}
		full, n := out, size
		out, size = nil, 0
		return j.appendCarried(log, full, n)
	})
	if err == nil {
		err = j.appendCarried(log, out, size)
	}
	return err == nil, err
}

// openRecords gives fn the size and the open records of each entry from low up to end.
func (j *Journal) openRecords(log *seglog.Log, low, end uint64, open []uint64, fn func(payload int, parts []*Batch) error) error {
	r, err := log.Reader(max(low, log.First()))
	if err != nil {
		return fmt.Errorf("carry open records: %w", err)
	}
	defer func() { _ = r.Close() }() // only read
	for {
		index, payload, err := r.Next()
		if errors.Is(err, io.EOF) || err == nil && index >= end {
			return nil
		}
		if err != nil {
			return fmt.Errorf("carry open records: %w", err)
		}
		b, err := decodeEntry(payload)
		if errors.Is(err, ErrEntry) {
			continue // replay passes it over as well, and says so
		}
		if err != nil {
			return fmt.Errorf("carry open records: entry %d: %w", index, err)
		}
		if err := fn(len(payload), j.openPart(b, index, open)); err != nil {
			return err
		}
	}
}

// openPart is what of an entry's records is open and has no newer copy: a batch for
// each run of LSNs.
func (j *Journal) openPart(b *Batch, index uint64, open []uint64) (parts []*Batch) {
	i, _ := slices.BinarySearch(open, b.First)
	var part *Batch
	for ; i < len(open) && open[i] <= b.Last() && len(b.Records) > 0; i++ {
		lsn := open[i]
		j.commitMu.Lock()
		at, carried := j.carried[lsn]
		j.commitMu.Unlock()
		if carried != b.Carried || carried && at != index {
			part = nil
			continue
		}
		r := b.Records[lsn-b.First]
		if part != nil && part.Last()+1 == lsn {
			part.Records = append(part.Records, r)
			continue
		}
		copied := *b
		copied.First, copied.Records, copied.Dropped, copied.Carried = lsn, []Record{r}, nil, true
		copied.Span = Span{} // the store has it
		part = &copied
		parts = append(parts, part)
	}
	return parts
}

func (j *Journal) appendCarried(log *seglog.Log, out []*Batch, size int) error {
	if len(out) == 0 {
		return nil
	}
	j.commitMu.Lock()
	defer j.commitMu.Unlock()
	if j.log != log {
		return fmt.Errorf("carry open records: %w", ErrFailed) // it was opened again meanwhile; the next Trim carries
	}
	first, err := log.AppendEncoded(len(out), size, func(i int, dst []byte) []byte { return appendEntry(dst, out[i]) })
	if err == nil {
		err = log.Sync()
	}
	if err != nil {
		return fmt.Errorf("carry open records: %w", j.failed(err))
	}
	for i, b := range out {
		j.addCarried(first+uint64(i), b)
		j.counters.carried.Add(uint64(len(b.Records)))
	}
	return nil
}

// addCarried remembers where carried records are. commitMu is held.
func (j *Journal) addCarried(index uint64, b *Batch) {
	for i := range b.Records {
		j.carried[b.First+uint64(i)] = index
	}
}

// entries is what a seglog reader does.
type entries interface {
	next
	io.Closer
}

// carriedFirst gives fn the open records whose originals are not in the journal any
// more, in order of LSN: they go before all that is. Those beyond the store's LSN
// were open when a partition was written that is lost. The journal is read for them
// only when its first original leaves room for any.
func carriedFirst(log hclog.Logger, read func() (entries, error), place Place, fn func(*Batch) error) error {
	first, err := firstLSN(log, read)
	if err != nil {
		return err
	}
	if first == 0 {
		first = math.MaxUint64
	}
	if place.LSN+1 >= first && (len(place.Open) == 0 || place.Open[0] >= first) {
		return nil
	}
	r, err := read()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read
	found := map[uint64]*Batch{}
	err = readBatches(r, hclog.NewNullLogger(), func(_ uint64, b *Batch) error {
		for i := range b.Records {
			lsn := b.First + uint64(i)
			if _, open := slices.BinarySearch(place.Open, lsn); b.Carried && lsn < first && (open || lsn > place.LSN) {
				one := *b
				one.First, one.Records = lsn, b.Records[i:i+1:i+1]
				found[lsn] = &one
			}
		}
		return nil
	})
	for _, lsn := range slices.Sorted(maps.Keys(found)) {
		if err == nil {
			err = fn(found[lsn])
		}
	}
	return err
}

// firstLSN is that of the first entry that is not carried, 0 when there is none.
func firstLSN(log hclog.Logger, read func() (entries, error)) (lsn uint64, err error) {
	r, err := read()
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }() // only read
	err = readBatches(r, log, func(_ uint64, b *Batch) error {
		if b.Carried {
			return nil
		}
		lsn = b.First
		return errFound
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return lsn, err
}

// errFound ends a reading early.
var errFound = errors.New("found")
