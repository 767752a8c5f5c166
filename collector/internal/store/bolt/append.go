package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// Append stores a batch: its group, its catalogue entry and the writer's state
// in one transaction of the day's file.
func (s *Store) Append(ctx context.Context, b *store.Batch) error {
	if s.opts.ReadOnly {
		return store.ErrReadOnly
	}
	s.appendMu.Lock()
	defer s.appendMu.Unlock()
	last, err := s.last()
	switch {
	case err != nil:
		return err
	case b.ID <= last:
		return nil
	case b.ID != last+1:
		return fmt.Errorf("append batch %d after %d: %w", b.ID, last, store.ErrGap)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var blob []byte
	var sum group.Summary
	if b.Events != nil && b.Events.Stats().Events > 0 {
		if blob, sum, err = s.codec.Encode(b.Events); err != nil {
			return fmt.Errorf("append batch %d: %w", b.ID, err)
		}
	}
	err = s.senders.put(b.Senders)
	if errors.Is(err, store.ErrDamaged) {
		if err = s.renewSenders(err); err == nil {
			err = s.senders.put(b.Senders)
		}
	}
	if err != nil {
		return fmt.Errorf("append batch %d: %w", b.ID, err)
	}
	if len(b.Forget) > 0 {
		if err := s.list.forgot(); err != nil {
			return fmt.Errorf("append batch %d: %w", b.ID, err)
		}
	}
	p, err := s.put(b, blob, &sum)
	if errors.Is(err, store.ErrDamaged) && s.mend(b.Day, err) {
		p, err = s.put(b, blob, &sum)
	}
	if err != nil {
		return fmt.Errorf("append batch %d: %w", b.ID, err)
	}
	if err := s.appended(p, b, blob, &sum); err != nil {
		// The batch is stored. That the one before it is sealed is said with the next.
		s.log.Warn("the manifest", "error", err)
	}
	return nil
}

// last is the ID of the last batch; ErrClosed after Close.
func (s *Store) last() (id uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		err = store.ErrClosed
	}
	return s.state.ID, err
}

// appended takes note of a batch that is stored, and seals the partition before p.
func (s *Store) appended(p *partition, b *store.Batch, blob []byte, sum *group.Summary) error {
	s.mu.Lock()
	old := s.cur
	s.cur = p
	s.state.ID, s.state.LSN, s.state.Open = b.ID, b.LSN, slices.Clone(b.Open)
	if blob != nil {
		p.entries = append(slices.Clone(p.entries), entry{b.ID, *sum})
	}
	p.place = b.ID
	if old == nil || old == p {
		s.mu.Unlock()
		return nil
	}
	if err := old.reopen(false); err != nil {
		// What is in it stays; it cannot be searched until it opens again.
		s.log.Error("sealing a partition", "partition", old.path, "error", err)
	}
	sealed := old.listed()
	s.mu.Unlock()
	return s.list.seal(sealed)
}

// put writes a batch's transaction.
func (s *Store) put(b *store.Batch, blob []byte, sum *group.Summary) (*partition, error) {
	p, err := s.writable(b.Day)
	if err != nil {
		return nil, err
	}
	all, moved, err := s.carry(p)
	if err != nil {
		return nil, err
	}
	return p, p.update(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(bktMeta); meta.Get(keyStore) == nil {
			if err := putID(meta, s.list.id); err != nil { // begun before the store had one
				return err
			}
		}
		return write(tx, b, blob, sum, all, moved)
	})
}

// mend repairs the partitions that a batch of a day needs, after one of them was
// found damaged; false when there was nothing to be done.
func (s *Store) mend(day store.Day, cause error) bool {
	s.mu.Lock()
	var list []*partition
	for _, p := range s.parts {
		if p.part.Day == day || p == s.cur {
			list = append(list, p)
		}
	}
	st, cur := s.state, s.cur
	s.mu.Unlock()
	mended := false
	for _, p := range list {
		if !strings.Contains(cause.Error(), p.path) {
			continue
		}
		var place *store.State
		if p == cur {
			place = &st
		}
		back, err := s.repair(p, cause, place)
		if err != nil {
			s.log.Error("a damaged partition cannot be repaired", "partition", p.path, "error", err)
		}
		if !back {
			s.mu.Lock()
			s.parts = slices.DeleteFunc(slices.Clone(s.parts), func(x *partition) bool { return x == p })
			if s.cur == p {
				s.cur = nil
			}
			s.mu.Unlock()
		}
		mended = mended || err == nil
	}
	return mended
}

