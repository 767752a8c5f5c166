package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
)

var unexported = cmpopts.IgnoreUnexported(ship.AckedBy{})

func entry(n byte, server string, from, to uint64) ship.AckedBy {
	return ship.AckedBy{
		Server: server, Peer: ship.Peer{Name: "hub", Addr: "192.0.2.1:61"}, Stream: [16]byte{n}, From: from, To: to, Records: to - from + 1,
		When: time.Date(2026, 11, 29, 12, 0, int(to%60), 0, time.UTC),
	}
}

// Who has acknowledged what is kept: the last entry as it grows, in place, and others whole.
func TestAcknowledgedIsKept(t *testing.T) {
	dir := t.TempDir()
	k, _, err := openAcked(dir)
	if err != nil {
		t.Fatal(err)
	}
	turn := uint64(0)
	check := func(what string, want ...ship.AckedBy) {
		t.Helper()
		if what != "it grows" {
			turn++
		}
		if err := k.save(want[len(want)-1], turn, func() []ship.AckedBy { return want }); err != nil {
			t.Fatal(err)
		}
		got, damaged, err := ReadAcked(filepath.Join(dir, AckedName))
		if d := cmp.Diff(want, got, unexported); d != "" || damaged > 0 || err != nil {
			t.Errorf("%s: %d damaged, %v\n%s", what, damaged, err, d)
		}
	}
	ino := func() os.FileInfo {
		i, err := os.Stat(filepath.Join(dir, AckedName))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	check("one", entry(1, "a:61", 1, 7))
	first := ino()
	check("it grows", entry(1, "a:61", 1, 1<<63))
	if !os.SameFile(first, ino()) {
		t.Error("written anew, and synced, for an entry that grows")
	}
	check("another", entry(1, "a:61", 1, 1<<63), entry(1, "b:61", 9, 9))
	check("it grows", entry(1, "a:61", 1, 1<<63), entry(1, "b:61", 9, 10))
	check("the oldest goes", entry(1, "b:61", 9, 10), entry(2, "b:61", 11, 11))
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
	if k, _, err = openAcked(dir); err != nil || len(k.kept) != 2 {
		t.Fatalf("%+v, %v", k.kept, err)
	}
	check("after a restart", entry(1, "b:61", 9, 10), entry(2, "b:61", 11, 12))
	odd := entry(3, "c d\n:61", 13, 13)
	odd.Peer = ship.Peer{}
	if err := k.save(odd, 99, func() []ship.AckedBy { return []ship.AckedBy{odd} }); err != nil {
		t.Fatal(err)
	}
	if got, _, err := ReadAcked(k.path); err != nil || len(got) != 1 || got[0].Server != "c?d?:61" || got[0].Peer != (ship.Peer{}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
}

// FORMAT.md's example is one.
func TestAcknowledgedAsWrittenDown(t *testing.T) {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if by, ok := parseAckedLine([]byte(strings.TrimSpace(line) + "\n")); ok {
			if by.To != 74142 || by.Records != 74100 || by.Server != "hub1:61" || by.Peer.Name != "hub1" {
				t.Errorf("%+v", by)
			}
			return
		}
	}
	t.Error("the example is damaged")
}

// A damaged line costs that line; a file of another kind is left as it is.
func TestAcknowledgedDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, AckedName)
	a, b := entry(1, "a:61", 1, 2), entry(1, "b:61", 3, 4)
	whole := string(appendAcked(appendAcked([]byte(ackedHeader), &a), &b))
	for name, c := range map[string]struct {
		text         string
		left, broken int
	}{
		"whole": {whole, 2, 0}, "a byte": {strings.Replace(whole, "a:61", "x:61", 1), 1, 1}, "cut": {whole[:len(whole)-3], 1, 1},
		"zeroes behind": {whole + "\x00\x00\x00\n", 2, 1}, "empty": {"", 0, 0}, "zeroes": {"\x00\x00", 0, 0}, "header": {ackedHeader, 0, 0}, "junk": {ackedHeader + "\n \n1 2\n", 0, 3},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, damaged, err := openAcked(dir)
		if err != nil || damaged != c.broken || len(k.kept) != c.left {
			t.Errorf("%s: %+v, %d damaged, %v", name, k.kept, damaged, err)
		}
	}
	for _, text := range []string{"somebody's notes\n", "auditfleet-acknowledged 2\nx\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, _, err := openAcked(dir)
		if !errors.Is(err, ErrAcked) {
			t.Error(err)
		}
		if err := k.save(a, 1, func() []ship.AckedBy { return []ship.AckedBy{a} }); err != nil {
			t.Error(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func FuzzAcknowledged(f *testing.F) {
	a := entry(1, "a:61", 1, 2)
	f.Add(string(appendAcked([]byte(ackedHeader), &a)))
	f.Fuzz(func(t *testing.T, text string) {
		list, _, err := parseAcked([]byte(text))
		if err != nil {
			return
		}
		again := []byte(ackedHeader)
		for i := range list {
			again = appendAcked(again, &list[i])
		}
		got, damaged, err := parseAcked(again)
		if d := cmp.Diff(list, got, unexported); d != "" || damaged > 0 || err != nil {
			t.Errorf("%d damaged, %v\n%s", damaged, err, d)
		}
	})
}
