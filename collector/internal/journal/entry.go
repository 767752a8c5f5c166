package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The first byte of each entry. FORMAT.md describes them. A carried entry has a
// version of its own, so that a program that knows nothing of such refuses it: it
// would take the records for new ones.
const (
	entryVersion   = 1
	carriedVersion = 2
)

const flagManaged = 1

// maxPeer is the longest netip.AddrPort in binary: an IPv6 address with a zone.
const maxPeer = 128

var (
	// ErrVersion is returned for an entry written by a newer version.
	ErrVersion = errors.New("journal entry format is newer than this program")
	// ErrEntry is returned for an entry whose bytes do not add up, though the
	// segment's checksum held.
	ErrEntry = errors.New("malformed journal entry")
)

// appendEntry encodes a batch: head, lengths, then all records' bytes.
func appendEntry(dst []byte, b *Batch) []byte {
	var room [maxPeer]byte
	peer, _ := b.Peer.AppendBinary(room[:0]) // never fails
	flags := byte(0)
	if b.Managed {
		flags |= flagManaged
	}
	version := byte(entryVersion)
	if b.Carried {
		version = carriedVersion
	}
	dst = append(dst, version, flags)
	dst = binary.AppendUvarint(dst, b.First)
	dst = binary.AppendUvarint(dst, b.Conn)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(b.Received.UnixNano()))
	dst = append(dst, byte(len(peer)))
	dst = append(dst, peer...)
	dst = binary.AppendUvarint(dst, uint64(len(b.Host)))
	dst = append(dst, b.Host...)
	dst = binary.AppendUvarint(dst, uint64(len(b.Dropped)))
	for _, d := range b.Dropped {
		dst = binary.AppendUvarint(dst, uint64(len(d.Node)))
		dst = append(dst, d.Node...)
		dst = binary.AppendUvarint(dst, d.Count)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b.Records)))
	for i := range b.Records {
		dst = binary.LittleEndian.AppendUint32(dst, b.Records[i].Seq)
		dst = binary.AppendUvarint(dst, uint64(len(b.Records[i].Raw)))
	}
	for i := range b.Records {
		dst = append(dst, b.Records[i].Raw...)
	}
	return dst
}

// reader takes an entry apart; after the first mistake all reads are zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// count reads a number of things of at least size bytes each.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

// decodeEntry is the reverse of appendEntry. Records alias p.
func decodeEntry(p []byte) (*Batch, error) {
	if len(p) < 2 {
		return nil, fmt.Errorf("%w: %d bytes", ErrEntry, len(p))
	}
	if p[0] != entryVersion && p[0] != carriedVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d and %d", ErrVersion, p[0], entryVersion, carriedVersion)
	}
	b := &Batch{Managed: p[1]&flagManaged != 0, Carried: p[0] == carriedVersion}
	r := reader{b: p[2:]}
	b.First = r.uvarint()
	b.Conn = r.uvarint()
	if ns := r.bytes(8); ns != nil {
		b.Received = time.Unix(0, int64(binary.LittleEndian.Uint64(ns)))
	}
	if n := r.bytes(1); n != nil {
		if n[0] > maxPeer {
			return nil, fmt.Errorf("%w: a peer's address of %d bytes", ErrEntry, n[0])
		}
		if peer := r.bytes(uint64(n[0])); len(peer) > 0 {
			var ap netip.AddrPort
			if err := ap.UnmarshalBinary(peer); err != nil {
				return nil, fmt.Errorf("%w: peer: %w", ErrEntry, err)
			}
			b.Peer = ap
		}
	}
	b.Host = string(r.bytes(r.uvarint()))
	if n := r.count(2); n > 0 {
		b.Dropped = make([]Dropped, n)
		for i := range b.Dropped {
			b.Dropped[i] = Dropped{Node: string(r.bytes(r.uvarint())), Count: r.uvarint()}
		}
	}
	if n := r.count(5); n > 0 {
		b.Records = make([]Record, n)
		lens := make([]uint64, n)
		for i := range b.Records {
			if s := r.bytes(4); s != nil {
				b.Records[i].Seq = binary.LittleEndian.Uint32(s)
			}
			lens[i] = r.uvarint()
		}
		for i := range b.Records {
			b.Records[i].Raw = r.bytes(lens[i])
		}
	}
	if r.bad || len(r.b) > 0 || b.First == 0 || b.First+b.LSNs() < b.First {
		return nil, fmt.Errorf("%w: %d bytes left over, first LSN %d, %d records", ErrEntry, len(r.b), b.First, len(b.Records))
	}
	return b, nil
}
