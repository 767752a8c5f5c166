package seglog

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"syscall"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
	"pgregory.net/rapid"
)

// model runs a log on a failing disk and knows what it must hold.
type model struct {
	fs      *faultfs.FS
	opt     Options
	log     *Log
	written map[uint64][]byte // what was appended last under an index
	synced  uint64            // highest index that Sync has confirmed
	cut     uint64            // TruncateFront's highest argument
	unique  uint64
	// maybe is what a failed Append has tried to write: until something else is
	// confirmed under that index it may come up after a crash.
	maybe map[uint64][][]byte
	// gone are unconfirmed entries that a power loss tore out of the middle.
	gone map[uint64]bool
	kept int // opens that knew something
	fail func(format string, args ...any)
}

func newModel(seed int64, fail func(string, ...any)) *model {
	m := &model{
		fs: faultfs.New(seed), written: map[uint64][]byte{}, gone: map[uint64]bool{}, maybe: map[uint64][][]byte{}, cut: 1, fail: fail,
	}
	m.opt = Options{FS: m.fs, Dir: "/log", Kind: "model", SegmentBytes: 2*dataOffset + 600, MaxUnsynced: 3000, ReadBuffer: 4096}
	if seed%2 == 0 {
		m.keep()
	}
	return m
}

// keep gives the log an ID, and keeps what is known of it on the same disk.
func (m *model) keep() {
	m.opt.ID = ID{1, 2, 3}
	m.opt.Changed = func(k Known, _ []Damage) error {
		b, err := json.Marshal(k)
		if err != nil {
			return err
		}
		return fsys.ReplaceOn(m.fs, "/known", b, 0o600)
	}
}

// recall reads what was kept of the log.
func (m *model) recall() error {
	m.opt.Known = Known{}
	f, err := m.fs.OpenFile("/known", os.O_RDONLY, 0)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return json.Unmarshal(b, &m.opt.Known)
}

func (m *model) payload(n int) []byte {
	m.unique++
	b := make([]byte, 8+n)
	binary.LittleEndian.PutUint64(b, m.unique)
	for i := range b[8:] {
		b[8+i] = byte(m.unique) * byte(i&3) // runs of zeroes too
	}
	return b
}

// open opens the log; false when a fault kept it from opening.
func (m *model) open() bool {
	if m.opt.Changed != nil {
		if err := m.recall(); err != nil {
			m.log = nil
			return false
		}
	}
	l, rec, err := Open(m.opt)
	if err != nil {
		m.log = nil
		return false
	}
	m.log = l
	if m.opt.Changed != nil && m.opt.Known.Newest > 0 {
		m.kept++
	}
	if len(rec.Damaged) > 0 {
		m.fail("damage that nothing has caused: %+v", rec.Damaged)
	}
	for _, g := range rec.Gaps {
		if !g.Unsynced {
			m.fail("a gap that nobody can tell from damage: %+v", g)
		}
		for i := g.First; i <= g.Last; i++ {
			m.gone[i] = true // marked by an Open that was cut short
		}
	}
	for _, u := range rec.Unsynced {
		if u.First <= u.Last && u.First <= m.synced {
			m.fail("entries %d to %d, up to %d were confirmed: %+v", u.First, u.Last, m.synced, u)
		}
		for i := u.First; i <= u.Last; i++ {
			m.gone[i] = true
		}
	}
	m.check()
	m.synced = max(m.synced, l.Synced())
	return true
}

// check reads everything and compares.
func (m *model) check() {
	l := m.log
	if l.Last() < m.synced {
		m.fail("last entry %d, %d was confirmed", l.Last(), m.synced)
	}
	if first := l.First(); first > m.cut && first > 1 {
		m.fail("first entry %d, truncated before %d", first, m.cut)
	}
	r, err := l.Reader(0)
	if err != nil {
		m.fail("reader: %v", err)
	}
	defer r.Close()
	prev := l.First() - 1
	for {
		i, p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, faultfs.ErrPower) {
			return // a fault that was asked for
		}
		if err != nil {
			m.fail("after entry %d: %v", prev, err)
		}
		if i <= prev {
			m.fail("entry %d after %d", i, prev)
		}
		for miss := prev + 1; miss < i; miss++ {
			if !m.gone[miss] {
				m.fail("entry %d is missing, up to %d were confirmed", miss, m.synced)
			}
		}
		if i > m.synced {
			for _, tried := range m.maybe[i] {
				if bytes.Equal(p, tried) {
					m.written[i] = tried
				}
			}
		}
		if !bytes.Equal(p, m.written[i]) {
			m.fail("entry %d is %x, want %x", i, p, m.written[i])
		}
		prev = i
	}
	for prev < m.synced && m.gone[prev+1] {
		prev++
	}
	if prev < m.synced {
		m.fail("read up to %d, %d was confirmed", prev, m.synced)
	}
}

