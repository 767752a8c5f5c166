package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"os"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// What a search or a count finds damaged is missing from then on, once: whose it was and how many
// records, until its day is dropped.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*Store) error{
		"a search": func(s *Store) error {
			return store.Scan(context.Background(), s, &query.Query{}, func(*event.Event) error { return nil })
		},
		"a count": func(s *Store) error {
			snap, err := s.Snapshot(context.Background())
			if err != nil {
				return err
			}
			defer snap.Close()
			st, err := s.Stats(context.Background())
			if err != nil {
				return err
			}
			// Its time cuts a block, which is read then.
			q := &query.Query{StartMs: (st.Parts[0].MinMs + st.Parts[0].MaxMs) / 2}
			_, err = snap.Tally(context.Background(), q, nil, func(*event.Event) error { return nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := made(t, 4) // two days
			path := partPath(dir, 0)
			b, err := os.ReadFile(path)
			must(t, err)
			magic, changed := []byte("\x28\xb5\x2f\xfd"), 0 // of a frame
			for i := 0; ; i += 4 {
				n := bytes.Index(b[i:], magic)
				if n < 0 {
					break
				}
				if i += n; i+100 < len(b) {
					b[i+60] ^= 0x20
					changed++
				}
			}
			if changed == 0 {
				t.Fatal("the partition has no frame")
			}
			must(t, os.WriteFile(path, b, 0o600))
			s := open(t, Options{Dir: dir})
			defer s.Close()
			if m := s.Missing(); len(m) != 0 {
				t.Errorf("before anybody asks: %v", m)
			}
			st, err := s.Stats(context.Background())
			must(t, err)
			for range 2 {
				if err := ask(s); !errors.Is(err, store.ErrDamaged) {
					t.Fatalf("%v", err)
				}
			}
			records := uint64(0)
			seen := map[string]bool{}
			for _, err := range s.Missing() {
				var d store.HostDamage
				if !errors.As(err, &d) || d.Host() == "" || seen[err.Error()+d.Host()] {
					t.Errorf("not known whose, or twice: %v", err)
					continue
				}
				seen[err.Error()+d.Host()] = true
				from, to, n, hosts := d.Extent()
				if records += n; hosts != 1 || n == 0 || from < storetest.Start.UnixMilli()-1000 || to < from {
					t.Errorf("%s: %d records of %d hosts from %d to %d", d.Host(), n, hosts, from, to)
				}
			}
			if want := st.Parts[0].Records; records == 0 || records > want || name == "a search" && records != want {
				t.Errorf("%d records are missing, of %d", records, want)
			}
			must(t, s.Drop(context.Background(), st.Parts[0].Part, "max_days"))
			if m := s.Missing(); len(m) != 0 {
				t.Errorf("after its day was dropped: %v", m)
			}
		})
	}
}

// A group whose frame table is damaged has a whole block table: whose its events were, and how many records of each,
// is missing by that, once.
func TestUnreadableTables(t *testing.T) {
	t.Parallel()
	dir := made(t, 4)
	path := partPath(dir, 0)
	b, err := os.ReadFile(path)
	must(t, err)
	changed := 0
	for at := range everyGroup(b) {
		const frameTable, head, entry = 4, 16, 24 // FORMAT.md of group
		for n := range int(binary.LittleEndian.Uint16(b[at+10:])) {
			if e := b[at+head+n*entry:]; e[0] == frameTable {
				b[at+int(binary.LittleEndian.Uint64(e[8:]))] ^= 0x20
				changed++
			}
		}
	}
	if changed == 0 {
		t.Fatal("the partition has no group")
	}
	must(t, os.WriteFile(path, b, 0o600))
	s := open(t, Options{Dir: dir})
	defer s.Close()
	st, err := s.Stats(context.Background())
	must(t, err)
	for range 2 {
		if err := store.Scan(context.Background(), s, &query.Query{}, func(*event.Event) error { return nil }); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("%v", err)
		}
	}
	records, of := uint64(0), map[string]bool{}
	for _, err := range s.Missing() {
		var d store.HostDamage
		if !errors.As(err, &d) || d.Host() == "" || of[err.Error()+d.Host()] {
			t.Fatalf("not known whose, or twice: %v", err)
		}
		of[err.Error()+d.Host()] = true
		from, to, n, hosts := d.Extent()
		if records += n; hosts != 1 || n == 0 || from < storetest.Start.UnixMilli()-1000 || to < from {
			t.Errorf("%s: %d records of %d hosts from %d to %d", d.Host(), n, hosts, from, to)
		}
	}
	if records != st.Parts[0].Records {
		t.Errorf("%d records are missing, of %d", records, st.Parts[0].Records)
	}
}

// everyGroup yields where a group begins in a file.
func everyGroup(b []byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		for at := 0; ; at++ {
			n := bytes.Index(b[at:], []byte("AFGROUP\x00"))
			if n < 0 {
				return
			}
			if at += n; !yield(at) {
				return
			}
		}
	}
}
