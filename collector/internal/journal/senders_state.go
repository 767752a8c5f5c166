package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/varint"
)

// changes returns what changed since the last call: of a key that was deleted and is there
// again, the deletion first.
func (s *senders) changes() []KV {
	out := s.offsets.changes(s.gone)
	s.gone = nil
	for _, x := range s.dirty {
		out = x.changes(out)
		x.dirty = false
	}
	s.dirty = s.dirty[:0]
	slices.SortStableFunc(out, func(a, b KV) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

func (x *sender) key(kind byte, rest ...byte) []byte { return x.id.key(kind, rest...) }

func (id identity) key(kind byte, rest ...byte) []byte {
	var key []byte
	if id.name == "" {
		a := id.addr.As16()
		key = append(key, a[:]...)
	} else {
		key = append(make([]byte, 16, 16+2+len(id.name)+1+len(rest)), kindName)
		key = binary.AppendUvarint(key, uint64(len(id.name)))
		key = append(key, id.name...)
	}
	return append(append(key, kind), rest...)
}

// cutKey is the reverse of key.
func cutKey(key []byte) (id identity, kind byte, rest []byte, ok bool) {
	if len(key) < 17 {
		return id, 0, nil, false
	}
	if key[16] != kindName {
		return identity{addr: netip.AddrFrom16([16]byte(key[:16])).Unmap()}, key[16], key[17:], true
	}
	r := varint.NewReader(key[17:])
	id.name = string(r.Bytes(r.Uvarint()))
	k := r.Bytes(1)
	if id.name == "" || len(k) == 0 || [16]byte(key[:16]) != [16]byte{} {
		return id, 0, nil, false
	}
	return id, k[0], r.Bytes(uint64(r.Len())), true
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
	for st := range x.streams {
		be := binary.BigEndian.AppendUint32(nil, st.id)
		if st.dirty != 0 {
			v := binary.LittleEndian.AppendUint32([]byte{streamVersion}, st.last)
			v = append(v, st.name...)
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
	return x.tails.changes(x, out)
}

func (ts *tails) changes(x *sender, out []KV) []KV {
	ts.index()
	if ts.old {
		ts.old = false
		out = append(out, KV{Key: x.key(kindTails)})
	}
	key := func(hash uint64) []byte { return x.key(kindTail, binary.BigEndian.AppendUint64(nil, hash)...) }
	for hash := range ts.stored {
		if ts.hashes[hash] == 0 {
			delete(ts.stored, hash)
			out = append(out, KV{Key: key(hash)})
		}
	}
	for t := ts.lru.next; t != &ts.lru; t = t.next {
		if !ts.stored[t.hash] {
			ts.stored[t.hash] = true
			out = append(out, KV{key(t.hash), binary.LittleEndian.AppendUint64(nil, uint64(t.used))})
		}
	}
	return out
}

// loadSenders is the reverse of changes: all that was ever returned, less what was deleted. Values that
// cannot be read are left out, and ErrSenders says how many they are: what is lost is that records of theirs are recognised.
func loadSenders(kvs []KV, maxSenders int) (s *senders, err error) {
	s = newSenders(maxSenders)
	s.most = math.MaxInt // until all is there
	bad := 0
	for _, kv := range kvs {
		if len(kv.Value) == 0 {
			continue
		}
		if e := s.load(kv); e != nil {
			if bad++; bad == 1 {
				err = e
			}
		}
	}
	if bad > 1 {
		err = fmt.Errorf("%w, and %d others", err, bad-1)
	}
	for _, x := range s.all {
		x.byID = nil
		x.loadedAll()
	}
	s.most = ResendMemory
	s.shrink()
	return s, err
}

func (s *senders) load(kv KV) error {
	id, kind, rest, ok := cutKey(kv.Key)
	switch {
	case !ok:
		return fmt.Errorf("%w: key %x", ErrSenders, kv.Key)
	case kind == kindOffset:
		return s.offsets.load(id.name, rest, kv.Value)
	}
	return s.get(id).load(s, kind, rest, kv.Value)
}

// loadedAll puts in order what was loaded in any.
func (x *sender) loadedAll() {
	var list []*tail
	for t := x.tails.lru.next; t != &x.tails.lru; t = t.next {
		list = append(list, t)
	}
	slices.SortStableFunc(list, func(a, b *tail) int { return cmp.Compare(a.used, b.used) })
	x.tails.lru.prev, x.tails.lru.next = &x.tails.lru, &x.tails.lru
	for _, t := range list {
		x.tails.push(t)
	}
	for st := range x.streams {
		for back := numChunks; back >= 0; back-- {
			chunk := (st.last/chunkLen - uint32(back)) & (seqMask / chunkLen)
			if st.ring[chunk%numChunks] != nil {
				st.enterIndex(chunk)
			}
		}
	}
}

const (
	oldStreamVersion = 1 // without a name
	streamVersion    = 2
)

func (x *sender) load(s *senders, kind byte, rest, v []byte) error {
	bad := func() error {
		return fmt.Errorf("%w: %s kind %q key %x, %d bytes", ErrSenders, x.id, kind, rest, len(v))
	}
	switch kind {
	case kindTails:
		if len(rest) != 0 || len(v)%8 != 0 || len(v) > 8*keepTails {
			return bad()
		}
		for ; len(v) > 0; v = v[8:] {
			x.tails.add(x, &tail{hash: binary.LittleEndian.Uint64(v)})
		}
		x.tails.old = true
		s.touch(x)
		return nil
	case kindTail:
		if len(rest) != 8 || len(v) != 8 {
			return bad()
		}
		hash := binary.BigEndian.Uint64(rest)
		x.tails.add(x, &tail{hash: hash, used: int64(binary.LittleEndian.Uint64(v))})
		x.tails.stored[hash] = true
		return nil
	case kindStream:
		if len(rest) != 4 || len(v) < 5 || v[0] == oldStreamVersion && len(v) != 5 || v[0] > streamVersion || v[0] == 0 || len(v) > 5+maxName {
			return bad()
		}
		st := x.loaded(binary.BigEndian.Uint32(rest))
		st.last = binary.LittleEndian.Uint32(v[1:]) & seqMask
		x.account(len(v) - 5 - len(st.name))
		st.name = string(v[5:])
		return nil
	case kindHashes:
		if len(rest) != 5 || rest[4] >= numChunks || len(v) != 4*chunkLen {
			return bad()
		}
		c := new(chunk)
		for i := range c {
			c[i] = binary.LittleEndian.Uint32(v[4*i:])
		}
		st := x.loaded(binary.BigEndian.Uint32(rest))
		if st.ring[rest[4]] == nil {
			x.account(chunkCost)
		}
		st.ring[rest[4]] = c
		return nil
	}
	return bad()
}

// loaded finds or makes the stream with an id from the store.
func (x *sender) loaded(id uint32) *stream {
	if st := x.byID[id]; st != nil {
		return st
	}
	st := x.addStream(&stream{id: id})
	if x.byID == nil {
		x.byID = map[uint32]*stream{}
	}
	x.byID[id] = st
	x.nextID = max(x.nextID, id)
	return st
}
