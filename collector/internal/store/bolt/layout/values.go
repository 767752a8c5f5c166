package layout

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// HostKey returns a host's key in BucketHosts. The h makes it one that bbolt takes also for
// the name "": bbolt has no empty keys.
func HostKey(name string) []byte { return append([]byte{'h'}, name...) }

// Versions of the values: each value's first byte. From version 2 on a value ends with the
// checksum of key and value; version 1 has none, and is read still.
const (
	stateVersion = 2
	hostVersion  = 5 // with Mismatched and Verified
	lostVersion  = 4 // with Lost and LagMs; older programs wrote 2, and 3 for a host that has Also
	alsoVersion  = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AddSum appends to a value the CRC-32C of its key and of itself, 4 bytes. The key is in it
// so that a value which got under another key is found out.
func AddSum(key, v []byte) []byte {
	return binary.LittleEndian.AppendUint32(v, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, v))
}

// CutSum checks and takes off what AddSum has appended; store.ErrDamaged when it is wrong.
// The result is a part of v.
func CutSum(key, v []byte) ([]byte, error) {
	n := len(v) - 4
	if n < 0 || crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, v[:n]) != binary.LittleEndian.Uint32(v[n:]) {
		return nil, fmt.Errorf("%w: checksum of %d bytes", store.ErrDamaged, len(v))
	}
	return v[:n], nil
}

// openValue returns what stands between a value's version and its checksum, which is right.
// latest is the greatest version that the value may have.
func openValue(key, v []byte, latest byte) ([]byte, error) {
	var err error
	switch {
	case len(v) == 0:
		return nil, fmt.Errorf("%w: no bytes", store.ErrDamaged)
	case v[0] == 1:
	case v[0] >= 2 && v[0] <= latest:
		if v, err = CutSum(key, v); err != nil {
			return nil, err
		}
	default:
		// A program that writes another version raises the file's format, too.
		return nil, fmt.Errorf("%w: version %d", store.ErrDamaged, v[0])
	}
	return v[1:], nil
}

// EncodeState returns the value of KeyState: the writer's place. Hosts and senders are not
// in it; they lie elsewhere.
func EncodeState(st *store.State) []byte {
	v := []byte{stateVersion}
	v = binary.AppendUvarint(v, st.ID)
	v = binary.AppendUvarint(v, st.LSN)
	v = binary.AppendUvarint(v, uint64(len(st.Open)))
	prev := uint64(0)
	for _, o := range st.Open {
		v = binary.AppendUvarint(v, o-prev)
		prev = o
	}
	return AddSum(KeyState, v)
}

// DecodeState is the reverse of EncodeState. No bytes are the state of a new store, all
// zero. It errs with store.ErrDamaged.
func DecodeState(v []byte) (*store.State, error) {
	if len(v) == 0 {
		return &store.State{}, nil
	}
	body, err := openValue(KeyState, v, stateVersion)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	r := varint.NewReader(body)
	st := &store.State{ID: r.Uvarint(), LSN: r.Uvarint()}
	prev := uint64(0)
	for range r.Count(1) {
		prev += r.Uvarint()
		st.Open = append(st.Open, prev)
	}
	if !r.Done() {
		return nil, fmt.Errorf("%w: state of %d bytes", store.ErrDamaged, len(v))
	}
	return st, nil
}

// EncodeHost returns the value of a host under HostKey; its name is in the key only.
func EncodeHost(h *store.Host) []byte {
	v := []byte{hostVersion}
	for _, n := range [...]uint64{uint64(unixNano(h.First)), uint64(unixNano(h.Last)), uint64(h.LastEventMs),
		h.Records, h.Bytes, h.Duplicates, h.Unparsable, h.Lost, liveLag(h), h.Mismatched, uint64(unixNano(h.Verified)), uint64(len(h.Addrs))} {
		v = binary.AppendUvarint(v, n)
	}
	for _, a := range h.Addrs {
		b := a.As16()
		v = append(v, b[:]...)
	}
	return AddSum(HostKey(h.Name), append(v, h.Also...))
}

// liveLag is a host's lag in milliseconds and 1, 0 for a host that was never live.
func liveLag(h *store.Host) uint64 {
	if !h.Live {
		return 0
	}
	return uint64(h.LagMs) + 1
}

// DecodeHost is the reverse of EncodeHost, from key and value. It errs with
// store.ErrDamaged.
func DecodeHost(k, v []byte) (store.Host, error) {
	bad := fmt.Errorf("%w: host %.80q of %d bytes", store.ErrDamaged, k, len(v))
	if len(k) == 0 || k[0] != 'h' {
		return store.Host{}, bad
	}
	version := byte(0)
	if len(v) > 0 {
		version = v[0]
	}
	body, err := openValue(k, v, hostVersion)
	if err != nil {
		return store.Host{}, fmt.Errorf("host %.80q: %w", k[1:], err)
	}
	r := varint.NewReader(body)
	h := store.Host{Name: string(k[1:]), First: timeOf(r.Uvarint()), Last: timeOf(r.Uvarint()), LastEventMs: int64(r.Uvarint()),
		Records: r.Uvarint(), Bytes: r.Uvarint(), Duplicates: r.Uvarint(), Unparsable: r.Uvarint()}
	if version >= lostVersion {
		h.Lost = r.Uvarint()
		if late := r.Uvarint(); late > 0 {
			h.Live, h.LagMs = true, int64(late-1)
		}
	} else if h.LastEventMs > 0 { // what such a version showed as the lag
		h.SetLag(h.Last.UnixMilli() - h.LastEventMs)
	}
	if version >= hostVersion {
		h.Mismatched, h.Verified = r.Uvarint(), timeOf(r.Uvarint())
	}
	n := r.Count(16)
	if r.Bad() || n > store.MaxAddrs || h.LagMs < 0 || version < lostVersion && (version == alsoVersion) != (r.Len() > 16*n) {
		return store.Host{}, bad
	}
	for range n {
		h.Addrs = append(h.Addrs, netip.AddrFrom16([16]byte(r.Bytes(16))).Unmap())
	}
	h.Also = string(r.Bytes(uint64(r.Len())))
	return h, nil
}

// unixNano is 0 for the zero time, which UnixNano is not.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns))
}