// writable finds or makes the day's file, the last if there are several, and opens
// it to write.
func (s *Store) writable(day store.Day) (*partition, error) {
	var p *partition
	s.mu.Lock()
	for _, x := range s.parts {
		if x.part.Day == day {
			p = x
		}
	}
	s.mu.Unlock()
	if p != nil {
		return p, p.reopen(true)
	}
	p = s.newPart(store.Part{Day: day, N: 1})
	p.id = s.list.id
	if err := p.create(nil); err != nil {
		return nil, err
	}
	if err := s.listNew(p); err != nil {
		return nil, err
	}
	if err := p.reopen(true); err != nil {
		return nil, err
	}
	s.addPart(p)
	return p, nil
}

// carry reads the hosts when the last batch went to another file than p's: they
// have to go along.
func (s *Store) carry(p *partition) (hosts []store.KV, moved bool, err error) {
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	if cur == nil || cur == p {
		return nil, false, nil
	}
	err = cur.view(func(tx *bbolt.Tx) error {
		hosts = copyBucket(tx.Bucket(bktHosts))
		return nil
	})
	return hosts, true, err
}

func copyBucket(b *bbolt.Bucket) []store.KV {
	var out []store.KV
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		out = append(out, store.KV{Key: bytes.Clone(k), Value: bytes.Clone(v)})
	}
	return out
}

// write is a batch's transaction.
func write(tx *bbolt.Tx, b *store.Batch, blob []byte, sum *group.Summary, all []store.KV, moved bool) error {
	if moved {
		if err := tx.DeleteBucket(bktHosts); err != nil {
			return err
		}
		bkt, err := tx.CreateBucket(bktHosts)
		if err != nil {
			return err
		}
		if err := putAll(bkt, all); err != nil {
			return err
		}
	}
	if blob != nil {
		bkt, err := tx.Bucket(bktGroups).CreateBucket(idKey(b.ID))
		if err != nil {
			return err
		}
		if err := bkt.Put(keyBlob, blob); err != nil {
			return err
		}
		if err := tx.Bucket(bktCatalog).Put(idKey(b.ID), sum.Encode()); err != nil {
			return err
		}
	}
	hosts := tx.Bucket(bktHosts)
	for _, name := range b.Forget {
		if err := hosts.Delete(hostKey(name)); err != nil {
			return fmt.Errorf("host %.80q: %w", name, err)
		}
	}
	for i := range b.Hosts {
		if err := hosts.Put(hostKey(b.Hosts[i].Name), encodeHost(&b.Hosts[i])); err != nil {
			return fmt.Errorf("host %.80q: %w", b.Hosts[i].Name, err)
		}
	}
	return tx.Bucket(bktMeta).Put(keyState, encodeState(b))
}

// ---- what goes along ----

// hostKey is never empty, as bbolt wants it.
func hostKey(name string) []byte { return append([]byte{'h'}, name...) }

// Version 2 of each ends with a checksum of key and value; version 1 had none.
const (
	stateVersion = 2
	hostVersion  = 2
	alsoVersion  = 3 // of a host that has Also
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// addSum appends the checksum of key and value.
func addSum(key, v []byte) []byte {
	return binary.LittleEndian.AppendUint32(v, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, v))
}

// cutSum is the reverse of addSum.
func cutSum(key, v []byte) ([]byte, error) {
	n := len(v) - 4
	if n < 0 || crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, v[:n]) != binary.LittleEndian.Uint32(v[n:]) {
		return nil, fmt.Errorf("%w: checksum of %d bytes", store.ErrDamaged, len(v))
	}
	return v[:n], nil
}

