package oldlogs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Logs that are cut, rotated, compressed, copied and mixed with other lines at random give
// each record once, a host's in its order; and reading goes on behind any record.
func TestReadRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(need.Seed(t), 1))
	for range need.Rounds(30, 8) {
		dir := t.TempDir()
		var want []string
		for host := range 1 + rnd.IntN(3) {
			sec := 1000 + rnd.IntN(100)
			for file := range 1 + rnd.IntN(4) {
				var text strings.Builder
				for range 1 + rnd.IntN(30) {
					sec += 1 + rnd.IntN(3)
					l := line(sec, len(want))
					want = append(want, fmt.Sprintf("h%d %s", host, l))
					text.WriteString(l)
					if rnd.IntN(4) == 0 {
						text.WriteString("----\n\n")
					}
				}
				ways := []string{"", ".gz", ".zst", ".xz"}
				for range 1 + rnd.IntN(2) { // perhaps a copy
					put(t, filepath.Join(dir, fmt.Sprint("h", host), fmt.Sprint(rnd.Uint32(), "-", file)+ways[rnd.IntN(4)]), text.String())
				}
			}
		}
		pattern, err := ParsePattern("/**/{node}/*")
		if err != nil {
			t.Fatal(err)
		}
		find := func() *Set {
			set, err := Find(t.Context(), Config{Paths: []string{dir}, NodeFrom: pattern})
			if err != nil || len(set.Passed) != 0 {
				t.Fatal(err, set)
			}
			return set
		}
		stop := rnd.IntN(len(want)) // the first run ends behind so many records
		left := map[string]int64{}
		stopped := errors.New("stopped")
		var got []string
		take := func(e *Entry) error {
			if len(got) == stop {
				stop = -1
				return stopped
			}
			got = append(got, string(e.Node)+" "+string(e.Record.Raw)+"\n")
			left[e.File.Path] = e.End
			return nil
		}
		if err := find().Read(t.Context(), ReadConfig{Record: take}); !errors.Is(err, stopped) {
			t.Fatal(err)
		}
		set := find()
		err = set.Read(t.Context(), ReadConfig{
			Record: take,
			From:   func(f *File) (int64, error) { return left[f.Path], nil },
			Done: func(s *Summary) error {
				if c, err := s.File.content(t.Context()); s.Damage != nil || err != nil || c != s.Content || c.Head != s.File.Head || s.First != s.File.First {
					t.Errorf("%+v: %+v, %v", s, c, err)
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for host := range 3 {
			of := func(list []string) (some []string) {
				for _, l := range list {
					if strings.HasPrefix(l, fmt.Sprint("h", host, " ")) {
						some = append(some, l)
					}
				}
				return some
			}
			if a, b := of(got), of(want); !slices.Equal(a, b) {
				t.Fatalf("h%d: %d records, want %d", host, len(a), len(b))
			}
		}
	}
}

// A damaged file is read as far as it goes, one that is renamed is found, one that is gone
// is said; the others are read.
func TestReadDamage(t *testing.T) {
	dir := t.TempDir()
	var text strings.Builder
	for i := range 5000 {
		text.WriteString(line(1000+i, rand.IntN(1<<30)))
	}
	cut := put(t, filepath.Join(dir, "cut.gz"), text.String())
	if info, err := os.Stat(cut); err != nil || os.Truncate(cut, info.Size()/2) != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "gone"), line(7000, 1))
	put(t, filepath.Join(dir, "audit.log"), line(8000, 1)+strings.Repeat("x", 2*readBytes)+"\n"+line(8001, 2)+"no record\ntype=USER msg=audit(8002.000:3): without its end")
	set, err := Find(t.Context(), Config{Paths: []string{dir}})
	if err != nil || len(set.Passed) != 0 {
		t.Fatal(err, set.Passed)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "gone")), os.Rename(filepath.Join(dir, "audit.log"), filepath.Join(dir, "audit.log.1"))); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "audit.log"), line(9000, 1))
	var said []*Summary
	if err := set.Read(t.Context(), ReadConfig{Done: func(s *Summary) error { said = append(said, s); return nil }}); err != nil || len(said) != 3 {
		t.Fatal(err, said)
	}
	if s := said[0]; s.Records == 0 || s.Records > 4000 || s.Damage == nil || !strings.Contains(s.Damage.Error(), "what follows is left out") {
		t.Errorf("cut: %+v", s)
	}
	if s := said[1]; s.Records != 0 || s.Damage == nil || !strings.Contains(s.Damage.Error(), "gone") {
		t.Errorf("gone: %+v", s)
	}
	if s := said[2]; s.Records != 2 || s.Torn != TornWaits || s.Other != 1 || s.OtherLine != 4 || s.TooLong != 1 || s.Last != 8001500 || s.Damage != nil {
		t.Errorf("renamed: %+v", s)
	}
	if done, all := set.Progress(); done != all {
		t.Errorf("%d of %d bytes", done, all)
	}
}

