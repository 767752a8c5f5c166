package rewrite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

const (
	// boltTimeout is how long to wait for bbolt's own lock, which nobody has of a new file.
	boltTimeout = time.Second
	// allocBytes is what the file grows by.
	allocBytes = 1 << 20
)

// file is a partition that is being written.
type file struct {
	db     *bbolt.DB
	path   string
	made   Made
	filter group.FilterBuilder
}

// create begins a file, in the place of one that was left.
func create(path string, part store.Part, id seglog.ID) (*file, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: boltTimeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true})
	if err != nil { // bbolt leaves what it has begun
		if rerr := os.Remove(path); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return nil, err
	}
	db.AllocSize = allocBytes
	f := &file{db: db, path: path, made: Made{Part: part, Path: path}}
	if err := db.Update(func(tx *bbolt.Tx) error { return layout.NewPartition(tx, part, id) }); err != nil {
		return nil, errors.Join(err, f.remove())
	}
	return f, nil
}

// add writes a group, durably: what is written all at once at the end would hold up others' syncs for long.
func (f *file) add(c *group.Codec, blob []byte, sum group.Summary) error {
	m := &f.made
	g, err := c.Open(blob)
	if err == nil {
		err = f.filter.Add(g)
	}
	if err != nil {
		return fmt.Errorf("a group for %s: %w", f.path, err)
	}
	key := layout.GroupKey(uint64(len(m.Groups)) + 1)
	err = f.db.Update(func(tx *bbolt.Tx) error {
		bkt, err := tx.Bucket(layout.BucketGroups).CreateBucket(key)
		if err != nil {
			return err
		}
		return errors.Join(bkt.Put(layout.KeyGroup, blob), tx.Bucket(layout.BucketCatalog).Put(key, sum.Encode()))
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	if len(m.Groups) == 0 || sum.FirstBatch < m.First {
		m.First = sum.FirstBatch
	}
	m.Last = max(m.Last, sum.LastBatch)
	m.Groups = append(m.Groups, sum)
	return nil
}

// finish writes filter and mark, and closes the file.
func (f *file) finish(c layout.Compacted) (Made, error) {
	c.First, c.Last = f.made.First, f.made.Last
	err := f.db.Update(func(tx *bbolt.Tx) error {
		if len(f.made.Groups) > 0 {
			bkt, err := tx.CreateBucket(layout.BucketFilter)
			if err != nil {
				return err
			}
			if err := bkt.Put(layout.KeyFilter, f.filter.Bytes()); err != nil {
				return err
			}
		}
		return layout.PutCompacted(tx, &c)
	})
	return f.made, errors.Join(err, f.db.Close())
}

// remove closes and deletes a file that came to nothing.
func (f *file) remove() error { return errors.Join(f.db.Close(), os.Remove(f.path)) }
