package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/raw"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/query"
)

func fill(t testing.TB, s store.Store, from, batches int) {
	t.Helper()
	g := storetest.NewGenerator(uint64(from), storetest.Templates(t), 3, storetest.Start)
	for i := range batches {
		tab := store.NewTable()
		storetest.Fill(tab, g, 60)
		b := &store.Batch{ID: uint64(from + i), Day: store.DayOf(storetest.Start) + store.Day(i/2), Events: tab, LSN: uint64(100 * (from + i)),
			Hosts: []store.Host{{Name: "web1", Records: 7, First: storetest.Start, Last: storetest.Start}}, Senders: []store.KV{{Key: []byte("k"), Value: []byte("v")}}}
		if err := s.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func made(t testing.TB, batches int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, Options{Dir: dir})
	fill(t, s, 1, batches)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A first start was killed between the manifest and the marker: the next one writes the marker before it makes any other file, so that it may be
// killed as well.
func TestFirstStartKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &manifest.Content{ID: manifest.NewID(), Since: now()}
	must(t, manifest.NewFile(fsys.OS, dir, c).Write())
	s := &Store{opts: Options{Dir: dir, fs: fsys.OS, LockTimeout: -1}}
	must(t, s.claim())
	if v, err := layout.ReadMarker(dir, true); err != nil || v != layout.SealedVersion {
		t.Errorf("version %d, %v", v, err)
	}
	must(t, s.release())
	if id := open(t, Options{Dir: dir}).ID(); id != c.ID {
		t.Errorf("the store is %v, want %v", id, c.ID)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	write := func(name, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		empty  bool
		change func(t *testing.T, dir string)
		want   error
		text   string
	}{
		{"a folder with other things", true, write("letter.txt", "x"), store.ErrNotOurs, "letter.txt"},
		{"another marker", false, write(layout.Marker, "something else\n"), store.ErrNotOurs, "something else"},
		{"a marker that is empty", false, write(layout.Marker, ""), store.ErrNotOurs, "put it right with: printf 'auditfleet store 6\\n' >"},
		{"a marker that is gone", false, func(t *testing.T, dir string) {
			write("notes", "x")(t, dir)
			if err := os.Remove(filepath.Join(dir, layout.Marker)); err != nil {
				t.Fatal(err)
			}
		}, store.ErrNotOurs, "put it right with: printf 'auditfleet store 6\\n' >"},
		{"a newer store", false, write(layout.Marker, "auditfleet store 8\n"), store.ErrVersion, "version 8"},
		{"version nought", false, write(layout.Marker, "auditfleet store 0\n"), store.ErrDamaged, "version 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if !c.empty {
				dir = made(t, 2)
			}
			c.change(t, dir)
			before, _ := os.ReadDir(dir)
			for _, ro := range []bool{true, false} {
				s, err := Open(Options{Dir: dir, LockTimeout: -1, ReadOnly: ro})
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("read-only %v: %v; want %v and %q in it", ro, err, c.want, c.text)
				}
				if err == nil {
					s.Close()
				}
			}
			after, _ := os.ReadDir(dir)
			if c.empty && len(before)+1 < len(after) { // partitions/ is made before the look
				t.Errorf("a folder that is not ours was written to: %v", after)
			}
		})
	}
}

// What a lost marker's error advises makes the store whole again.
func TestMarkerMadeAnew(t *testing.T) {
	t.Parallel()
	dir := made(t, 2)
	if err := os.Remove(filepath.Join(dir, layout.Marker)); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir, LockTimeout: -1})
	if err == nil {
		t.Fatal("opened without a marker")
	}
	_, advice, _ := strings.Cut(err.Error(), "put it right with: ")
	if out, err := exec.Command("sh", "-c", advice).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", advice, err, out)
	}
	if n, err := count(open(t, Options{Dir: dir})); n != 120 || err != nil {
		t.Errorf("%d events, %v; want 120", n, err)
	}
}

