package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// The first byte of each entry. FORMAT.md describes them. An entry is written in the
// oldest version that can say what it has to, so that a program which knows nothing of
// the rest reads it as long as it may: it refuses carried entries, whose records it
// would take for new ones, and senders that are more than an address.
const (
	entryVersion   = 1
	carriedVersion = 2
	senderVersion  = 3
	offsetsVersion = 4
)

const (
	flagManaged = 1 << iota
	flagCarried // of senderVersion; offsetsVersion is never carried, else the version says it
)

// maxPeer is the longest netip.AddrPort in binary: an IPv6 address with a zone.
const maxPeer = 128

var (
	// ErrVersion is returned for an entry written by a newer version.
	ErrVersion = errors.New("journal entry format is newer than this program")
	// ErrEntry is returned for an entry whose bytes do not add up, though the
	// segment's checksum held.
	ErrEntry = errors.New("malformed journal entry")
)

// impliedTransport is the transport of a batch of the versions that do not name it.
func impliedTransport(addr netip.AddrPort) event.Transport {
	if addr.IsValid() {
		return event.TransportTCP
	}
	return event.TransportOwn
}

// version is that of a batch's entry, and its flags.
func (b *Batch) version() (version, flags byte) {
	if b.Managed {
		flags |= flagManaged
	}
	switch s := &b.Sender; {
	case b.Span.Stream != StreamID{} && !b.Carried:
		return offsetsVersion, flags
	case s.Verified != "" || s.Transport != impliedTransport(s.Addr):
		if b.Carried {
			flags |= flagCarried
		}
		return senderVersion, flags
	case b.Carried:
		return carriedVersion, flags
	}
	return entryVersion, flags
}

// appendEntry encodes a batch: head, lengths, then all records' bytes.
func appendEntry(dst []byte, b *Batch) []byte {
	var room [maxPeer]byte
	addr, _ := b.Sender.Addr.AppendBinary(room[:0]) // never fails
	version, flags := b.version()
	dst = append(dst, version, flags)
	dst = binary.AppendUvarint(dst, b.First)
	dst = binary.AppendUvarint(dst, b.Conn)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(b.Received.UnixNano()))
	dst = append(dst, byte(len(addr)))
	dst = append(dst, addr...)
	dst = binary.AppendUvarint(dst, uint64(len(b.Sender.Node)))
	dst = append(dst, b.Sender.Node...)
	if version >= senderVersion {
		dst = append(dst, byte(b.Sender.Transport))
		dst = binary.AppendUvarint(dst, uint64(len(b.Sender.Verified)))
		dst = append(dst, b.Sender.Verified...)
	}
	if version == offsetsVersion {
		dst = append(dst, b.Span.Stream[:]...)
		dst = binary.AppendUvarint(dst, b.Span.From)
		dst = binary.AppendUvarint(dst, b.Span.To-b.Span.From)
	}
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
	version, flags := p[0], p[1]
	if version < entryVersion || version > offsetsVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d to %d", ErrVersion, version, entryVersion, offsetsVersion)
	}
	b := &Batch{Managed: flags&flagManaged != 0, Carried: version == carriedVersion}
	if version >= senderVersion {
		if flags &^= flagManaged; flags&^flagCarried != 0 || version == offsetsVersion && flags != 0 {
			return nil, fmt.Errorf("%w: flags %#x", ErrVersion, flags)
		}
		b.Carried = flags&flagCarried != 0
	}
	r := varint.NewReader(p[2:])
	b.First = r.Uvarint()
	b.Conn = r.Uvarint()
	if ns := r.Bytes(8); ns != nil {
		b.Received = time.Unix(0, int64(binary.LittleEndian.Uint64(ns)))
	}
	if err := readSender(&r, version, &b.Sender); err != nil {
		return nil, err
	}
	if version == offsetsVersion {
		if err := readSpan(&r, &b.Span); err != nil {
			return nil, err
		}
	}
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

// readSender reads what of an entry is about its sender. It leaves what is cut off to
// the reader, which is Bad then.
func readSender(r *varint.Reader, version byte, s *Sender) error {
	if n := r.Bytes(1); n != nil {
		if n[0] > maxPeer {
			return fmt.Errorf("%w: a peer's address of %d bytes", ErrEntry, n[0])
		}
		if addr := r.Bytes(uint64(n[0])); len(addr) > 0 {
			if err := s.Addr.UnmarshalBinary(addr); err != nil {
				return fmt.Errorf("%w: peer: %w", ErrEntry, err)
			}
		}
	}
	s.Node = string(r.Bytes(r.Uvarint()))
	s.Transport = impliedTransport(s.Addr)
	if version < senderVersion {
		return nil
	}
	if t := r.Bytes(1); t != nil {
		s.Transport = event.Transport(t[0])
	}
	s.Verified = string(r.Bytes(r.Uvarint()))
	return nil
}

// readSpan reads what of an entry is about offsets.
func readSpan(r *varint.Reader, s *Span) error {
	id := r.Bytes(uint64(len(s.Stream)))
	if id == nil {
		return nil // cut off: the reader is Bad
	}
	s.Stream = StreamID(id)
	s.From = r.Uvarint()
	n := r.Uvarint()
	if s.To = s.From + n; n > MaxSpan || s.To < s.From || s.Stream == (StreamID{}) {
		return fmt.Errorf("%w: %d offsets from %d on", ErrEntry, n, s.From)
	}
	return nil
}