func (m *model) append(rng *rand.Rand) error {
	batch := make([][]byte, 1+rng.Intn(4))
	for i := range batch {
		batch[i] = m.payload(rng.Intn(300))
	}
	expect := m.log.Last() + 1
	first, err := m.log.Append(batch...)
	if err != nil {
		for i, b := range batch {
			m.maybe[expect+uint64(i)] = append(m.maybe[expect+uint64(i)], b)
		}
		return err
	}
	if first != expect || first <= m.synced {
		m.fail("appended at %d, expected %d, %d were confirmed", first, expect, m.synced)
	}
	for i, b := range batch {
		if old := m.written[first+uint64(i)]; old != nil {
			m.maybe[first+uint64(i)] = append(m.maybe[first+uint64(i)], old)
		}
		m.written[first+uint64(i)] = b
		if m.gone[first+uint64(i)] {
			m.fail("index %d was used before", first+uint64(i))
		}
	}
	m.synced = max(m.synced, m.log.Synced())
	return nil
}

func (m *model) sync() error {
	last := m.log.Last()
	if err := m.log.Sync(); err != nil {
		return err
	}
	if m.log.Synced() != last {
		m.fail("synced %d of %d", m.log.Synced(), last)
	}
	m.synced = last
	return nil
}

// step does one random thing; power loss and process death included.
func (m *model) step(rng *rand.Rand) {
	if m.log == nil {
		m.fs.Heal()
		if !m.open() {
			m.fail("cannot be opened on a healthy disk")
		}
		return
	}
	switch p := rng.Intn(100); {
	case p < 50:
		_ = m.append(rng)
	case p < 75:
		_ = m.sync()
	case p < 80:
		before := m.log.First() + uint64(rng.Intn(10))
		if before > m.log.Last()+1 {
			before = m.log.Last() + 1
		}
		m.cut = max(m.cut, before)
		_ = m.log.TruncateFront(before)
	case p < 84:
		m.log.Close()
		m.fs.Kill()
		m.synced = max(m.synced, m.log.Synced())
		m.log = nil
	case p < 88:
		m.fs.Kill()
		m.log = nil
	case p < 93:
		m.fs.Crash()
		m.log = nil
	case p < 96:
		ops := faultfs.Ops()
		cause := []error{syscall.EIO, syscall.ENOSPC}[rng.Intn(2)]
		m.fs.Fail(ops[rng.Intn(len(ops))], 1+rng.Intn(6), cause)
	case p < 97:
		m.fs.SetSpace(int64(rng.Intn(3000)))
	case p < 98:
		m.fs.CutPower(1 + rng.Intn(10))
	default:
		m.fs.Heal()
		if m.log.Err() == nil {
			m.check()
		}
	}
	if m.log != nil {
		m.synced = max(m.synced, m.log.Synced())
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Int64().Draw(t, "seed")
		steps := rapid.IntRange(1, 120).Draw(t, "steps")
		rng := rand.New(rand.NewSource(seed))
		m := newModel(seed, func(format string, args ...any) { t.Fatalf("seed %d: %s", seed, fmt.Sprintf(format, args...)) })
		if rng.Intn(2) == 0 {
			m.fs.TearBytes()
		}
		if rng.Intn(2) == 0 {
			m.opt.Preallocate = PreallocateNone
		}
		for range steps {
			m.step(rng)
		}
		m.fs.Heal()
		if m.log != nil {
			m.log.Close()
		}
		if n := m.fs.OpenFiles(); n > 0 && m.log != nil {
			t.Fatalf("%d files still open", n)
		}
		m.fs.Crash()
		if !m.open() {
			t.Fatal("cannot be opened on a healthy disk")
		}
	})
}