// A mark of another format in a store whose marker knows of none is damage: the
// verifier names it, and what is in the partition is put back.
func TestFlippedFormat(t *testing.T) {
	t.Parallel()
	whole := made(t, 2)
	for bit := 0; bit < 32; bit += need.Size(1, 5) {
		dir := t.TempDir()
		must(t, os.CopyFS(dir, os.DirFS(whole)))
		part := store.Part{Day: store.DayOf(storetest.Start), N: 1}
		path := filepath.Join(dir, layout.Partitions, part.String()+layout.Suffix)
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(layout.BucketMarks).Put(layout.KeyFormat, binary.LittleEndian.AppendUint32(nil, layout.PartitionFormat^1<<bit))
		})
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		v, err := raw.NewVerifier(1)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := v.Partition(context.Background(), path, part)
		if err != nil || len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].Error(), "format mark") || rep.Events != 120 {
			t.Errorf("bit %d: %+v, %v; want one finding about the format mark", bit, rep, err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		s := open(t, Options{Dir: dir})
		if n, err := count(s); n != 120 || err != nil {
			t.Errorf("bit %d: %d events, %v; want all 120, put back", bit, n, err)
		}
		if m, _ := filepath.Glob(path + ".corrupt-*"); len(m) != 1 {
			t.Errorf("bit %d: set aside: %v", bit, m)
		}
	}
}

// TestDamagedPartition sets a partition aside and goes on with the rest.
func TestDamagedPartition(t *testing.T) {
	t.Parallel()
	day := store.DayOf(storetest.Start)
	for name, change := range map[string]func(b []byte) []byte{
		"empty":              func([]byte) []byte { return nil },
		"not bbolt":          func([]byte) []byte { return []byte(strings.Repeat("hello ", 4000)) },
		"both metas flipped": func(b []byte) []byte { b[16+40] ^= 1; b[4096+16+40] ^= 1; return b },
		"root page wiped":    func(b []byte) []byte { clear(b[3*4096 : 8*4096]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := made(t, 4)
			path := filepath.Join(dir, layout.Partitions, day.String()+".db")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			ro, err := Open(Options{Dir: dir, ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			n, err := count(ro)
			if len(ro.Missing()) == 1 && (n != 120 || !errors.Is(err, store.ErrDamaged)) {
				t.Errorf("read-only: %d events, %v; want the other day's 120 and ErrDamaged", n, err)
			}
			ro.Close()
			s := open(t, Options{Dir: dir})
			n, err = count(s)
			if len(s.Missing()) == 0 {
				// bbolt's tree was not hit: then everything must be there, or missed aloud.
				if n != 240 && !errors.Is(err, store.ErrDamaged) {
					t.Errorf("%d events, %v", n, err)
				}
				return
			}
			if n != 120 || !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%d events, %v; want 120 and ErrDamaged", n, err)
			}
			if m, _ := filepath.Glob(path + ".corrupt-*"); len(m) != 1 {
				t.Errorf("set aside: %v", m)
			}
			fill(t, s, 5, 1)
			if n, _ := count(s); n != 180 {
				t.Errorf("%d events after the next batch, want 180", n)
			}
		})
	}
}

func count(s store.Store) (n int, err error) {
	err = store.Scan(context.Background(), s, &query.Query{}, func(*event.Event) error { n++; return nil })
	return n, err
}

// TestDamagedFrame flips bits in the file: events are given as they were, or
// missing with an error that names the file.
func TestDamagedFrame(t *testing.T) {
	t.Parallel()
	dir := made(t, 2)
	path := filepath.Join(dir, layout.Partitions, store.DayOf(storetest.Start).String()+".db")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Dir: dir})
	want := storetest.Collect(t, s, &query.Query{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	step := need.Size(1777, 9001)
	for at := 4096 * 4; at < min(len(whole), 400<<10); at += step {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Dir: dir, ReadOnly: true})
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("byte %d: %v", at, err)
			}
			continue
		}
		var got []string
		err = store.Scan(context.Background(), s, &query.Query{}, func(ev *event.Event) error {
			got = append(got, storetest.Text(ev))
			return nil
		})
		if err == nil && !slices.Equal(want, got) {
			t.Errorf("byte %d: %d events of %d and no error", at, len(got), len(want))
		}
		if err != nil && (!errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), ".db")) {
			t.Errorf("byte %d: %v", at, err)
		}
		for _, g := range got {
			if !slices.Contains(want, g) {
				t.Errorf("byte %d: an event that never was: %.100s", at, g)
			}
		}
		s.Close()
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	for _, ro := range []bool{false, true} {
		_, err := Open(Options{Dir: dir, ReadOnly: ro, LockTimeout: time.Hour}) // it is not waited for
		if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("by pid %d: ask it through its socket, or stop it", os.Getpid())) {
			t.Errorf("read-only %v: %v", ro, err)
		}
	}
	fill(t, s, 1, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	a, b := open(t, Options{Dir: dir, ReadOnly: true}), open(t, Options{Dir: dir, ReadOnly: true})
	if _, err := count(a); err != nil {
		t.Error(err)
	}
	if err := b.Append(context.Background(), &store.Batch{ID: 2}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("append to a read-only store: %v", err)
	}
	if err := b.Drop(context.Background(), store.Part{}, "max_days = 1"); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("drop in a read-only store: %v", err)
	}
	// A server that starts waits for readers, and then says who reads: the pid in the file is that of who served it last.
	if _, err := Open(Options{Dir: dir, LockTimeout: 20 * time.Millisecond}); !errors.Is(err, store.ErrInUse) ||
		!strings.Contains(err.Error(), fmt.Sprintf("by a command that reads it, pid %d (", os.Getpid())) || strings.Contains(err.Error(), "its socket") {
		t.Errorf("beside readers: %v", err)
	}
	go func() { time.Sleep(100 * time.Millisecond); a.Close(); b.Close() }()
	w := open(t, Options{Dir: dir, LockTimeout: time.Minute})
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.State(context.Background()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("state of a closed store: %v", err)
	}
}

