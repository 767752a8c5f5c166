package pages

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	bbolt "go.etcd.io/bbolt"
)

// contents are all keys and values of a file, which bbolt finds whole.
func contents(t *testing.T, path string) string {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	defer db.Close()
	var out bytes.Buffer
	must(t, db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt: %v", err)
		}
		var walk func(b *bbolt.Bucket) error
		walk = func(b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				fmt.Fprintf(&out, "%q %q\n", k, v)
				if v == nil {
					return walk(b.Bucket(k))
				}
				return nil
			})
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return walk(b) })
	}))
	return out.String()
}

// What is unused may be anything, for the file as it is and as it was one transaction before.
func TestUnused(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		path := made(t, seed)
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
		must(t, err)
		must(t, db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("bucket 1")) }))
		for n := range 2 {
			must(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("bucket 2")).Put([]byte("n"), []byte{byte(n)}) }))
		}
		must(t, db.Close())
		want := contents(t, path)
		f, err := Open(path)
		must(t, err)
		list, err := f.Unused()
		must(t, err)
		now, err := f.newest(nil)
		must(t, err)
		must(t, f.Close())
		if len(list) == 0 {
			t.Fatalf("seed %d: nothing is unused", seed)
		}
		b, err := os.ReadFile(path)
		must(t, err)
		before := bytes.Clone(b)
		before[int64(now.tx%2)*now.pageSize+headSize+metaSize-1] ^= 1 // its checksum
		must(t, os.WriteFile(path, before, 0o600))
		was := contents(t, path) // one transaction before
		for _, x := range [][]byte{b, before} {
			for _, r := range list {
				for i := r.Off; i < r.Off+r.Size; i++ {
					x[i] = 0xa5
				}
			}
		}
		must(t, os.WriteFile(path, before, 0o600))
		if contents(t, path) != was || was == want {
			t.Errorf("seed %d: the state before is another one", seed)
		}
		must(t, os.WriteFile(path, b, 0o600))
		if contents(t, path) != want {
			t.Errorf("seed %d: the content is another one", seed)
		}
		// Of a file that cannot be read nothing is unused.
		b[int64(now.root)*now.pageSize] ^= 1
		must(t, os.WriteFile(path, b, 0o600))
		if f, err = Open(path); err == nil {
			list, err = f.Unused()
			_ = f.Close()
		}
		if err == nil || len(list) > 0 {
			t.Errorf("seed %d: of a damaged file %d runs are unused: %v", seed, len(list), err)
		}
	}
}