// Whatever a file has in it: each line is a record, none, or too long, and each record is
// a line of it.
func FuzzRead(f *testing.F) {
	f.Add([]byte(line(1, 1) + "x\n\n" + line(2, 2)))
	f.Add([]byte("node=a type=1300 audit(1500.000:7): syscall=2"))
	f.Add(pack(f, ".gz", line(1, 1)+line(2, 2)))
	f.Add(pack(f, ".zst", line(1, 1)))
	f.Add(pack(f, ".xz", line(1, 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := Find(t.Context(), Config{Paths: []string{path}})
		if err != nil || len(set.Files)+len(set.Passed) != 1 {
			t.Fatal(err, set)
		}
		if len(set.Files) == 0 {
			return
		}
		log, n, end := set.Files[0], int64(0), int64(0)
		err = set.Read(t.Context(), ReadConfig{
			Record: func(e *Entry) error {
				n++
				if e.End <= end {
					t.Errorf("record %d ends at %d, the one before at %d", n, e.End, end)
				}
				end = e.End
				var r record.Record
				if _ = r.Parse(e.Record.Raw); !r.IsRecord() {
					t.Errorf("%q is no record", e.Record.Raw)
				}
				return nil
			},
			Done: func(s *Summary) error {
				if s.Records != n || s.Content.Size < end || s.Damage == nil && s.Torn == "" && (s.Content.Head != log.Head || s.Records == 0) {
					t.Errorf("%+v: %d records up to %d", s, n, end)
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var text strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&text, `type=SYSCALL msg=audit(%d.123:%d): arch=c000003e syscall=59 success=yes exit=0 a0=55d0 a1=55d1 a2=55d2 a3=8 items=2 ppid=12 pid=%d auid=1000 uid=0 gid=0 euid=0 tty=pts0 ses=3 comm="ls" exe="/usr/bin/ls" key="opens"`+"\n", 1700000000+i/100, i, i%30000)
	}
	for _, how := range []string{"", ".gz", ".zst", ".xz"} {
		b.Run("log"+how, func(b *testing.B) {
			path := put(b, filepath.Join(b.TempDir(), "log"+how), text.String())
			b.SetBytes(int64(text.Len()))
			n := 0
			for b.Loop() {
				set, err := Find(b.Context(), Config{Paths: []string{path}})
				if err != nil {
					b.Fatal(err)
				}
				if err := set.Read(b.Context(), ReadConfig{Record: func(*Entry) error { n++; return nil }}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// TestBegins knows a log again by what it had when it was read before: the same one, one that has grown, its compressed
// copy, and never one that is another behind the same beginning.
func TestBegins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	line := func(n int) string {
		return fmt.Sprintf("node=a type=USER_END msg=audit(%d.001:%d): op=end\n", 1764000000+n, n)
	}
	text := ""
	for n := range 500 {
		text += line(n)
	}
	write := func(name, text string) *File {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := Find(t.Context(), Config{Paths: []string{path}})
		if err != nil || len(set.Files) != 1 {
			t.Fatal(set, err)
		}
		return set.Files[0]
	}
	full, half := write("full", text).mustContent(t), write("half", text[:len(line(0))*100]).mustContent(t)
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"same", text, 0},
		{"grown", text + line(501), 0},
		{"shorter", text[:len(line(0))*200], 1},
		{"the half", text[:len(line(0))*100], 1},
		{"too short", text[:len(line(0))*90], -1},
		{"other", text[:len(line(0))*90] + strings.Replace(text[len(line(0))*90:], "op=end", "op=End", 1), -1},
	} {
		f := write("x", c.text)
		if got, whole, err := f.Begins(t.Context(), []Content{full, half}); got != c.want || err != nil || whole != (c.name == "same" || c.name == "the half") {
			t.Errorf("%s: %d, %v, %v, want %d", c.name, got, whole, err, c.want)
		}
	}
}

func (f *File) mustContent(t *testing.T) Content {
	t.Helper()
	c, err := f.content(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAppendedPacked: a log to which a compressed one was appended is read as far as it is a log, and that is said.
func TestAppendedPacked(t *testing.T) {
	const line = "type=USER_END msg=audit(1700000000.001:7): pid=1\n"
	for _, packed := range []string{"\x1f\x8b\x08\x00\x00", "\x28\xb5\x2f\xfd\x00", "\xfd7zXZ\x00", "BZh91AY&SY\x00"} {
		for _, before := range []string{line, line + line[:20]} {
			if before != line && packed[0] != '\x1f' {
				continue // it is told from a record at the begin of a line only
			}
			path := filepath.Join(t.TempDir(), "audit.log")
			if err := os.WriteFile(path, []byte(before+packed+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			set, err := Find(t.Context(), Config{Paths: []string{path}})
			if err != nil || len(set.Files) != 1 {
				t.Fatalf("%q: %+v, %v", packed, set, err)
			}
			want := fmt.Sprintf("compressed data begins at byte %d", len(before))
			err = set.Read(t.Context(), ReadConfig{Done: func(s *Summary) error {
				if s.Records != 1 || s.Damage == nil || !strings.Contains(s.Damage.Error(), want) {
					t.Errorf("%q behind %d bytes: %d records, %v", packed, len(before), s.Records, s.Damage)
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
