package pages

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made is a bbolt file of buckets within buckets, of which much was deleted again, with
// values from none to many pages.
func made(t testing.TB, seed uint64) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	must(t, err)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 6 {
		must(t, db.Update(func(tx *bbolt.Tx) error {
			for b := range 3 {
				bkt, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "bucket %d", b))
				if err != nil {
					return err
				}
				for range 200 {
					key := fmt.Appendf(nil, "key %d", rng.IntN(500))
					switch rng.IntN(10) {
					case 0:
						_ = bkt.Delete(key) // of a bucket it fails
					case 1:
						sub, err := bkt.CreateBucketIfNotExists(append(key, " bucket"...))
						if err != nil {
							return err
						}
						must(t, sub.Put([]byte("only"), bytes.Repeat([]byte("v"), rng.IntN(20000))))
					default:
						must(t, bkt.Put(key, bytes.Repeat([]byte("x"), rng.IntN(300))))
					}
				}
			}
			return nil
		}))
	}
	must(t, db.Close())
	return path
}

// byBolt and byPages list what is in a file: each bucket, key and value.
func byBolt(t testing.TB, path string) (out []string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	must(t, err)
	defer db.Close()
	var list func(name string, b *bbolt.Bucket) error
	list = func(name string, b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return list(name+"/"+string(k), b.Bucket(k))
			}
			out = append(out, fmt.Sprintf("%s/%s=%x", name, k, v))
			return nil
		})
	}
	must(t, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return list(string(name), b) })
	}))
	return out
}

func byPages(t testing.TB, path string) (out []string, found []error, cut bool) {
	t.Helper()
	f, err := Open(path)
	must(t, err)
	defer f.Close()
	err = f.ReadTree(func(tree *Tree) error {
		out, found = nil, nil
		tree.Found = func(_ int64, err error) { found = append(found, err) }
		var list func(name string, e *Elem)
		list = func(name string, e *Elem) {
			name += string(e.Key)
			if e.Bucket {
				tree.WalkBucket(e, func(e *Elem) { list(name+"/", e) })
				return
			}
			out = append(out, fmt.Sprintf("%s=%x", name, e.Value))
		}
		tree.Walk(func(e *Elem) { list("", e) })
		tree.CheckFree()
		cut = tree.Incomplete
		return nil
	})
	if err != nil {
		found = append(found, err)
	}
	return out, found, cut
}

// What is read page by page is what bbolt reads, and every page is in use or free.
func TestAsBolt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		path := made(t, seed)
		got, found, cut := byPages(t, path)
		if want := byBolt(t, path); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("seed %d: %d values, bbolt has %d", seed, len(got), len(want))
		}
		if len(found) > 0 || cut {
			t.Errorf("seed %d: a whole file is said to be damaged: %v", seed, found)
		}
	}
}

// A page that is wiped is found, and what lies on other pages is read all the same. Of the
// meta pages one is enough.
func TestWipedPages(t *testing.T) {
	t.Parallel()
	path := made(t, 7)
	whole, err := os.ReadFile(path)
	must(t, err)
	want := byBolt(t, path)
	size := os.Getpagesize()
	silent, read := 0, 0
	for page := 0; page < len(whole)/size; page += 1 + len(whole)/size/need.Size(40, 12) {
		bad := slices.Clone(whole)
		clear(bad[page*size : (page+1)*size])
		must(t, os.WriteFile(path, bad, 0o600))
		got, found, _ := byPages(t, path)
		for _, err := range found {
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("page %d: %v", page, err)
			}
		}
		if page == 0 { // the other meta page may be of the transaction before
			continue
		}
		if len(found) == 0 && !slices.Equal(got, want) {
			silent++
		}
		if len(found) > 0 && len(got) > len(want)/2 {
			read++
		}
	}
	// Bytes of values have no checksum here: those of overflow pages are not noticed.
	if read == 0 {
		t.Error("with one page wiped nothing of the others is read")
	}
	t.Logf("%d wiped within a value, %d found with most of the rest read", silent, read)
}

// A bucket's only value is found without being read; another one is refused.
func TestOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file.db")
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	large := bytes.Repeat([]byte("0123456789"), 5000)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		for name, kvs := range map[string][]string{"small": {"g", "tiny"}, "large": {"g", string(large)}, "other": {"h", "x"}, "two": {"g", string(large), "h", "x"}, "none": nil} {
			b, err := tx.CreateBucket([]byte(name))
			must(t, err)
			for i := 0; i < len(kvs); i += 2 {
				must(t, b.Put([]byte(kvs[i]), []byte(kvs[i+1])))
			}
		}
		return nil
	}))
	must(t, db.Close())
	f, err := Open(path)
	must(t, err)
	defer f.Close()
	got := map[string]string{}
	must(t, f.ReadTree(func(tree *Tree) error {
		tree.Walk(func(e *Elem) {
			run, ok := tree.OnlyValue(e, []byte("g"))
			if !ok {
				return
			}
			b := make([]byte, run.Size)
			_, err := f.ReadAt(b, run.Off)
			must(t, err)
			got[string(e.Key)] = string(b)
		})
		return nil
	}))
	if len(got) != 2 || got["small"] != "tiny" || got["large"] != string(large) {
		t.Errorf("found in %d buckets", len(got))
	}
}

// Beside a writer each attempt sees one transaction, whole.
func TestBesideWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	must(t, err)
	write := func(n int) {
		must(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			must(t, err)
			for k := range 50 {
				must(t, b.Put(fmt.Appendf(nil, "%d", k), bytes.Repeat(fmt.Appendf(nil, "%03d", n), 100)))
			}
			return nil
		}))
	}
	write(0)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
				write(n % 1000)
			}
		}
	}()
	f, err := Open(path)
	must(t, err)
	defer f.Close()
	for range 20 {
		seen := map[string]int{}
		var found error
		err := f.ReadTree(func(tree *Tree) error {
			clear(seen)
			found = nil
			tree.Found = func(_ int64, err error) { found = err }
			tree.Walk(func(e *Elem) { tree.WalkBucket(e, func(e *Elem) { seen[string(e.Value)]++ }) })
			return nil
		})
		if errors.Is(err, ErrBusy) {
			continue
		}
		if err != nil || found != nil || len(seen) != 1 {
			t.Errorf("%d values of %d transactions: %v, %v", len(seen), len(seen), err, found)
		}
	}
	close(stop)
	<-ended
	must(t, db.Close())
}

// Files that are none.
func TestNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	whole, err := os.ReadFile(made(t, 3))
	must(t, err)
	for name, b := range map[string][]byte{"empty": nil, "text": []byte("dear diary"), "zeros": make([]byte, 1<<16), "cut": whole[:len(whole)/2]} {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, b, 0o600))
		f, err := Open(path)
		must(t, err)
		if err := f.ReadTree(func(*Tree) error { return nil }); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := f.Transaction(); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		must(t, f.Close())
	}
}
