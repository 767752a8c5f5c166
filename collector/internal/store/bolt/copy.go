package bolt

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	bbolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Moment is all partitions of a store as they were at one instant, also of a
// store that a server writes. Their files are held open: a day that is dropped
// meanwhile is there still.
type Moment struct {
	Parts []*MomentPart // by day and number
	State *store.State  // of the last batch, without hosts and senders
	files *Files
}

// MomentPart is a partition in a Moment.
type MomentPart struct {
	PartFile
	Modified time.Time
	Batch    uint64 // bbolt's transaction: another one, another content
	Current  bool   // it has the last batch
	raw      *rawFile
	tree     *rawPart
}

// OpenMoment looks at a store's partitions without its lock. fs errors, ErrNotOurs,
// ErrVersion; a partition that is too damaged to be looked at is copied as it is.
func OpenMoment(dir string) (_ *Moment, err error) {
	for range 50 {
		m, err := openMoment(dir)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, errBusy) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if _, serr := os.Stat(dir); serr != nil {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errBusy
}

func openMoment(dir string) (_ *Moment, err error) {
	m := &Moment{State: &store.State{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.files, err = List(dir); err != nil {
		return nil, err
	}
	for _, f := range m.files.Partitions {
		p := &MomentPart{PartFile: f}
		if p.raw, err = openRaw(f.Path); err != nil {
			if errors.Is(err, unix.EMFILE) {
				err = fmt.Errorf("%w: all %d partitions are held open meanwhile: raise the limit of open files (ulimit -n)", err, len(m.files.Partitions))
			}
			return nil, err
		}
		m.Parts = append(m.Parts, p)
		if err := p.look(m); err != nil {
			return nil, err
		}
	}
	var cur *MomentPart
	for _, p := range m.Parts {
		if p.Current {
			cur = p
		}
	}
	if cur != nil {
		if cur.tree, err = cur.raw.tree(cur.Part, true); err != nil {
			return nil, err
		}
		if m.State, err = decodeState(cur.tree.state); err != nil {
			return nil, fmt.Errorf("%s: %w", cur.Path, err)
		}
	}
	return m, m.still(dir)
}

// look finds out whether p has a later batch than those before it.
func (p *MomentPart) look(m *Moment) error {
	info, err := p.raw.f.Stat()
	if err != nil {
		return err
	}
	p.Size, p.Modified = info.Size(), info.ModTime()
	tree, err := p.raw.marks()
	if errors.Is(err, store.ErrDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	p.Batch = p.raw.meta.tx
	// A damaged state is not the newest one; the copy is verified as a whole later.
	if st, err := decodeState(tree.state); err == nil && st.ID > 0 && st.ID >= m.State.ID {
		for _, o := range m.Parts {
			o.Current = false
		}
		p.Current, m.State = true, st
	}
	return nil
}

// marks reads only the partition's own marks.
func (r *rawFile) marks() (p *rawPart, err error) {
	err = r.attempt(func() error {
		p = &rawPart{}
		r.note = func(int64, error) {}
		r.walk(r.meta.root, func(e *elem) {
			if string(e.key) == string(bktMeta) {
				p.bucket(r, string(bktMeta), e, nil)
			}
		})
		return nil
	})
	return p, err
}

// still says whether nothing was written since the look at each partition.
func (m *Moment) still(dir string) error {
	files, err := List(dir)
	if err != nil {
		return err
	}
	same := slices.EqualFunc(files.Partitions, m.files.Partitions, func(a, b PartFile) bool { return a.Part == b.Part })
	for _, p := range m.Parts {
		same = same && p.unchanged()
	}
	if !same {
		return errBusy
	}
	return nil
}

func (p *MomentPart) unchanged() bool {
	if p.Batch == 0 {
		return true
	}
	meta := p.raw.meta
	err := p.raw.loadMeta(nil)
	same := err == nil && p.raw.meta.tx == p.Batch
	p.raw.meta = meta
	return same
}

// Close lets go of the files.
func (m *Moment) Close() error {
	var errs []error
	for _, p := range m.Parts {
		if p.raw != nil {
			errs = append(errs, p.raw.Close())
			p.raw = nil
		}
	}
	return errors.Join(errs...)
}

// CopyTo writes the partition as it was at the moment into a new file, durably,
// and returns its SHA-256 when it is the file's own bytes. damage is what could
// not be read of it.
func (p *MomentPart) CopyTo(ctx context.Context, path string, progress func(int64)) (sum string, damage []error, err error) {
	if p.Current {
		damage, err = p.write(ctx, path, progress)
		return "", damage, err
	}
	sum, err = p.copyFile(ctx, path, progress)
	return sum, nil, err
}

// copyFile copies a file that nobody writes.
func (p *MomentPart) copyFile(ctx context.Context, path string, progress func(int64)) (_ string, err error) {
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	hash := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < p.Size && ctx.Err() == nil; {
		n, rerr := p.raw.f.ReadAt(buf[:min(int64(len(buf)), p.Size-off)], off)
		if n == 0 && rerr != nil {
			return "", fmt.Errorf("read %s: %w", p.Path, rerr)
		}
		_, _ = hash.Write(buf[:n]) // never fails
		if _, err := to.WriteAt(buf[:n], off); err != nil {
			return "", err
		}
		off += int64(n)
		if progress != nil {
			progress(int64(n))
		}
	}
	if err := errors.Join(ctx.Err(), to.Sync()); err != nil {
		return "", err
	}
	if !p.unchanged() {
		return "", fmt.Errorf("%s: %w", p.Path, errBusy)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// writeChunk is about how much of groups goes into one transaction of a copy.
const writeChunk = 32 << 20

// write makes a partition of what the tree says was there. The bytes of groups
// never change, so they may be read while later batches are written.
func (p *MomentPart) write(ctx context.Context, path string, progress func(int64)) (damage []error, err error) {
	for i := range p.tree.found {
		damage = append(damage, &p.tree.found[i])
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: boltTimeout, FreelistType: bbolt.FreelistMapType, NoSync: true})
	if err != nil {
		return damage, err
	}
	db.AllocSize = allocBytes
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Update(func(tx *bbolt.Tx) error { return p.tree.small(tx) }); err != nil {
		return damage, err
	}
	for rest := p.tree.groups; len(rest) > 0; {
		n, size := 0, int64(0)
		for n < len(rest) && (n == 0 || size+rest[n].at.size <= writeChunk) {
			size += rest[n].at.size
			n++
		}
		err := db.Update(func(tx *bbolt.Tx) error {
			for i := range rest[:n] {
				if err := errors.Join(ctx.Err(), p.raw.put(tx, &rest[i])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return damage, err
		}
		if progress != nil {
			progress(size)
		}
		rest = rest[n:]
	}
	return damage, db.Sync()
}

// small writes everything but groups and catalogue.
func (p *rawPart) small(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bktMeta, bktGroups, bktCatalog, bktHosts} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bktMeta)
	err := errors.Join(
		meta.Put(keyFormat, binary.LittleEndian.AppendUint32(nil, partVersion)),
		putPart(meta, p.part),
		putID(meta, p.id),
		putAll(tx.Bucket(bktHosts), p.hosts))
	if len(p.state) > 0 {
		err = errors.Join(err, meta.Put(keyState, p.state))
	}
	return err
}

// put copies a group and its catalogue entry.
func (r *rawFile) put(tx *bbolt.Tx, g *rawGroup) error {
	if g.said {
		if err := tx.Bucket(bktCatalog).Put(g.key, g.cat); err != nil {
			return err
		}
	}
	if g.at.size == 0 {
		return nil // it is listed, and verify says that it is not there
	}
	b := make([]byte, g.at.size)
	if _, err := r.f.ReadAt(b, g.at.off); err != nil {
		return fmt.Errorf("read group %d of %s: %w", g.id, r.path, err)
	}
	bkt, err := tx.Bucket(bktGroups).CreateBucket(g.key)
	if err != nil {
		return err
	}
	return bkt.Put(keyBlob, b)
}

// CopySenders writes the state of resend detection, as it is now, into a new file
// in dir. A store without any is copied without any.
func CopySenders(from, dir string) (damage []error, err error) {
	r, err := openRaw(filepath.Join(from, sendersName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	have, err := r.senders(true)
	if err != nil && !errors.Is(err, store.ErrDamaged) {
		return nil, err
	}
	if err != nil {
		return []error{fmt.Errorf("%s: %w", r.path, err)}, nil // not worth a backup that is not made
	}
	for i := range have.found {
		damage = append(damage, &have.found[i])
	}
	f := &senders{path: filepath.Join(dir, sendersName), id: have.ID}
	if err := f.create(); err != nil {
		return damage, err
	}
	if err := f.open(false); err != nil {
		return damage, err
	}
	return damage, errors.Join(f.put(have.kvs), f.close())
}

var _ io.Closer = (*Moment)(nil)

// IsBusy says whether an error is only that the store was written too fast to be
// looked at: another attempt may succeed.
func IsBusy(err error) bool { return errors.Is(err, errBusy) }
