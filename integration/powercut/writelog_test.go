package powercut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// logged makes a log of entries with sectors of 512 bytes: a flush where a letter is 0, else a write of a
// sector that is filled with it.
func logged(letters string) []byte {
	super := binary.LittleEndian.AppendUint64(nil, magic)
	super = binary.LittleEndian.AppendUint64(super, 1)
	super = binary.LittleEndian.AppendUint64(super, uint64(len(letters)))
	super = binary.LittleEndian.AppendUint32(super, sector)
	log := append(super, make([]byte, sector-len(super))...)
	for i, letter := range []byte(letters) {
		head := make([]byte, sector)
		if letter == 0 {
			binary.LittleEndian.PutUint64(head[16:], Flush)
			log = append(log, head...)
			continue
		}
		binary.LittleEndian.PutUint64(head, uint64(i))
		binary.LittleEndian.PutUint64(head[8:], 1)
		log = append(append(log, head...), bytes.Repeat([]byte{letter}, sector)...)
	}
	return log
}

// sectors are the first bytes of a disk's sectors.
func sectors(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for at := 0; at < len(b); at += sector {
		first = append(first, max(b[at], '.'))
	}
	return string(first)
}

// TestReplay: what was flushed is there whatever the cut leaves of the rest, and of that any part may be.
func TestReplay(t *testing.T) {
	text := logged("ab\x00cde\x00f")
	log, err := OpenLog(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Entries) != 8 || log.Flushed(6) != 3 || log.Flushed(8) != 7 || log.Flushed(2) != 0 {
		t.Fatalf("%d entries, flushed %d %d %d", len(log.Entries), log.Flushed(6), log.Flushed(8), log.Flushed(2))
	}
	if n := log.At(log.Entries[4].End); n != 5 {
		t.Errorf("%d entries when the log ended behind the fifth", n)
	}
	dir := t.TempDir()
	base, err := os.Create(filepath.Join(dir, "base"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	if err := base.Truncate(8 * sector); err != nil {
		t.Fatal(err)
	}
	disk := NewDisk(log, base)
	seen := map[string]bool{}
	for _, c := range []struct {
		kind Kind
		want []string
	}{{All, []string{"ab.cde.."}}, {None, []string{"ab......"}}, {Some, nil}, {Torn, nil}} {
		for seed := range uint64(60) {
			to := filepath.Join(dir, "cut")
			missing, unflushed, err := disk.Make(Cut{Entries: 6, Kind: c.kind, Seed: seed}, to)
			if err != nil {
				t.Fatal(err)
			}
			got := sectors(t, to)
			if c.want != nil && !slices.Contains(c.want, got) || got[:3] != "ab." || got[6:] != ".." || unflushed != 3 || missing != bytes.Count([]byte(got[3:6]), []byte(".")) {
				t.Fatalf("%v: %s, %d of %d writes missing", c.kind, got, missing, unflushed)
			}
			if c.kind == Some {
				seen[got] = true
			}
		}
	}
	if len(seen) != 8 {
		t.Errorf("of 8 subsets %d came", len(seen))
	}
	if _, _, err := disk.Make(Cut{Entries: 8, Kind: None}, filepath.Join(dir, "cut")); err != nil {
		t.Fatal(err)
	}
	if got := sectors(t, filepath.Join(dir, "cut")); got != "ab.cde.." {
		t.Errorf("after the second flush: %s", got)
	}
	if _, _, err := disk.Make(Cut{Entries: 2}, filepath.Join(dir, "cut")); err == nil {
		t.Error("a cut before one that was made: no error")
	}
}

// TestNoLog: what is no log of writes is refused, and one that ends within an entry has those before.
func TestNoLog(t *testing.T) {
	text := logged("abc")
	for what, change := range map[string]func([]byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"magic":        func(b []byte) []byte { b[0]++; return b },
		"version":      func(b []byte) []byte { b[8]++; return b },
		"sector size":  func(b []byte) []byte { b[24]++; return b },
		"a huge write": func(b []byte) []byte { b[sector+8+6] = 1; return b },
		"far away":     func(b []byte) []byte { b[sector+7] = 1; return b },
	} {
		b := change(bytes.Clone(text))
		if _, err := OpenLog(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for size := sector; size <= len(text); size++ {
		log, err := OpenLog(bytes.NewReader(text), int64(size))
		if err != nil || len(log.Entries) != (size-sector)/(2*sector) {
			t.Fatalf("%d bytes: %d entries, %v", size, len(log.Entries), err)
		}
	}
}
