package seal

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Source is a partition whose events were written again, into others.
type Source struct {
	Part                    string
	First, Last             uint64 // its batches with events
	Groups, Events, Records uint64
}

// Made is a partition that has events which were written again.
type Made struct {
	Part   string
	Groups []MadeGroup // in order of their numbers, from 1
	Hosts  []HostCount // all of them, by name
}

// MadeGroup is a group of a partition that was made.
type MadeGroup struct {
	First, Last     uint64 // batches that its events are of
	Size, Pieces    uint64
	Hash            [32]byte // the root of the tree over its pieces
	MinMs, MaxMs    int64
	Events, Records uint64
}

// Counts adds up the events and records of the groups.
func (m *Made) Counts() (events, records uint64) {
	for i := range m.Groups {
		events, records = events+m.Groups[i].Events, records+m.Groups[i].Records
	}
	return events, records
}

// Span returns the batches and times of the groups' events.
func (m *Made) Span() (first, last uint64, minMs, maxMs int64) {
	for i := range m.Groups {
		g := &m.Groups[i]
		if i == 0 {
			first, last, minMs, maxMs = g.First, g.Last, g.MinMs, g.MaxMs
		}
		first, last, minMs, maxMs = min(first, g.First), max(last, g.Last), min(minMs, g.MinMs), max(maxMs, g.MaxMs)
	}
	return first, last, minMs, maxMs
}

// Voucher is the signature of a leaf by a collector's key: that of a checkpoint alone would say of a leaf no more than
// that it was there when the checkpoint was made, and who can write the files can put leaves there.
type Voucher struct {
	Name string // of the key; "": the leaf is not vouched for
	Key  uint32 // its hash, as notes have it
	Sig  []byte
}

// vouchText begins what is signed. No checkpoint begins so, since no key's name has a space in it, and no bundle's manifest does.
const vouchText = "auditfleet rewritten 1\n"

// Vouch signs the leaf, which is whole but for that.
func (l *Leaf) Vouch(signer note.Signer) error {
	l.Voucher = Voucher{}
	sig, err := signer.Sign(l.vouched())
	if err != nil {
		return fmt.Errorf("vouch for what was written again: %w", err)
	}
	l.Voucher = Voucher{Name: signer.Name(), Key: signer.KeyHash(), Sig: sig}
	return nil
}

// VouchedBy reports whether one of these keys vouches for the leaf.
func (l *Leaf) VouchedBy(keys note.Verifiers) bool {
	if l.Voucher.Name == "" || keys == nil {
		return false
	}
	v, err := keys.Verifier(l.Voucher.Name, l.Voucher.Key)
	if err != nil {
		return false
	}
	bare := *l
	bare.Voucher = Voucher{}
	return v.Verify(bare.vouched(), l.Voucher.Sig)
}

func (l *Leaf) vouched() []byte {
	sum := sha256.Sum256(l.Encode())
	return []byte(vouchText + base64.StdEncoding.EncodeToString(sum[:]) + "\n")
}

// appendRewritten appends what only leaves of that kind have.
func (l *Leaf) appendRewritten(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(l.Sources)))
	for i := range l.Sources {
		s := &l.Sources[i]
		b = appendText(b, s.Part)
		for _, n := range [...]uint64{s.First, s.Last, s.Groups, s.Events, s.Records} {
			b = binary.AppendUvarint(b, n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(l.Made)))
	for i := range l.Made {
		m := &l.Made[i]
		b = appendText(b, m.Part)
		b = binary.AppendUvarint(b, uint64(len(m.Groups)))
		for j := range m.Groups {
			g := &m.Groups[j]
			for _, n := range [...]uint64{g.First, g.Last, g.Size, g.Pieces} {
				b = binary.AppendUvarint(b, n)
			}
			b = append(b, g.Hash[:]...)
			for _, n := range [...]uint64{uint64(g.MinMs), uint64(g.MaxMs), g.Events, g.Records} {
				b = binary.AppendUvarint(b, n)
			}
		}
		b = appendHosts(b, m.Hosts)
	}
	b = appendText(b, l.Voucher.Name)
	b = binary.AppendUvarint(b, uint64(l.Voucher.Key))
	return appendText(b, string(l.Voucher.Sig))
}

// Least bytes of what a leaf has a list of, by which its length is bounded before anything is allocated.
const (
	leastSource    = 6
	leastMade      = 3
	leastMadeGroup = 8 + 32
)

// readRewritten is the reverse.
func (l *Leaf) readRewritten(r *varint.Reader) {
	for range r.Count(leastSource) {
		s := Source{Part: readText(r, maxPart)}
		for _, p := range [...]*uint64{&s.First, &s.Last, &s.Groups, &s.Events, &s.Records} {
			*p = r.Uvarint()
		}
		l.Sources = append(l.Sources, s)
	}
	for range r.Count(leastMade) {
		m := Made{Part: readText(r, maxPart)}
		for range r.Count(leastMadeGroup) {
			var g MadeGroup
			for _, p := range [...]*uint64{&g.First, &g.Last, &g.Size, &g.Pieces} {
				*p = r.Uvarint()
			}
			copy(g.Hash[:], r.Bytes(uint64(len(g.Hash))))
			g.MinMs, g.MaxMs, g.Events, g.Records = int64(r.Uvarint()), int64(r.Uvarint()), r.Uvarint(), r.Uvarint()
			m.Groups = append(m.Groups, g)
		}
		m.Hosts = readHosts(r)
		l.Made = append(l.Made, m)
	}
	l.Voucher.Name, l.Voucher.Key = readText(r, maxKeyName), uint32(r.Uvarint())
	if sig := readText(r, maxSig); sig != "" {
		l.Voucher.Sig = []byte(sig)
	}
}

// maxKeyName and maxSig bound a voucher.
const (
	maxKeyName = 1 << 10
	maxSig     = 1 << 10
)

// checkRewritten returns what of a leaf of that kind cannot be.
func (l *Leaf) checkRewritten() error {
	if len(l.Sources) == 0 || len(l.Made) == 0 {
		return errors.New("of nothing, or into nothing")
	}
	return nil
}