// TestHalfMade leaves what a kill may leave while files are made.
func TestHalfMade(t *testing.T) {
	t.Parallel()
	dir := made(t, 2)
	tmp := filepath.Join(dir, layout.Partitions, "2026-12-01.db.tmp")
	for _, f := range []string{tmp, filepath.Join(dir, layout.Partitions, "notes.txt")} {
		if err := os.WriteFile(f, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Options{Dir: dir})
	if n, err := count(s); n != 120 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
	if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half-made file is still there: %v", err)
	}
	// Damaged senders.db: set aside, the rest goes on.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, layout.Senders), []byte(strings.Repeat("x", 9000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	if m, _ := filepath.Glob(filepath.Join(dir, layout.Senders+".corrupt-*")); len(m) != 1 {
		t.Errorf("set aside: %v", m)
	}
	fill(t, s, 3, 1)
	if st, err := s.State(context.Background()); err != nil || len(st.Senders) != 1 || st.ID != 3 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestCutShort opens a store of which one file was cut at some place: that file is
// set aside and the rest is in use. Some sizes bbolt refuses in words of its own.
func TestCutShort(t *testing.T) {
	t.Parallel()
	dir := made(t, 4)
	for name, want := range map[string]int{layout.Senders: 240, filepath.Join(layout.Partitions, store.DayOf(storetest.Start).String()+".db"): 120} {
		for _, size := range []int64{1, 100, 4095, 4096, 4097, 5000, 8191, 8192, 12288} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				t.Parallel()
				cut := t.TempDir()
				if err := os.CopyFS(cut, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(filepath.Join(cut, name), size); err != nil {
					t.Fatal(err)
				}
				s := open(t, Options{Dir: cut})
				n, err := count(s)
				if n != want || (name != layout.Senders) != errors.Is(err, store.ErrDamaged) {
					t.Errorf("%d events, want %d: %v", n, want, err)
				}
				if err != nil && strings.Contains(err.Error(), "runtime error") {
					t.Errorf("an error in the runtime's words: %v", err)
				}
				if m, _ := filepath.Glob(filepath.Join(cut, name+".corrupt-*")); len(m) != 1 {
					t.Errorf("set aside: %v", m)
				}
				fill(t, s, 5, 1)
			})
		}
	}
}

// fixture is the file that holds one of a store's files, as a version wrote it.
func fixture(version, name string) string {
	return filepath.Join("testdata", version, strings.ReplaceAll(name, "/", "_")+".zst")
}

// unpacked returns a folder with some files of a fixture.
func unpacked(t *testing.T, version string, names []string) string {
	t.Helper()
	dir := t.TempDir()
	dec, _ := zstd.NewReader(nil)
	defer dec.Close()
	for _, name := range names {
		b, err := os.ReadFile(fixture(version, name))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = dec.DecodeAll(b, nil); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), storetest.Start, storetest.Start); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestFixture reads a store that version 1 wrote. It must be read for ever.
