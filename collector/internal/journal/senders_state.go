package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// changes returns what changed since the last call.
func (s *senders) changes() []KV {
	out := s.gone
	s.gone = nil
	for _, x := range s.dirty {
		out = x.changes(out)
		x.dirty = false
	}
	s.dirty = s.dirty[:0]
	slices.SortFunc(out, func(a, b KV) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

func (x *sender) key(kind byte, rest ...byte) []byte {
	a := x.addr.As16()
	return append(append(a[:], kind), rest...)
}

func (x *sender) changes(out []KV) []KV {
	for _, id := range x.gone {
		be := binary.BigEndian.AppendUint32(nil, id)
		out = append(out, KV{Key: x.key(kindStream, be...)})
		for c := range byte(numChunks) {
			out = append(out, KV{Key: x.key(kindHashes, append(be, c)...)})
		}
	}
	x.gone = nil
	for _, st := range x.streams {
		be := binary.BigEndian.AppendUint32(nil, st.id)
		if st.dirty != 0 {
			v := binary.LittleEndian.AppendUint32([]byte{1}, st.last)
			out = append(out, KV{x.key(kindStream, be...), v})
		}
		for c := range byte(numChunks) {
			if st.dirty&(1<<c) == 0 {
				continue
			}
			kv := KV{Key: x.key(kindHashes, append(be, c)...)}
			if ch := st.ring[c]; ch != nil {
				kv.Value = make([]byte, 0, 4*chunkLen)
				for _, h := range ch {
					kv.Value = binary.LittleEndian.AppendUint32(kv.Value, h)
				}
			}
			out = append(out, kv)
		}
		st.dirty = 0
	}
	if x.tailsCh {
		kv := KV{Key: x.key(kindTails)}
		for _, t := range x.tails {
			if t.hash != 0 {
				kv.Value = binary.LittleEndian.AppendUint64(kv.Value, t.hash)
			}
		}
		out = append(out, kv)
		x.tailsCh = false
	}
	return out
}

// loadSenders is the reverse of changes: all that was ever returned, less what was deleted.
func loadSenders(kvs []KV, maxSenders int) (*senders, error) {
	s := newSenders(maxSenders)
	for _, kv := range kvs {
		if len(kv.Value) == 0 {
			continue
		}
		if len(kv.Key) < 17 {
			return nil, fmt.Errorf("%w: key %x", ErrSenders, kv.Key)
		}
		addr := netip.AddrFrom16([16]byte(kv.Key[:16]))
		if err := s.get(netip.AddrPortFrom(addr, 0)).load(s, kv.Key[16], kv.Key[17:], kv.Value); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (x *sender) load(s *senders, kind byte, rest, v []byte) error {
	bad := fmt.Errorf("%w: %s kind %q key %x, %d bytes", ErrSenders, x.addr, kind, rest, len(v))
	switch kind {
	case kindTails:
		if len(v)%8 != 0 || len(v) > 8*maxTails {
			return bad
		}
		for ; len(v) > 0; v = v[8:] {
			x.tails = append(x.tails, tail{hash: binary.LittleEndian.Uint64(v)})
		}
		return nil
	case kindStream:
		if len(rest) != 4 || len(v) != 5 || v[0] != 1 {
			return bad
		}
		x.loaded(s, binary.BigEndian.Uint32(rest)).last = binary.LittleEndian.Uint32(v[1:]) & seqMask
		return nil
	case kindHashes:
		if len(rest) != 5 || rest[4] >= numChunks || len(v) != 4*chunkLen {
			return bad
		}
		c := new(chunk)
		for i := range c {
			c[i] = binary.LittleEndian.Uint32(v[4*i:])
		}
		st := x.loaded(s, binary.BigEndian.Uint32(rest))
		if st.ring[rest[4]] == nil {
			*s.chunks++
		}
		st.ring[rest[4]] = c
		return nil
	}
	return bad
}

// loaded finds or makes the stream with an id from the store.
func (x *sender) loaded(s *senders, id uint32) *stream {
	for _, st := range x.streams {
		if st.id == id {
			return st
		}
	}
	st := &stream{id: id, total: s.chunks}
	x.streams = append(x.streams, st)
	x.nextID = max(x.nextID, id)
	return st
}
