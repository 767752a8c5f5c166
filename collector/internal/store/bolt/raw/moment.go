package raw

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/pages"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Moment is all partitions of a store as they were at one instant, also of a store that a
// server writes. Their files are held open, so a day that the server drops meanwhile can
// still be copied. The caller closes it.
type Moment struct {
	Parts []*MomentPart // by day and number
	State *store.State  // of the last batch, without hosts and senders
	// List is the manifest of that instant; nil where there is none that can be used. What a start would not read by it (Judge) is not in Parts, and
	// Doubtful names what of that it would set aside.
	List     *manifest.Content
	Doubtful []string
	files    *layout.Files
}

// MomentPart is a partition in a Moment.
type MomentPart struct {
	layout.PartFile
	Modified    time.Time
	Transaction uint64 // bbolt's: the content is another one exactly when this is; 0: too damaged to be told
	Current     bool   // it has the last batch, so a server may be writing it
	content     *Partition
}

// OpenMoment reads a store's partitions without its lock: all marks first, then the whole
// tree of the one that is written, then once more whether any has changed meanwhile. If so
// it begins again, up to 50 times. A partition that is too damaged to be read is in the
// Moment, too, and is copied as it is. Errors: those of the filesystem, store.ErrNotOurs,
// ErrVersion, ErrDamaged for the folder's marker, pages.ErrBusy.
func OpenMoment(dir string) (_ *Moment, err error) {
	for range 50 {
		m, err := openMoment(dir)
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, pages.ErrBusy) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if _, serr := os.Stat(dir); serr != nil {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, pages.ErrBusy
}

func openMoment(dir string) (_ *Moment, err error) {
	m := &Moment{State: &store.State{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.List, err = LoadList(dir); err != nil {
		return nil, err
	}
	if m.files, err = layout.List(dir); err != nil {
		return nil, err
	}
	verdicts, err := Judge(m.List, m.files.Partitions)
	if err != nil {
		return nil, err
	}
	for _, f := range m.files.Partitions {
		switch verdicts[f.Part] {
		case layout.Counts:
			err = m.add(f)
		case layout.Doubtful:
			m.Doubtful = append(m.Doubtful, f.Path)
		}
		if err != nil {
			return nil, err
		}
	}
	// Of the partition that is written, all is read now: its copy is made from that.
	i := slices.IndexFunc(m.Parts, func(p *MomentPart) bool { return p.Current })
	if i >= 0 {
		cur := m.Parts[i].content
		if err := cur.read(false); err != nil {
			return nil, err
		}
		if m.State, err = layout.DecodeState(cur.State); err != nil {
			return nil, fmt.Errorf("%s: %w", cur.Path, err)
		}
	}
	return m, m.checkUnchanged(dir)
}

// add opens a partition's file and makes it the current one when its state is not older
// than that of any before it.
func (m *Moment) add(f layout.PartFile) error {
	file, err := pages.Open(f.Path)
	if errors.Is(err, unix.EMFILE) {
		err = fmt.Errorf("%w: all %d partitions are held open meanwhile: raise the limit of open files (ulimit -n)", err, len(m.files.Partitions))
	}
	if err != nil {
		return err
	}
	p := &MomentPart{PartFile: f, content: &Partition{Part: f.Part, Path: f.Path, file: file}}
	m.Parts = append(m.Parts, p)
	info, err := file.Stat()
	if err != nil {
		return err
	}
	p.Size, p.Modified = info.Size(), info.ModTime()
	tx, err := p.content.readMarks()
	if errors.Is(err, store.ErrDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	p.Transaction = tx
	// A damaged state is not the newest one; the copy is verified as a whole later.
	if st, err := layout.DecodeState(p.content.State); err == nil && st.ID > 0 && st.ID >= m.State.ID && p.content.Compacted == nil {
		for _, o := range m.Parts {
			o.Current = false
		}
		p.Current, m.State = true, st
	}
	return nil
}

// checkUnchanged returns nil when the same partitions are there as before, and none was written
// since it was read; else pages.ErrBusy.
func (m *Moment) checkUnchanged(dir string) error {
	files, err := layout.List(dir)
	if err != nil {
		return err
	}
	list, err := LoadList(dir)
	if err != nil {
		return err
	}
	same := slices.EqualFunc(files.Partitions, m.files.Partitions, func(a, b layout.PartFile) bool { return a.Part == b.Part }) && sameParts(list, m.List)
	for _, p := range m.Parts {
		same = same && p.unchanged()
	}
	if !same {
		return pages.ErrBusy
	}
	return nil
}

// sameParts reports whether two manifests list the same partitions: compaction changes which count in one moment.
func sameParts(a, b *manifest.Content) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.EqualFunc(a.Parts, b.Parts, func(x, y manifest.Part) bool { return x.Name == y.Name })
}

// unchanged reports whether the partition was not written since it was read. One that is
// too damaged to have a transaction counts as unchanged.
func (p *MomentPart) unchanged() bool {
	if p.Transaction == 0 {
		return true
	}
	tx, err := p.content.file.Transaction()
	return err == nil && tx == p.Transaction
}

// Close closes the files.
func (m *Moment) Close() error {
	var errs []error
	for _, p := range m.Parts {
		errs = append(errs, p.content.Close())
	}
	m.Parts = nil
	return errors.Join(errs...)
}

// CopyTo writes the partition as it was at the moment into a new file, durably. A partition
// that nobody writes is copied byte for byte, and sum is its SHA-256. The current one is
// made anew from what could be read of it; damage is what could not. progress, when not
// nil, is called with the bytes written since its last call.
func (p *MomentPart) CopyTo(ctx context.Context, path string, progress func(int64)) (sum string, damage []error, err error) {
	if !p.Current {
		sum, err = p.copyFile(ctx, path, progress)
		return sum, nil, err
	}
	for i := range p.content.Findings {
		damage = append(damage, &p.content.Findings[i])
	}
	return "", damage, p.content.CopyTo(ctx, path, progress)
}

// copyFile copies a file byte for byte, and fails with pages.ErrBusy when it was written
// meanwhile.
func (p *MomentPart) copyFile(ctx context.Context, path string, progress func(int64)) (_ string, err error) {
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	hash := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < p.Size && ctx.Err() == nil; {
		n, rerr := p.content.file.ReadAt(buf[:min(int64(len(buf)), p.Size-off)], off)
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
		return "", fmt.Errorf("%s: %w", p.Path, pages.ErrBusy)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// CopySenders writes the state of resend detection of the store in from, as it is now, into
// a new file in dir; none where the store has none, or one that is too damaged. damage is
// what could not be copied.
func CopySenders(from, dir string) (damage []error, err error) {
	s, err := OpenSenders(from, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, store.ErrDamaged): // not worth a backup that is not made
		return []error{fmt.Errorf("%s: %w", filepath.Join(from, layout.Senders), err)}, nil
	case err != nil:
		return nil, err
	}
	for i := range s.Findings {
		damage = append(damage, &s.Findings[i])
	}
	return damage, s.CopyTo(dir)
}

// OtherStore returns the ID that most partitions have, when none of them has id: then they
// are another store's. It returns the zero ID when one has id, or none has any.
func OtherStore(files *layout.Files, id seglog.ID) (other seglog.ID) {
	votes := map[seglog.ID]int{}
	for _, f := range files.Partitions {
		file, err := pages.Open(f.Path)
		if err != nil {
			continue // said when it is verified
		}
		p := &Partition{Part: f.Part, Path: f.Path, file: file}
		_, err = p.readMarks()
		_ = p.Close() // only read
		switch {
		case err != nil || p.ID == (seglog.ID{}):
		case p.ID == id:
			return other
		default:
			votes[p.ID]++
		}
	}
	for x, n := range votes {
		if n > votes[other] || n == votes[other] && x.String() < other.String() {
			other = x
		}
	}
	return other
}