func TestFixture(t *testing.T) {
	t.Parallel()
	names := []string{layout.Marker, layout.Senders, "partitions/2026-11-22.db", "partitions/2026-11-23.db"}
	enc, _ := zstd.NewWriter(nil)
	if golden.Update() {
		dir := made(t, 4)
		if err := os.MkdirAll("testdata/v1", 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(fixture("v1", name), enc.EncodeAll(b, nil), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := unpacked(t, "v1", names)
	for _, ro := range []bool{true, false} {
		s := open(t, Options{Dir: dir, ReadOnly: ro})
		if n, err := count(s); n != 240 || err != nil {
			t.Errorf("read-only %v: %d events, %v; want 240", ro, n, err)
		}
		st, err := s.State(context.Background())
		if err != nil || st.ID != 4 || st.LSN != 400 || len(st.Hosts) != 1 || st.Hosts[0].Records != 7 || len(st.Senders) != 1 {
			t.Errorf("read-only %v: state %+v, %v", ro, st, err)
		}
		if !ro {
			fill(t, s, 5, 1)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFixtureOfHosts reads the hosts of a store as v0.1.0 wrote it, of versions 2 and 3, and
// writes them on as the latest.
func TestFixtureOfHosts(t *testing.T) {
	t.Parallel()
	dir := unpacked(t, "v3", []string{layout.Marker, layout.Senders, manifest.Name, "partitions/2026-11-22.db", "partitions/2026-11-23.db"})
	at := storetest.Start.Local()
	want := []store.Host{
		{Name: "10.0.0.9", Also: "web9", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, First: at, Last: at.Add(time.Hour),
			LastEventMs: at.Add(time.Hour - time.Second).UnixMilli(), Records: 9, Bytes: 90, Duplicates: 1, Unparsable: 2, Live: true, LagMs: 1000},
		{Name: "late", Addrs: []netip.Addr{netip.MustParseAddr("2001:db8::7")}, First: at, Last: at.Add(9 * time.Hour), LastEventMs: at.UnixMilli(), Records: 3, Bytes: 30},
		{Name: "web1", Records: 7, First: at, Last: at},
	}
	check := func(when string, ro bool, version int, then func(s store.Store)) {
		t.Helper()
		s := open(t, Options{Dir: dir, ReadOnly: ro})
		st, err := s.State(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, st.Hosts, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
		if got, err := layout.ReadMarker(dir, true); got != version || err != nil {
			t.Errorf("%s: the store is of version %d, %v", when, got, err)
		}
		if then != nil {
			then(s)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	check("read only", true, 3, nil)
	check("opened", false, layout.SealedVersion, func(s store.Store) {
		want[1].Lost, want[0].LagMs = 5, 0
		b := &store.Batch{ID: 6, Day: store.DayOf(storetest.Start) + 1, LSN: 600, Hosts: want[:2]}
		if err := s.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	})
	check("written", false, layout.SealedVersion, nil)
}

// The marker as FORMAT.md has it, and what a flipped bit anywhere in it is.
func TestMarker(t *testing.T) {
	t.Parallel()
	dir := made(t, 1)
	path := filepath.Join(dir, layout.Marker)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	if indented := "    " + strings.ReplaceAll(strings.TrimSpace(string(whole)), "\n", "\n    ") + "\n"; !strings.Contains(string(doc), indented) {
		t.Errorf("FORMAT.md lacks the marker that is written:\n%s", whole)
	}
	for bit := range len(whole) * 8 {
		bad := bytes.Clone(whole)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Options{Dir: dir, LockTimeout: -1})
		if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), path) && !strings.Contains(err.Error(), layout.Marker) {
			t.Errorf("%q: %v, want ErrDamaged", bad, err)
		}
		if f, err := layout.List(dir); f == nil || len(f.Partitions) != 1 {
			t.Errorf("%q: verify cannot look: %v", bad, err)
		}
	}
	// What the message says puts it right.
	for _, v := range []string{"auditfleet store 1\n", "auditfleet store 2\n", "auditfleet store 3\n", "auditfleet store 4\n", "auditfleet store 6\n"} {
		if err := os.WriteFile(path, []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(t, Options{Dir: dir}).Close(); err != nil {
			t.Error(err)
		}
	}
}

// A part under another's name is not taken for it, and is missing under its own.
func TestRenamedPart(t *testing.T) {
	t.Parallel()
	dir := made(t, 1)
	s := open(t, Options{Dir: dir})
	if err := s.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 2, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	part := func(n int) string {
		return filepath.Join(dir, layout.Partitions, store.Part{Day: store.DayOf(storetest.Start), N: n}.String()+layout.Suffix)
	}
	if err := os.Rename(part(2), part(3)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if b := s.Missing(); len(b) != 2 || !errors.Is(b[0], store.ErrDamaged) || !strings.Contains(b[0].Error(), part(3)) || !strings.Contains(b[1].Error(), filepath.Base(part(2))+" is missing") {
		t.Errorf("a renamed part: %v", b)
	}
}
