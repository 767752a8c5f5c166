package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

func content() *Content {
	at := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	return &Content{
		ID: NewID(), Since: at, Why: "a store of version 2", Batch: 9, Journal: seglog.Known{First: 3, Newest: 2, Dropping: []string{"1.seg"}},
		Parts:   []Part{{Name: "2026-11-21", First: 1, Batch: 7, Events: 60, MinMs: 1, MaxMs: 2}, {Name: "2026-11-22", Unmarked: true}},
		Dropped: Dropped{Count: 2, Last: "2026-11-20", At: at}, Forgot: at,
		Replaced: []Replaced{{Name: "2026-11-20", First: 1, Batch: 4, Events: 9, By: []string{"2026-11-20.2"}, At: at}}, Numbers: map[string]int{"2026-11-20": 2},
		Lost: []Loss{{Part: "2026-11-19", Text: "it is missing", Found: at, MinMs: 1, MaxMs: 2, Batch: 3}},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	dir, want := t.TempDir(), content()
	if _, err := Load(fsys.OS, dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there is none: %v", err)
	}
	if err := Save(fsys.OS, dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := Load(fsys.OS, dir)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-saved +loaded):\n%s", err, d)
	}
	name, err := SetAside(dir, time.Unix(1, 0))
	if err != nil || name != "MANIFEST.corrupt-1000000000" {
		t.Errorf("set aside as %q, %v", name, err)
	}
	if name, err := SetAside(dir, time.Unix(2, 0)); name != "" || err != nil {
		t.Errorf("set aside again: %q, %v", name, err)
	}
}

// A flipped bit anywhere is damage, and so is an end that is missing; a newer version is
// said to be one only when its checksum is right.
func TestDecodeDamaged(t *testing.T) {
	t.Parallel()
	b, err := content().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := Decode(bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
	}
	for n := range b {
		if _, err := Decode(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Name), make([]byte, mostBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(fsys.OS, dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filepath.Join(dir, Name)) {
		t.Errorf("a file that is far too large: %v", err)
	}
}

// Update writes what has changed, and only then; it changes nothing for who has a copy.
func TestUpdate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := NewFile(fsys.OS, dir, content())
	before := m.Content()
	if err := m.Update(func(*Content) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, Name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what says nothing new was written: %v", err)
	}
	err := m.Update(func(c *Content) {
		c.Set(Part{Name: "2026-11-22", Batch: 9})
		c.Set(Part{Name: "2026-11-23"})
		c.Remove("2026-11-21")
		c.AddLoss(Loss{Part: "2026-11-18", Text: "x"})
		c.AddLoss(Loss{Part: "2026-11-18", Text: "x", Found: time.Unix(1, 0)}) // the same once more
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(fsys.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Parts) != 2 || c.Part("2026-11-22").Batch != 9 || c.Part("2026-11-23") == nil || c.Part("2026-11-21") != nil || len(c.Lost) != 2 {
		t.Errorf("%+v", c)
	}
	if len(before.Parts) != 2 || before.Parts[0].Name != "2026-11-21" || len(before.Lost) != 1 {
		t.Errorf("an earlier copy has changed: %+v", before)
	}
	if err := m.Update(func(c *Content) {
		for i := range mostLosses + 10 {
			c.AddLoss(Loss{Text: fmt.Sprint(i)})
		}
	}); err != nil {
		t.Fatal(err)
	}
	if n := len(m.Content().Lost); n != mostLosses {
		t.Errorf("%d losses are listed, %d is the most", n, mostLosses)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := m.Update(func(c *Content) { c.Batch++ }); err == nil || m.Content().Batch != 9 {
		t.Errorf("what could not be written: %v, batch %d", err, m.Content().Batch)
	}
}

// A list that compaction has made as long as it may can be read, with room for what comes in.
func TestCrowded(t *testing.T) {
	t.Parallel()
	c := &Content{ID: NewID()}
	var by []string
	for i := range 4096 {
		by = append(by, fmt.Sprintf("2026-11-22.%d", 100000+i))
	}
	for !c.Crowded() {
		c.Replaced = append(c.Replaced, Replaced{Name: "2026-11-22", First: 1 << 40, Batch: 1 << 40, Events: 1 << 40, By: by})
		c.Parts = append(c.Parts, Part{Name: by[0], First: 1 << 40, Batch: 1 << 40, Events: 1 << 40, Records: 1 << 40, Hosts: 1 << 20, MinMs: 1 << 41, MaxMs: 1 << 41, Compacted: true})
	}
	b, err := c.Encode()
	if err != nil || len(b) > mostBytes/3 || len(b) < crowdedBytes/4 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// What is imported leaves room in the list for the days of senders.
func TestRoom(t *testing.T) {
	t.Parallel()
	c := &Content{}
	for c.Room() > 0 {
		c.Parts = append(c.Parts, Part{})
	}
	imported := len(c.Parts)
	for !c.Crowded() {
		c.Parts = append(c.Parts, Part{})
	}
	if n := len(c.Parts) - imported; imported < 10_000 || n < 10_000 {
		t.Errorf("room for %d that are imported, and then for %d others", imported, n)
	}
}
