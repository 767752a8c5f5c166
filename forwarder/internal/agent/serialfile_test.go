package agent

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Runs that are killed one after the other, each before it has said what was missing
// before it, lose nothing of the count.
func TestSerialFileThroughKills(t *testing.T) {
	path := t.TempDir() + "/serial"
	at := func(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }
	gaps := func(n uint64, first, last uint32, since, before int) kernel.SerialGaps {
		return kernel.SerialGaps{Count: n, First: first, Last: last, Since: at(since), Before: at(before)}
	}
	for i, run := range []struct {
		knows   *kernel.LastSerial // at the start
		serials []uint32           // taken in and saved, at 10 times the run's number
		said    []kernel.SerialGaps
	}{
		{serials: []uint32{100, 102, 101}},
		{knows: &kernel.LastSerial{Serial: 102, At: at(0)}, serials: []uint32{110, 111}},
		{knows: &kernel.LastSerial{Serial: 111, At: at(10), Unsaid: gaps(7, 103, 109, 0, 10)}},
		{
			knows:   &kernel.LastSerial{Serial: 111, At: at(10), Unsaid: gaps(7, 103, 109, 0, 10)},
			serials: []uint32{120, 118, 121}, // the kernel had held one back
		},
		{
			knows:   &kernel.LastSerial{Serial: 121, At: at(30), Unsaid: gaps(13, 103, 117, 0, 30)},
			serials: []uint32{122}, said: []kernel.SerialGaps{gaps(13, 103, 117, 0, 30)},
		},
		{knows: &kernel.LastSerial{Serial: 122, At: at(40)}, serials: []uint32{200}, said: []kernel.SerialGaps{gaps(27, 123, 149, 40, 50)}},
		{
			knows:   &kernel.LastSerial{Serial: 200, At: at(50), Unsaid: gaps(50, 150, 199, 50, 50)},
			serials: []uint32{210}, said: []kernel.SerialGaps{gaps(59, 150, 209, 50, 60)},
		},
		{knows: &kernel.LastSerial{Serial: 210, At: at(60)}, serials: []uint32{4294967295 - 5}}, // no later than 210: of before it
		{knows: &kernel.LastSerial{Serial: 210, At: at(60)}, serials: []uint32{2<<30 + 100}},
		{knows: &kernel.LastSerial{Serial: 2<<30 + 100, At: at(80), Unsaid: gaps(2<<30-111, 211, 2<<30+99, 60, 80)}},
	} {
		s, knows, err := openSerialFile(path, "boot")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(run.knows, knows); diff != "" {
			t.Errorf("run %d knows:\n%s", i, diff)
		}
		for _, serial := range run.serials {
			s.addSerial(serial)
			if err := s.save(at(10 * i)); err != nil {
				t.Fatal(err)
			}
		}
		for _, g := range run.said {
			s.announced(g)
			if err := s.save(at(10 * i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A second forwarder, which reads the multicast group beside the first and is behind
// or before it, writes nothing into the file that the first one has.
func TestSerialFileIsOneForwarders(t *testing.T) {
	path := t.TempDir() + "/serial"
	now := time.Unix(1_700_000_000, 0)
	first, _, err := openSerialFile(path, "boot")
	if err != nil {
		t.Fatal(err)
	}
	first.addSerial(100)
	if err := first.save(now); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openSerialFile(path, "boot"); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("a second one: %v, want ErrLocked", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	next, knows, err := openSerialFile(path, "boot")
	if err != nil {
		t.Fatalf("after the first: %v", err)
	}
	if diff := cmp.Diff(&kernel.LastSerial{Serial: 100, At: now}, knows); diff != "" {
		t.Error(diff)
	}
	if err := next.close(); err != nil {
		t.Fatal(err)
	}
}

// A state file that somebody removes, with its folder or renamed, is made again with what
// it said; what stands in its place is left alone.
func TestSerialFileRemoved(t *testing.T) {
	dir := t.TempDir() + "/run"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := dir + "/serial"
	s, _, err := openSerialFile(path, "boot")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	look := func(wantFresh, wantErr bool) {
		t.Helper()
		if fresh, err := s.keepName(); fresh != wantFresh || (err != nil) != wantErr {
			t.Errorf("fresh %v, %v", fresh, err)
		}
	}
	take := func(serial uint32) {
		t.Helper()
		s.addSerial(serial)
		if err := s.save(now); err != nil {
			t.Fatal(err)
		}
	}
	take(100)
	look(false, false)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	look(true, false)
	look(false, false)
	if err := errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, []byte("another's"), 0o600)); err != nil {
		t.Fatal(err)
	}
	look(true, true)
	look(false, true) // said once
	take(101)
	if b, err := os.ReadFile(path); err != nil || string(b) != "another's" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(true, false)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s, knows, err := openSerialFile(path, "boot")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&kernel.LastSerial{Serial: 101, At: now}, knows); diff != "" {
		t.Error(diff)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}
