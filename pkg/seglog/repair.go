package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// repair copies each damaged place to a file of its own and puts a gap frame there; it puts
// gap frames with a note at holes that were never durable, and cuts a torn end off. Each step
// is durable before the next: a crash in between leaves something that the next Open repairs
// in the same way.
func (l *Log) repair(file fsys.File, seg *segment, found *checked, rec *Recovery) error {
	for i := range found.damaged {
		d := &found.damaged[i]
		if d.Bytes > 0 {
			d.SetAside = fmt.Sprintf("%s.corrupt-%d", seg.name, d.Offset)
			if err := copyAside(l.opt, file, d.SetAside, d.Offset, d.Bytes); err != nil {
				return fmt.Errorf("set aside damage at offset %d: %w", d.Offset, err)
			}
		}
		if err := putGap(file, seg, d.Offset, d.Bytes, d.Last); err != nil {
			return fmt.Errorf("mark damage at offset %d: %w", d.Offset, err)
		}
		rec.Damaged = append(rec.Damaged, *d)
	}
	for _, u := range found.unsynced {
		if err := putNote(file, seg, u); err != nil {
			return fmt.Errorf("note what was not synced at offset %d: %w", u.Offset, err)
		}
		if err := putGap(file, seg, u.Offset, u.Bytes, u.Last); err != nil {
			return fmt.Errorf("mark what was not synced at offset %d: %w", u.Offset, err)
		}
	}
	rec.Unsynced = append(rec.Unsynced, found.unsynced...)
	if t := found.torn; t != nil {
		if err := file.Truncate(t.Offset); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		rec.Torn = t
	}
	return nil
}

// putGap marks n damaged bytes at off as skipped and the entries up to last as lost.
func putGap(file fsys.File, seg *segment, off, n int64, last uint64) error {
	if _, err := file.WriteAt(gapFrame(seg, n, last), off); err != nil {
		return err
	}
	return file.Datasync()
}

// gapFrame returns the head of a gap over n bytes, itself included, up to entry last.
func gapFrame(seg *segment, n int64, last uint64) []byte {
	return putFrame(nil, seg.seed, frameGap, last, int(max(n-frameHead, 0)), nil)
}

// putNote writes the note of a gap whose entries were not synced, behind the place of the
// gap's head, and makes it durable. The gap is written after it: a note without a gap is a
// part of bytes that are no frame anyhow.
func putNote(file fsys.File, seg *segment, u Damage) error {
	if u.Bytes < frameHead+noteSize {
		return nil // no entry of a byte or more fits in there
	}
	note := binary.LittleEndian.AppendUint32(nil, noteOf(seg.seed, gapFrame(seg, u.Bytes, u.Last)))
	if _, err := file.WriteAt(note, u.Offset+frameHead); err != nil {
		return err
	}
	return file.Datasync()
}

// copyAside copies damaged bytes to a file of their own, durably. When Open runs again after
// a crash it makes the same file again.
func copyAside(o Options, from fsys.File, name string, off, n int64) error {
	path := filepath.Join(o.Dir, name)
	to, err := o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = copyRange(to, 0, from, off, n)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	return o.FS.SyncDir(o.Dir)
}

// copyRange copies n bytes from off in one file to toOff in another, which may be the same.
func copyRange(to fsys.File, toOff int64, from fsys.File, off, n int64) error {
	buf := make([]byte, min(n, 1<<20))
	for done := int64(0); done < n; {
		b := buf[:min(n-done, int64(len(buf)))]
		if _, err := from.ReadAt(b, off+done); err != nil {
			return err
		}
		if _, err := to.WriteAt(b, toOff+done); err != nil {
			return err
		}
		done += int64(len(b))
	}
	return nil
}
