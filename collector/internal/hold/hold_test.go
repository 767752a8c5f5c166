package hold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

var at = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// kept is a manifest's word.
type kept struct {
	store.Held
	why []string
	err error
}

func (k *kept) Holds() store.Held { return k.Held }

func (k *kept) KeepHolds(h store.Held, _ int, why string) error {
	if k.err == nil {
		k.Held, k.why = h, append(k.why, why)
	}
	return k.err
}

func part(day string, n int) *store.PartStats {
	d, err := store.ParseDay(day)
	if err != nil {
		panic(err)
	}
	return &store.PartStats{Part: store.Part{Day: d, N: n}, LastID: 1, Received: d}
}

// events has the hosts of parts.
type events map[string][]string

func (e events) PartHosts(_ context.Context, p store.Part, fn func(string)) error {
	names, ok := e[p.String()]
	if !ok {
		return store.ErrDamaged
	}
	for _, n := range names {
		fn(n)
	}
	return nil
}

func whats(list []Hold) (out []string) {
	for _, h := range list {
		out = append(out, h.What)
	}
	return out
}

func mustChange(t *testing.T, s *Set, c Change) []Done {
	t.Helper()
	done, err := s.Change(c, at)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// What is on hold: days by their date, with all their parts, hosts by name, pattern, and the name that
// their records count as, too; and whatever cannot be told.
func TestWhy(t *testing.T) {
	t.Parallel()
	e := events{"2026-11-20": {"web1", "db1"}, "2026-11-21": {"db1"}, "2026-11-21.2": {"WEB1."}, "2026-11-22": {""}, "2026-11-23": {"192.0.2.7"}, "2026-11-24": {"mail"}}
	for _, c := range []struct {
		add  string
		want string // parts on hold
	}{
		{"", ""},
		{"2026-11-21", "2026-11-21 2026-11-21.2"},
		{"2026-11-21..2026-11-23", "2026-11-21 2026-11-21.2 2026-11-22 2026-11-23"},
		{"web1", "2026-11-20 2026-11-21.2 2026-11-22 2026-11-23 2026-11-25"}, // "" may have any host, 25 is damaged
		{"web?", "2026-11-20 2026-11-21.2 2026-11-22 2026-11-23 2026-11-25"},
		{"Mail", "2026-11-22 2026-11-24 2026-11-25"},
		{"2026-11-30 db1", "2026-11-20 2026-11-21 2026-11-22 2026-11-25"},
	} {
		s := Open(fsys.OS, t.TempDir(), &kept{})
		if c.add != "" {
			mustChange(t, s, Change{Add: strings.Fields(c.add)})
		}
		k := NewKeep(s, e, func() map[string]string { return map[string]string{"192.0.2.7": "web1"} })
		var got []string
		for _, p := range []*store.PartStats{part("2026-11-20", 1), part("2026-11-21", 1), part("2026-11-21", 2), part("2026-11-22", 1), part("2026-11-23", 1), part("2026-11-24", 1), part("2026-11-25", 1)} {
			if k.Why(context.Background(), p) != "" {
				got = append(got, p.String())
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%q on hold: %s; want %s", c.add, text, c.want)
		}
	}
}

// A part gets hosts also by the batches of other collectors, which do not move its last batch.
func TestWhyOthers(t *testing.T) {
	t.Parallel()
	s, e, p := Open(fsys.OS, t.TempDir(), &kept{}), events{"2026-11-20": {"web1"}}, part("2026-11-20", 1)
	mustChange(t, s, Change{Add: []string{"web2"}})
	k := NewKeep(s, e, func() map[string]string { return nil })
	if why := k.Why(t.Context(), p); why != "" {
		t.Errorf("without events of web2: %q", why)
	}
	e["2026-11-20"] = append(e["2026-11-20"], "web2")
	p.Events++
	if k.Why(t.Context(), p) == "" {
		t.Error("events of web2 came from another collector, and are not on hold")
	}
}

// Events that were received on a day that is on hold stay, also when compaction has moved them to the day in which they happened.
func TestWhyLate(t *testing.T) {
	t.Parallel()
	s := Open(fsys.OS, t.TempDir(), &kept{})
	mustChange(t, s, Change{Add: []string{"2026-11-21"}})
	k := NewKeep(s, events{}, func() map[string]string { return nil })
	for received, want := range map[string]bool{"2026-11-17": false, "2026-11-20": false, "2026-11-21": true, "2026-11-23": true} {
		p := part("2026-11-17", 2)
		p.Compacted, p.Received = true, part(received, 1).Day
		if got := k.Why(context.Background(), p) != ""; got != want {
			t.Errorf("what was received last on %s is on hold: %v, want %v", received, got, want)
		}
	}
}

// An import's events happened on other days than they came: none is taken back whose day is on hold.
func TestWhyImported(t *testing.T) {
	t.Parallel()
	s := Open(fsys.OS, t.TempDir(), &kept{})
	mustChange(t, s, Change{Add: []string{"2023-05-01..2023-05-07"}})
	k := NewKeep(s, events{}, func() map[string]string { return nil })
	for days, want := range map[[2]string]bool{{"2023-04-01", "2023-04-30"}: false, {"2023-04-01", "2023-05-01"}: true, {"2023-05-07", "2023-06-01"}: true, {"2023-01-01", "2023-12-31"}: true, {"2023-05-08", "2023-05-08"}: false} {
		p := part("2026-11-17", 2)
		p.Imported, p.Events = true, 2
		p.MinMs, p.MaxMs = part(days[0], 1).Day.Time().UnixMilli(), part(days[1], 1).Day.Time().UnixMilli()+1
		if got := k.Why(context.Background(), p) != ""; got != want {
			t.Errorf("%v is on hold: %v, want %v", days, got, want)
		}
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	dir, g := t.TempDir(), &kept{}
	s := Open(fsys.OS, dir, g)
	mustChange(t, s, Change{Add: []string{"web1", "2026-11-01..2026-11-05"}, Reason: "case 1", By: "uid=0"})
	if done := mustChange(t, s, Change{Add: []string{"web1"}}); len(done) != 0 {
		t.Errorf("on hold already: %v", done)
	}
	if done := mustChange(t, s, Change{Add: []string{"web1"}, Reason: "case 2"}); len(done) != 1 || s.List()[0].Reason != "case 2" {
		t.Errorf("another reason: %v", done)
	}
	for _, c := range []struct {
		c    Change
		want error
	}{
		{Change{Remove: []string{"web1", "web2"}}, ErrNoHold},
		{Change{Add: []string{"web3", "2026-13-01"}}, ErrWords},
		{Change{Add: []string{"2026-11-05..2026-11-01"}}, ErrWords},
		{Change{Add: []string{"2026-11-22.2"}}, ErrWords},
		{Change{Add: []string{"a b"}}, ErrWords},
		{Change{Add: []string{strings.Repeat("x", 256)}}, ErrWords},
		{Change{Add: []string{"x"}, Reason: strings.Repeat("x", 501)}, ErrWords},
		{Change{Add: []string{"x"}, Reason: "two\nlines"}, ErrWords},
	} {
		if _, err := s.Change(c.c, at); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.c, err)
		}
	}
	again := Open(fsys.OS, dir, g)
	if d := cmp.Diff(s.List(), again.List()); d != "" || again.Broken() != nil || len(again.List()) != 2 {
		t.Errorf("read again: %v %s", again.Broken(), d)
	}
	if n := len(again.Unsaid()); n != 3 {
		t.Errorf("%d changes wait for their records, want 3", n)
	}
	if err := again.Settle(again.Unsaid()[1:]); err != nil || len(Open(fsys.OS, dir, g).Unsaid()) != 1 {
		t.Errorf("%v, left %v", err, Open(fsys.OS, dir, g).Unsaid())
	}
	many := Change{}
	for i := range MaxHolds {
		many.Add = append(many.Add, fmt.Sprint("h", i))
	}
	if _, err := again.Change(many, at); !errors.Is(err, ErrWords) {
		t.Errorf("more than are kept: %v", err)
	}
	mustChange(t, again, Change{All: true})
	if len(Open(fsys.OS, dir, g).List()) != 0 {
		t.Error("not all removed")
	}
}

// A list that is damaged anywhere, cut short, older than what the manifest knows of, missing or from a newer
// version puts everything on hold; nothing but a removal of all makes it a list again, which keeps the file.
func TestBroken(t *testing.T) {
	t.Parallel()
	dir, g := t.TempDir(), &kept{}
	mustChange(t, Open(fsys.OS, dir, g), Change{Add: []string{"web1"}})
	path := filepath.Join(dir, Name)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mustChange(t, Open(fsys.OS, dir, g), Change{Add: []string{"web2"}})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := Open(fsys.OS, dir, g)
		k := NewKeep(s, events{}, func() map[string]string { return nil })
		if s.Broken() == nil || k.Why(context.Background(), part("2026-11-22", 1)) == "" {
			t.Fatalf("%s: believed", what)
		}
	}
	for i := range whole {
		bad := append([]byte(nil), whole...)
		bad[i] ^= 4
		check(fmt.Sprint("byte ", i), bad)
		check(fmt.Sprint("cut at ", i), whole[:i])
	}
	check("older", old)
	c, err := decode(whole)
	if err != nil {
		t.Fatal(err)
	}
	c.Holds = c.Holds[1:]
	dropped, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	check("a hold taken out by hand, and the checksum made again", dropped)
	check("a newer version", []byte("auditfleet holds 2\n{}\ncrc32c 00000000\n"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s := Open(fsys.OS, dir, g)
	if s.Broken() == nil || !strings.Contains(s.Broken().Error(), "is missing") {
		t.Errorf("missing: %v", s.Broken())
	}
	check("empty", nil)
	s = Open(fsys.OS, dir, g)
	if _, err := s.Change(Change{Add: []string{"x"}}, at); err == nil || !strings.Contains(err.Error(), "remove --all") {
		t.Errorf("changed while it is not believed: %v", err)
	}
	if done := mustChange(t, s, Change{All: true}); len(done) != 1 || s.Broken() != nil || Open(fsys.OS, dir, g).Broken() != nil {
		t.Errorf("begun anew: %v, %v", done, s.Broken())
	}
	if m, _ := filepath.Glob(path + ".corrupt-*"); len(m) != 1 {
		t.Errorf("set aside: %q", m)
	}
}

// Whatever fails, and wherever the power goes, the list is the one before or the one after, never
// another one, and is believed; and what Change has returned nil for is there.
func TestCrashes(t *testing.T) {
	t.Parallel()
	for _, lose := range []string{"fail", "power"} {
		for n := 1; n < 60; n++ {
			f := faultfs.New(int64(n))
			if err := errors.Join(f.MkdirAll("/s", 0o700), f.SyncDir("/")); err != nil {
				t.Fatal(err)
			}
			g := &kept{}
			s := Open(f, "/s", g)
			mustChange(t, s, Change{Add: []string{"a"}})
			if lose == "power" {
				f.CutPower(n)
			} else {
				op := faultfs.Ops()[n%len(faultfs.Ops())]
				f.Fail(op, f.Count(op)+1+n/len(faultfs.Ops()), errors.New("a broken disk"))
			}
			_, err := s.Change(Change{Add: []string{"b"}}, at)
			f.Heal()
			f.Crash()
			again := Open(f, "/s", g)
			got := strings.Join(whats(again.List()), " ")
			if again.Broken() != nil || got != "a b" && (got != "a" || err == nil) {
				t.Fatalf("%s %d: %q, %v; changed: %v", lose, n, got, again.Broken(), err)
			}
		}
	}
}

// A kill between the list and the manifest: the list counts, and the next start has the manifest know it.
func TestKilledBetween(t *testing.T) {
	t.Parallel()
	dir, g := t.TempDir(), &kept{err: errors.New("killed")}
	if _, err := Open(fsys.OS, dir, g).Change(Change{Add: []string{"web1"}}, at); err == nil {
		t.Error("the manifest has not kept it, and nothing was said")
	}
	g.err = nil
	s := Open(fsys.OS, dir, g)
	if len(s.List()) != 1 || g.Generation != 0 {
		t.Errorf("%v, generation %d", s.List(), g.Generation)
	}
	if err := s.Settle(nil); err != nil || g.Generation != 1 || len(g.why) != 1 || !strings.Contains(g.why[0], "add web1") {
		t.Errorf("%v, generation %d", err, g.Generation)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := (&content{Generation: 3, Holds: []Hold{{What: "web1", At: at}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decode(b)
		if err != nil {
			return
		}
		if again, err := c.encode(); err != nil {
			t.Fatal(err)
		} else if _, err := decode(again); err != nil {
			t.Fatalf("%q: %v", again, err)
		}
	})
}
