package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// senders is the file of resend detection's state. It is not in the day's partition: it
// belongs to no day, and up to 32 KiB a sender would have to be copied every midnight. It
// is written before the batch that it came with. That order is enough: a state that is
// newer than the journal's replay is harmless, an older one would not be. Once the store
// is open, Append alone writes it, under Store.appendMu.
type senders struct {
	path   string
	db     *bbolt.DB // nil: read-only, and there is none
	summed bool      // each value ends with a checksum; a file of format 1 stays as it is
	id     seglog.ID // of the store, as the file says
}

func (f *senders) guard(fn func() error) error {
	return guard(f.path, fn)
}

// openSenders opens the file, and makes it when it is missing. A damaged one is set aside
// and an empty one begun: all that is lost is that records sent before, and now again, are
// not recognised.
func (s *Store) openSenders() error {
	f := &senders{path: filepath.Join(s.opts.Dir, layout.Senders)}
	s.senders = f
	err := f.open(s.opts.ReadOnly)
	switch {
	case err == nil:
		return nil
	case s.opts.ReadOnly && errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, store.ErrVersion), errors.Is(err, store.ErrInUse):
		return err
	case s.opts.ReadOnly:
		s.log.Warn("the state of resend detection cannot be read", "error", err)
		return nil
	}
	if errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrNotOurs) {
		return s.renewSenders(err)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.create(); err != nil {
		return err
	}
	return f.open(false)
}

// renewSenders sets a damaged file aside and begins an empty one. Only Open and Append
// call it.
func (s *Store) renewSenders(cause error) error {
	f := s.senders
	aside := fmt.Sprintf("%s.corrupt-%d", f.path, time.Now().UnixNano())
	s.log.Error("the state of resend detection is damaged: records sent again after a reconnect may be stored twice",
		"error", cause, "set aside as", filepath.Base(aside))
	f.db = nil // not closed: see moveAway
	f.id = s.list.id
	if err := os.Rename(f.path, aside); err != nil {
		return err
	}
	if err := f.create(); err != nil {
		return err
	}
	return f.open(false)
}

// open opens the file and reads its marks; fs.ErrNotExist when there is none.
func (f *senders) open(readOnly bool) error {
	return f.guard(func() error {
		db, err := openBolt(f.path, !readOnly)
		if err != nil {
			return err
		}
		err = db.View(func(tx *bbolt.Tx) error {
			meta := tx.Bucket(layout.BucketMarks)
			if meta == nil || tx.Bucket(layout.BucketSenders) == nil {
				return fmt.Errorf("%w: its buckets are not there", store.ErrDamaged)
			}
			if f.summed, err = sendersFormat(meta); err == nil {
				f.id, err = layout.DecodeID(meta.Get(layout.KeyStore))
			}
			return err
		})
		if err != nil {
			return errors.Join(err, db.Close())
		}
		f.db = db
		return nil
	})
}

// sendersFormat reads the mark of the file's format: whether each value ends with a
// checksum. A newer format is a store.ErrVersion.
func sendersFormat(meta *bbolt.Bucket) (summed bool, err error) {
	format := meta.Get(layout.KeyFormat)
	if len(format) != 4 {
		return false, fmt.Errorf("%w: format mark of %d bytes", store.ErrDamaged, len(format))
	}
	switch v := binary.LittleEndian.Uint32(format); v {
	case 1:
		return false, nil
	case layout.SendersFormat:
		return true, nil
	default:
		return false, fmt.Errorf("%w: format version %d, this program reads %d", store.ErrVersion, v, layout.SendersFormat)
	}
}

// create makes an empty file of the latest format, but does not open it.
func (f *senders) create() error {
	return f.guard(func() error {
		return createBolt(f.path, func(tx *bbolt.Tx) error {
			return layout.NewSenders(tx, f.id)
		})
	})
}

// setID writes the store's ID into a file that does not have it yet.
func (f *senders) setID(id seglog.ID) error {
	if f.db == nil || f.id == id {
		return nil
	}
	f.id = id
	return f.guard(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error { return layout.PutID(tx.Bucket(layout.BucketMarks), id) })
	})
}

// put writes values, and deletes the keys of nil ones, in one transaction: all are durable
// when it returns nil. kvs stays as it is.
func (f *senders) put(kvs []store.KV) error {
	if len(kvs) == 0 {
		return nil
	}
	if f.summed {
		kvs = slices.Clone(kvs)
		for i, kv := range kvs {
			if kv.Value != nil {
				kvs[i].Value = layout.AddSum(kv.Key, slices.Clone(kv.Value))
			}
		}
	}
	return f.guard(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error { return putAll(tx.Bucket(layout.BucketSenders), kvs) })
	})
}

// all returns the values, by key and without their checksums. Those whose checksum is
// wrong are left out; bad is how many.
func (f *senders) all() (out []store.KV, bad int, err error) {
	if f.db == nil {
		return nil, 0, nil
	}
	err = f.guard(func() error {
		return f.db.View(func(tx *bbolt.Tx) error {
			out = copyBucket(tx.Bucket(layout.BucketSenders))
			return nil
		})
	})
	if !f.summed {
		return out, 0, err
	}
	n := 0
	for _, kv := range out {
		v, err := layout.CutSum(kv.Key, kv.Value)
		if err != nil {
			bad++
			continue
		}
		out[n] = store.KV{Key: kv.Key, Value: v}
		n++
	}
	return out[:n], bad, err
}

func (f *senders) close() error {
	if f == nil || f.db == nil {
		return nil
	}
	err := f.db.Close()
	f.db = nil
	return err
}

// putAll puts values into a bucket; a nil value deletes its key.
func putAll(bkt *bbolt.Bucket, kvs []store.KV) error {
	for _, kv := range kvs {
		var err error
		if kv.Value == nil {
			err = bkt.Delete(kv.Key)
		} else {
			err = bkt.Put(kv.Key, kv.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
