package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/pkg/varint"
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

// decodeEntry is the reverse of appendEntry. Records alias p.
func decodeEntry(p []byte) (*Batch, error) {
	if len(p) < 2 {
		return nil, fmt.Errorf("%w: %d bytes", ErrEntry, len(p))
	}
	if p[0] != entryVersion && p[0] != carriedVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d and %d", ErrVersion, p[0], entryVersion, carriedVersion)
	}
	b := &Batch{Managed: p[1]&flagManaged != 0, Carried: p[0] == carriedVersion}
	r := varint.NewReader(p[2:])
	b.First = r.Uvarint()
	b.Conn = r.Uvarint()
	if ns := r.Bytes(8); ns != nil {
		b.Received = time.Unix(0, int64(binary.LittleEndian.Uint64(ns)))
	}
	if n := r.Bytes(1); n != nil {
		if n[0] > maxPeer {
			return nil, fmt.Errorf("%w: a peer's address of %d bytes", ErrEntry, n[0])
		}
		if peer := r.Bytes(uint64(n[0])); len(peer) > 0 {
			var ap netip.AddrPort
			if err := ap.UnmarshalBinary(peer); err != nil {
				return nil, fmt.Errorf("%w: peer: %w", ErrEntry, err)
			}
			b.Peer = ap
		}
	}
	b.Host = string(r.Bytes(r.Uvarint()))
	if n := r.Count(2); n > 0 {
		b.Dropped = make([]Dropped, n)
		for i := range b.Dropped {
			b.Dropped[i] = Dropped{Node: string(r.Bytes(r.Uvarint())), Count: r.Uvarint()}
		}
	}
	if n := r.Count(5); n > 0 {
		b.Records = make([]Record, n)
		lens := make([]uint64, n)
		for i := range b.Records {
			if s := r.Bytes(4); s != nil {
				b.Records[i].Seq = binary.LittleEndian.Uint32(s)
			}
			lens[i] = r.Uvarint()
		}
		for i := range b.Records {
			b.Records[i].Raw = r.Bytes(lens[i])
		}
	}
	if !r.Done() || b.First == 0 || b.First+b.LSNs() < b.First {
		return nil, fmt.Errorf("%w: %d bytes left over, first LSN %d, %d records", ErrEntry, r.Len(), b.First, len(b.Records))
	}
	return b, nil
}
