package importer

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// lose takes the events of a batch out of an import's partition, as damage does that no start finds.
func (c *collector) lose(batch uint64) {
	c.t.Helper()
	i, err := c.Imports()
	if err != nil {
		c.t.Fatal(err)
	}
	list, err := i.Imports(c.t.Context())
	if err != nil || len(list) != 1 || len(list[0].Parts) != 1 {
		c.t.Fatalf("%+v, %v", list, err)
	}
	c.close()
	db, err := bbolt.Open(layout.PartitionPath(c.dir, list[0].Parts[0]), 0o600, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(layout.BucketGroups).DeleteBucket(layout.GroupKey(batch)) })
	if err = errors.Join(err, db.Close()); err != nil {
		c.t.Fatal(err)
	}
	c.open()
}

// TestImportAgainAfterDamage: what damage took of an import is stored anew, and nothing else, once it is found, or when somebody asks
// for it.
func TestImportAgainAfterDamage(t *testing.T) {
	t.Parallel()
	for _, found := range []bool{true, false} {
		c := newCollector(t)
		path := write(t, filepath.Join(t.TempDir(), "log"), events(0, 5000))
		small := Config{TableBytes: 256 << 10, compareBytes: 64 << 10}
		wantSum(t, "first", c.imports("one", small, path), 1, 15000, 15000)
		c.lose(2)
		lost := int64(15000)
		err := c.Scan(context.Background(), &query.Query{}, func(ev *event.Event) error {
			lost -= int64(len(ev.Records))
			return nil
		})
		if !errors.Is(err, store.ErrDamaged) || lost <= 0 {
			t.Fatalf("%d are lost, %v", lost, err)
		}
		if !found { // by nobody, since the start
			c.close()
			c.open()
			if sum := c.imports("one", small, path); sum.Skipped != 15000 {
				t.Fatalf("%+v: the test shows nothing", sum)
			}
			c.reread = true
		}
		wantSum(t, "again", c.imports("one", small, path), 1, 15000, lost)
		c.reread = false
		wantSum(t, "once more", c.imports("one", small, path), 1, 15000, 0)
	}
}
