package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// sendersName is the file of resend detection's state. It is not in the day's
// partition: it has no day, and up to 32 KiB a sender would be copied every
// midnight. It is written before the batch it came with. That order is enough:
// state that is newer than the journal's replay is harmless, older would not be.
const sendersName = "senders.db"

// senders is that file; nil db: read-only, and there is none.
type senders struct {
	path string
	db   *bbolt.DB
}

func (f *senders) guard(fn func() error) error {
	return guard(f.path, fn)
}

// open opens the file, made when it is missing. A damaged one is set aside: what
// is lost with it is only that resends of before are recognised.
func (s *Store) openSenders() error {
	f := &senders{path: filepath.Join(s.opts.Dir, sendersName)}
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
		aside := fmt.Sprintf("%s.corrupt-%d", f.path, time.Now().UnixNano())
		s.log.Error("the state of resend detection is damaged: records sent again after a reconnect may be stored twice",
			"error", err, "set aside as", filepath.Base(aside))
		if err := os.Rename(f.path, aside); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.create(); err != nil {
		return err
	}
	return f.open(false)
}

func (f *senders) open(readOnly bool) error {
	return f.guard(func() error {
		db, err := openBolt(f.path, !readOnly)
		if err != nil {
			return err
		}
		err = db.View(func(tx *bbolt.Tx) error {
			meta := tx.Bucket(bktMeta)
			if meta == nil || tx.Bucket(bktSenders) == nil {
				return fmt.Errorf("%w: its buckets are not there", store.ErrDamaged)
			}
			return checkFormat(meta)
		})
		if err != nil {
			return errors.Join(err, db.Close())
		}
		f.db = db
		return nil
	})
}

func (f *senders) create() error {
	return f.guard(func() error {
		return createBolt(f.path, func(tx *bbolt.Tx) error {
			meta, err := tx.CreateBucket(bktMeta)
			if err != nil {
				return err
			}
			if _, err := tx.CreateBucket(bktSenders); err != nil {
				return err
			}
			return meta.Put(keyFormat, binary.LittleEndian.AppendUint32(nil, partVersion))
		})
	})
}

func (f *senders) put(kvs []store.KV) error {
	if len(kvs) == 0 {
		return nil
	}
	return f.guard(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error { return putAll(tx.Bucket(bktSenders), kvs) })
	})
}

func (f *senders) all() (out []store.KV, err error) {
	if f.db == nil {
		return nil, nil
	}
	err = f.guard(func() error {
		return f.db.View(func(tx *bbolt.Tx) error {
			out = copyBucket(tx.Bucket(bktSenders))
			return nil
		})
	})
	return out, err
}

func (f *senders) close() error {
	if f == nil || f.db == nil {
		return nil
	}
	err := f.db.Close()
	f.db = nil
	return err
}

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
