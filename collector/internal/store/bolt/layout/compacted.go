package layout

import (
	"encoding/binary"
	"fmt"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// KeyCompacted is the mark of a partition that compaction has made. Its groups have keys from
// 1 on, which are no batches' IDs.
var KeyCompacted = []byte("compacted")

// BucketFilter has, in such a partition, which values its groups have (group/FORMAT.md): under KeyFilter, and without a checksum of the
// place's own.
var (
	BucketFilter = []byte("filter")
	KeyFilter    = []byte("f")
)

// Compacted is what such a partition says of itself.
type Compacted struct {
	// First and Last are the least and the greatest batch of its events.
	First, Last uint64
	// Sources are the partitions that were rewritten.
	Sources []Source
	// Parts are all partitions that were made of them, this one too. The first has what the sources
	// had beside events: hosts, ledger, leaves and the writer's place.
	Parts []store.Part
	// Class is the class of retention of its events (store.Classes.Name); "" where the day is not divided by classes.
	Class string
	// Received is the last day on which events of the sources were received.
	Received store.Day
}

// Source is a partition that was rewritten, as it was: Last is its place, the last batch by its state.
type Source struct {
	store.Part
	First, Last uint64
}

// Of reports whether p was made of a partition of that name, and of that last batch: another one may
// have the name later.
func (c *Compacted) Of(part store.Part, last uint64) bool {
	return slices.ContainsFunc(c.Sources, func(s Source) bool { return s.Part == part && s.Last == last })
}

// Names reports whether p was made of a partition of that name.
func (c *Compacted) Names(part store.Part) bool {
	return slices.ContainsFunc(c.Sources, func(s Source) bool { return s.Part == part })
}

const (
	compactedVersion = 2 // 1 would be a value without a checksum
	mostNames        = 1 << 16
)

// Encode returns the value of KeyCompacted.
func (c *Compacted) Encode() []byte {
	v := []byte{compactedVersion}
	v = binary.AppendUvarint(binary.AppendUvarint(v, c.First), c.Last)
	v = binary.AppendUvarint(v, uint64(len(c.Sources)))
	for _, s := range c.Sources {
		v = appendPart(v, s.Part)
		v = binary.AppendUvarint(binary.AppendUvarint(v, s.First), s.Last)
	}
	v = binary.AppendUvarint(v, uint64(len(c.Parts)))
	for _, p := range c.Parts {
		v = appendPart(v, p)
	}
	v = append(binary.AppendUvarint(v, uint64(len(c.Class))), c.Class...)
	v = binary.AppendUvarint(v, uint64(uint32(c.Received)))
	return AddSum(KeyCompacted, v)
}

// appendPart appends a partition's name, with its length in front.
func appendPart(v []byte, p store.Part) []byte {
	name := p.String()
	return append(binary.AppendUvarint(v, uint64(len(name))), name...)
}

// DecodeCompacted is the reverse of Encode; nil without an error for no bytes, which any other
// partition has. It errs with store.ErrDamaged.
func DecodeCompacted(v []byte) (*Compacted, error) {
	if v == nil {
		return nil, nil //nolint:nilnil // it has no such mark
	}
	bad := fmt.Errorf("%w: compaction's mark of %d bytes", store.ErrDamaged, len(v))
	if len(v) == 0 || v[0] != compactedVersion {
		return nil, bad
	}
	body, err := openValue(KeyCompacted, v, compactedVersion)
	if err != nil {
		return nil, fmt.Errorf("compaction's mark: %w", err)
	}
	r := varint.NewReader(body)
	part := func() store.Part {
		p, err := store.ParsePart(string(r.Bytes(r.Uvarint())))
		if err != nil {
			r.Fail()
		}
		return p
	}
	c := &Compacted{First: r.Uvarint(), Last: r.Uvarint()}
	for range min(r.Count(3), mostNames) {
		c.Sources = append(c.Sources, Source{Part: part(), First: r.Uvarint(), Last: r.Uvarint()})
	}
	for range min(r.Count(1), mostNames) {
		c.Parts = append(c.Parts, part())
	}
	c.Class = string(r.Bytes(r.Uvarint()))
	received := r.Uvarint()
	c.Received = store.Day(uint32(received)) //nolint:gosec // checked below
	if uint64(uint32(c.Received)) != received {
		return nil, bad
	}
	if !r.Done() || len(c.Sources) == 0 || len(c.Parts) == 0 || c.First > c.Last {
		return nil, bad
	}
	return c, nil
}

// PutCompacted writes the mark into a partition's file.
func PutCompacted(tx *bbolt.Tx, c *Compacted) error {
	return tx.Bucket(BucketMarks).Put(KeyCompacted, c.Encode())
}
