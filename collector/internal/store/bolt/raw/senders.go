package raw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/pages"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// Senders is the state of resend detection, as it was at one moment.
type Senders struct {
	ID       seglog.ID  // of the store; zero: the file does not say it
	Values   []store.KV // without checksums; those that are wrong are left out
	Findings []Finding
	size     int64 // of the file
}

// OpenSenders reads the state of resend detection of the store in dir, and closes the file
// again. With free, it compares the list of free pages with the pages in use, too.
// fs.ErrNotExist means that there is none, as in a new store; store.ErrDamaged that the
// file's tree cannot be read: then there are Senders all the same, with the Findings so far.
func OpenSenders(dir string, free bool) (s *Senders, err error) {
	path := filepath.Join(dir, layout.Senders)
	f, err := pages.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	err = f.ReadTree(func(t *pages.Tree) error {
		s = &Senders{size: info.Size()}
		t.Found = func(off int64, err error) {
			s.Findings = append(s.Findings, Finding{Path: path, Offset: off, Block: -1, Err: err})
		}
		if err := t.CheckMeta(); err != nil {
			return err
		}
		s.read(t)
		if free {
			t.CheckFree()
		}
		return nil
	})
	if s == nil {
		s = &Senders{size: info.Size()}
	}
	return s, err
}

// CopyTo writes the values into a new file in the store's folder dir, durably. The copy is
// of the latest format, with checksums, whatever the original was of.
func (s *Senders) CopyTo(dir string) error {
	db, err := bbolt.Open(filepath.Join(dir, layout.Senders), 0o600, &bbolt.Options{Timeout: boltTimeout, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if err := layout.NewSenders(tx, s.ID); err != nil {
			return err
		}
		values := tx.Bucket(layout.BucketSenders)
		for _, kv := range s.Values {
			if err := values.Put(kv.Key, layout.AddSum(kv.Key, slices.Clone(kv.Value))); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// read fills s from the file's tree.
func (s *Senders) read(t *pages.Tree) {
	summed := false // by the format, which lies before the values
	buckets := 0
	t.Walk(func(e *pages.Elem) {
		switch string(e.Key) {
		case string(layout.BucketMarks):
			buckets++
			t.WalkBucket(e, func(e *pages.Elem) {
				switch {
				case string(e.Key) == string(layout.KeyStore):
					var err error
					if s.ID, err = layout.DecodeID(e.Value); err != nil {
						t.Found(e.Start(), err)
					}
				case string(e.Key) != string(layout.KeyFormat) || len(e.Value) != 4:
					t.Damaged(e.At, "page %d: mark %.40q, %x", e.Page, e.Key, e.Value)
				default:
					format := binary.LittleEndian.Uint32(e.Value)
					if format == 0 || format > layout.SendersFormat {
						t.Damaged(e.Start(), "format version %d, this program reads %d", format, layout.SendersFormat)
					}
					summed = format >= layout.SendersFormat
				}
			})
		case string(layout.BucketSenders):
			buckets++
			t.WalkBucket(e, func(e *pages.Elem) {
				value := e.Value
				if summed {
					var err error
					if value, err = layout.CutSum(e.Key, value); err != nil {
						t.Found(e.Start(), fmt.Errorf("state of sender %.40x: %w", e.Key, err))
						return
					}
				}
				s.Values = append(s.Values, store.KV{Key: e.Key, Value: value})
			})
		default:
			t.Damaged(e.At, "page %d: unknown bucket %.40q", e.Page, e.Key)
		}
	})
	if buckets != 2 {
		t.Damaged(0, "its buckets are not there")
	}
}

// Senders verifies the file of resend detection's state, and has check judge its values. It
// returns the store's ID as the file has it. Errors: fs.ErrNotExist where there is no file,
// and others that keep it from being read; damage is in the findings.
func (v *Verifier) Senders(dir string, check func([]store.KV) error) (seglog.ID, []Finding, error) {
	s, err := OpenSenders(dir, true)
	if s == nil {
		return seglog.ID{}, nil, err
	}
	path := filepath.Join(dir, layout.Senders)
	if errors.Is(err, store.ErrDamaged) {
		return s.ID, append(s.Findings, Finding{Path: path, Block: -1, Err: err}), nil
	}
	if err != nil {
		return s.ID, nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := check(s.Values); err != nil {
		s.Findings = append(s.Findings, Finding{Path: path, Block: -1, Err: fmt.Errorf("%w: %w", store.ErrDamaged, err)})
	}
	if v.Progress != nil {
		v.Progress(s.size)
	}
	return s.ID, s.Findings, nil
}