// openValue takes the version off and checks the sum, which version 1 has not.
func openValue(key, v []byte, latest byte) ([]byte, error) {
	var err error
	switch {
	case len(v) == 0:
		return nil, fmt.Errorf("%w: no bytes", store.ErrDamaged)
	case v[0] == 1:
	case v[0] >= 2 && v[0] <= latest:
		if v, err = cutSum(key, v); err != nil {
			return nil, err
		}
	default:
		// A program that writes another version also says so in the file's format.
		return nil, fmt.Errorf("%w: version %d", store.ErrDamaged, v[0])
	}
	return v[1:], nil
}

func encodeState(b *store.Batch) []byte {
	v := []byte{stateVersion}
	v = binary.AppendUvarint(v, b.ID)
	v = binary.AppendUvarint(v, b.LSN)
	v = binary.AppendUvarint(v, uint64(len(b.Open)))
	prev := uint64(0)
	for _, o := range b.Open {
		v = binary.AppendUvarint(v, o-prev)
		prev = o
	}
	return addSum(keyState, v)
}

func decodeState(v []byte) (*store.State, error) {
	if len(v) == 0 {
		return &store.State{}, nil
	}
	body, err := openValue(keyState, v, stateVersion)
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

func encodeHost(h *store.Host) []byte {
	v := []byte{hostVersion}
	for _, n := range [...]uint64{uint64(unixNano(h.First)), uint64(unixNano(h.Last)), uint64(h.LastEventMs),
		h.Records, h.Bytes, h.Duplicates, h.Unparsable, uint64(len(h.Addrs))} {
		v = binary.AppendUvarint(v, n)
	}
	for _, a := range h.Addrs {
		b := a.As16()
		v = append(v, b[:]...)
	}
	if h.Also != "" {
		v[0] = alsoVersion
		v = append(v, h.Also...)
	}
	return addSum(hostKey(h.Name), v)
}

func decodeHost(k, v []byte) (store.Host, error) {
	bad := fmt.Errorf("%w: host %.80q of %d bytes", store.ErrDamaged, k, len(v))
	if len(k) == 0 || k[0] != 'h' {
		return store.Host{}, bad
	}
	also := len(v) > 0 && v[0] == alsoVersion
	body, err := openValue(k, v, alsoVersion)
	if err != nil {
		return store.Host{}, fmt.Errorf("host %.80q: %w", k[1:], err)
	}
	r := varint.NewReader(body)
	h := store.Host{Name: string(k[1:]), First: timeOf(r.Uvarint()), Last: timeOf(r.Uvarint()), LastEventMs: int64(r.Uvarint()),
		Records: r.Uvarint(), Bytes: r.Uvarint(), Duplicates: r.Uvarint(), Unparsable: r.Uvarint()}
	n := r.Count(16)
	if r.Bad() || n > store.MaxAddrs || also != (r.Len() > 16*n) {
		return store.Host{}, bad
	}
	for range n {
		h.Addrs = append(h.Addrs, netip.AddrFrom16([16]byte(r.Bytes(16))).Unmap())
	}
	h.Also = string(r.Bytes(uint64(r.Len())))
	return h, nil
}

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

func (p *partition) loadState() (st *store.State, err error) {
	err = p.view(func(tx *bbolt.Tx) error {
		st, err = decodeState(tx.Bucket(bktMeta).Get(keyState))
		return err
	})
	return st, err
}

// loadHosts reads what is known of hosts; bad is why some could not be read.
func (p *partition) loadHosts() (hosts []store.Host, bad, err error) {
	err = p.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bktHosts).ForEach(func(k, v []byte) error {
			h, err := decodeHost(k, v)
			if errors.Is(err, store.ErrDamaged) {
				bad = errors.Join(bad, fmt.Errorf("%s: %w", p.path, err))
				return nil
			}
			hosts = append(hosts, h)
			return err
		})
	})
	return hosts, bad, err
}
