package event

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// short writes an event as "[node ]serial:TYPE TYPE …".
func short(ev *Event) string {
	var b strings.Builder
	if ev.Node != nil {
		fmt.Fprintf(&b, "%s ", ev.Node)
	}
	fmt.Fprintf(&b, "%d:", ev.Serial)
	for i := range ev.Records {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.Write(ev.Records[i].TypeName)
	}
	return b.String()
}

// run feeds records written as "[node ]TYPE ms serial" and returns what came out
// by the end of the stream and then by Flush.
func run(t *testing.T, cfg Config, records ...string) (live, flushed []string) {
	t.Helper()
	var out []string
	a := NewAssembler(cfg, func(ev *Event) { out = append(out, short(ev)) })
	for i, s := range records {
		f := strings.Fields(s)
		line := ""
		if len(f) == 4 {
			line, f = "node="+f[0]+" ", f[1:]
		}
		var ms int64
		if _, err := fmt.Sscan(f[1], &ms); err != nil {
			t.Fatal(err)
		}
		line += fmt.Sprintf("type=%s msg=audit(%d.%03d:%s): a=1", f[0], ms/1000, ms%1000, f[2])
		var r record.Record
		if err := r.Parse([]byte(line)); err != nil {
			t.Fatal(err)
		}
		a.Add(&r, uint64(i), time.Time{})
	}
	live, out = out, nil
	a.Flush()
	return live, out
}

func TestCompletion(t *testing.T) {
	for _, tt := range []struct {
		name          string
		cfg           Config
		records       []string
		live, flushed []string
	}{
		{"PROCTITLE ends", Config{}, []string{"SYSCALL 1000 1", "PATH 1000 1", "PROCTITLE 1000 1"}, []string{"1:SYSCALL PATH PROCTITLE"}, nil},
		{"a daemon's record shows others late", Config{}, []string{"SYSCALL 1000 1", "PATH 1000 1", "USER 1000 2", "DAEMON_ERR 9000 7", "PROCTITLE 1000 1"}, []string{"2:USER", "1:SYSCALL PATH", "7:DAEMON_ERR", "1:PROCTITLE"}, nil},
		{"it does not, apart", Config{Apart: true}, []string{"SYSCALL 1000 1", "PATH 1000 1", "USER 1000 2", "DAEMON_ERR 9000 7", "PROCTITLE 1000 1"}, []string{"2:USER", "7:DAEMON_ERR", "1:SYSCALL PATH PROCTITLE"}, nil},
		{"the kernel's do, apart", Config{Apart: true}, []string{"SYSCALL 1000 1", "USER 1000 3", "SYSCALL 3000 2"}, []string{"3:USER", "1:SYSCALL"}, []string{"2:SYSCALL"}},
		{"EOE ends", Config{}, []string{"SYSCALL 1000 1", "EOE 1000 1"}, []string{"1:SYSCALL EOE"}, nil},
		{"late EOE", Config{}, []string{"SYSCALL 1000 1", "PROCTITLE 1000 1", "EOE 1000 1"}, []string{"1:SYSCALL PROCTITLE", "1:EOE"}, nil},
		{"single types", Config{}, []string{"USER_LOGIN 1000 1", "LOGIN 1000 2", "KERNEL 1000 3", "ANOM_LOGIN_FAILURES 1000 4",
			"MAC_CALIPSO_DEL 1000 5", "VIRT_CONTROL 1000 6", "DAEMON_END 1000 7"},
			[]string{"1:USER_LOGIN", "3:KERNEL", "4:ANOM_LOGIN_FAILURES", "5:MAC_CALIPSO_DEL", "6:VIRT_CONTROL", "7:DAEMON_END"}, []string{"2:LOGIN"}},
		{"types that go on", Config{}, []string{"ANOM_LINK 1000 1", "INTEGRITY_DATA 1000 2", "MAC_STATUS 1000 3", "AVC 1000 4", "SECCOMP 1000 5",
			"LANDLOCK_ACCESS 1000 6", "BRAND_NEW 1000 7", "SYSCALL 1000 1", "PROCTITLE 1000 1"},
			[]string{"1:ANOM_LINK SYSCALL PROCTITLE"},
			[]string{"2:INTEGRITY_DATA", "3:MAC_STATUS", "4:AVC", "5:SECCOMP", "6:LANDLOCK_ACCESS", "7:BRAND_NEW"}},
		{"LOGIN and its SYSCALL", Config{}, []string{"LOGIN 1000 1", "SYSCALL 1000 1", "PROCTITLE 1000 1", "LOGIN 1000 2", "USER_LOGIN 1500 3", "USER_LOGIN 3500 4"},
			[]string{"1:LOGIN SYSCALL PROCTITLE", "3:USER_LOGIN", "2:LOGIN", "4:USER_LOGIN"}, nil},
		{"a program's record joins an open event", Config{}, []string{"SYSCALL 1000 1", "USER_LOGIN 1000 1", "PROCTITLE 1000 1"},
			[]string{"1:SYSCALL USER_LOGIN PROCTITLE"}, nil},
		{"no waiting for older ones", Config{}, []string{"SYSCALL 1000 1", "SYSCALL 1000 2", "PROCTITLE 1000 2", "USER 1000 3"},
			[]string{"2:SYSCALL PROCTITLE", "3:USER"}, []string{"1:SYSCALL"}},
		{"same serial, other time", Config{}, []string{"SYSCALL 1000 1", "SYSCALL 1001 1", "PROCTITLE 1000 1", "PROCTITLE 1001 1"},
			[]string{"1:SYSCALL PROCTITLE", "1:SYSCALL PROCTITLE"}, nil},
		{"same serial and time, other node", Config{}, []string{"SYSCALL 1000 1", "a SYSCALL 1000 1", "b SYSCALL 1000 1", "a PROCTITLE 1000 1", "PROCTITLE 1000 1", "b PROCTITLE 1000 1"},
			[]string{"a 1:SYSCALL PROCTITLE", "1:SYSCALL PROCTITLE", "b 1:SYSCALL PROCTITLE"}, nil},
		{"just in time", Config{}, []string{"SYSCALL 1000 1", "SYSCALL 2999 2", "PROCTITLE 1000 1"}, []string{"1:SYSCALL PROCTITLE"}, []string{"2:SYSCALL"}},
		{"late", Config{}, []string{"SYSCALL 1000 1", "USER 1000 9", "SYSCALL 3000 2", "PROCTITLE 1000 1"}, []string{"9:USER", "1:SYSCALL", "1:PROCTITLE"}, []string{"2:SYSCALL"}},
		{"nobody knows when the only one came", Config{}, []string{"SYSCALL 1000 1", "SYSCALL 3000 2", "SYSCALL 4999 3", "PROCTITLE 1000 1"}, []string{"1:SYSCALL PROCTITLE"}, []string{"2:SYSCALL", "3:SYSCALL"}},
		{"so it is late by what comes after the next", Config{}, []string{"SYSCALL 1000 1", "SYSCALL 3000 2", "SYSCALL 5000 3", "PROCTITLE 1000 1"}, []string{"1:SYSCALL", "1:PROCTITLE"}, []string{"2:SYSCALL", "3:SYSCALL"}},
		{"late by a longer timeout", Config{Timeout: 5 * time.Second}, []string{"SYSCALL 1000 1", "SYSCALL 1000 4", "SYSCALL 5999 2", "USER 6000 3"}, []string{"1:SYSCALL", "3:USER"}, []string{"4:SYSCALL", "2:SYSCALL"}},
		{"slow ones come between others", Config{}, []string{"USER 90000 1", "SYSCALL 20000 2", "SYSCALL 90001 3", "SYSCALL 60000 4", "PATH 20000 2", "USER 91999 5", "PROCTITLE 60000 4", "PROCTITLE 20000 2"},
			[]string{"1:USER", "5:USER", "4:SYSCALL PROCTITLE", "2:SYSCALL PATH PROCTITLE"}, []string{"3:SYSCALL"}},
		{"they are late as others are", Config{}, []string{"USER 90000 1", "SYSCALL 20000 2", "SYSCALL 60000 4", "PATH 20000 2", "USER 90000 3", "USER 92000 5", "PROCTITLE 20000 2"},
			[]string{"1:USER", "3:USER", "2:SYSCALL PATH", "4:SYSCALL", "5:USER", "2:PROCTITLE"}, nil},
		{"what goes on is not late", Config{}, []string{"SYSCALL 1000 1", "USER 2000 2", "PATH 1000 1", "USER 3000 3", "PATH 1000 1", "USER 4900 4", "PROCTITLE 1000 1"},
			[]string{"2:USER", "3:USER", "4:USER", "1:SYSCALL PATH PATH PROCTITLE"}, nil},
		{"each node has its own time", Config{}, []string{"a SYSCALL 1000 1", "b SYSCALL 9000 1", "a PROCTITLE 1000 1"},
			[]string{"a 1:SYSCALL PROCTITLE"}, []string{"b 1:SYSCALL"}},
		{"a clock set back", Config{}, []string{"SYSCALL 90000 1", "SYSCALL 1000 2", "PATH 1000 2", "PROCTITLE 1000 2", "PROCTITLE 90000 1"},
			[]string{"2:SYSCALL PATH PROCTITLE", "1:SYSCALL PROCTITLE"}, nil},
		{"the oldest goes first", Config{MaxEvents: 2}, []string{"SYSCALL 1000 1", "SYSCALL 1000 2", "PATH 1000 1", "SYSCALL 1000 3"},
			[]string{"2:SYSCALL"}, []string{"1:SYSCALL PATH", "3:SYSCALL"}},
		{"bytes", Config{MaxBytes: nodeFixed + 2*eventCost + 100}, []string{"SYSCALL 1000 1", "SYSCALL 1000 2", "PATH 1000 1"}, []string{"2:SYSCALL"}, []string{"1:SYSCALL PATH"}},
		{"one event of too many bytes", Config{MaxBytes: nodeFixed + eventCost + 100}, []string{"SYSCALL 1000 1", "PATH 1000 1", "PATH 1000 1", "PATH 1000 1"},
			[]string{"1:SYSCALL PATH PATH"}, []string{"1:PATH"}},
	} {
		live, flushed := run(t, tt.cfg, tt.records...)
		if diff := cmp.Diff(tt.live, live); diff != "" {
			t.Errorf("%s: live (-want +got)\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(tt.flushed, flushed); diff != "" {
			t.Errorf("%s: flushed (-want +got)\n%s", tt.name, diff)
		}
	}
}

func TestTick(t *testing.T) {
	var out []string
	a := NewAssembler(Config{}, func(ev *Event) { out = append(out, short(ev)) })
	start := time.Unix(5000, 0)
	add := func(line string, after time.Duration) {
		var r record.Record
		if err := r.Parse([]byte(line)); err != nil {
			t.Fatal(err)
		}
		a.Add(&r, 0, start.Add(after))
	}
	add("type=SYSCALL msg=audit(1.000:1): a=1", 0)
	add("node=b type=SYSCALL msg=audit(1.000:2): a=1", 0)
	add("type=PATH msg=audit(1.000:1): a=1", time.Second)
	a.Tick(start.Add(1999 * time.Millisecond))
	if len(out) != 0 {
		t.Fatalf("early: %q", out)
	}
	a.Tick(start.Add(2 * time.Second))
	if want := []string{"b 2:SYSCALL"}; !slices.Equal(out, want) {
		t.Fatalf("after 2 s: %q, want %q", out, want)
	}
	a.Tick(start.Add(3 * time.Second))
	if want := []string{"b 2:SYSCALL", "1:SYSCALL PATH"}; !slices.Equal(out, want) {
		t.Fatalf("after 3 s: %q, want %q", out, want)
	}
}

func TestUnparsable(t *testing.T) {
	var got []*Event
	a := NewAssembler(Config{}, func(ev *Event) { got = append(got, ev) })
	for i, line := range []string{"type=SYSCALL msg=audit(1.250:7): a=1", "what is this", "type=PATH msg=audit(1.250:"} {
		var r record.Record
		_ = r.Parse([]byte(line))
		a.Add(&r, uint64(i), time.Time{})
	}
	if len(got) != 2 || a.Len() != 1 {
		t.Fatalf("%d events, %d open", len(got), a.Len())
	}
	if ev := got[0]; ev.Ms != 0 || string(ev.Records[0].Raw) != "what is this" || !errors.Is(ev.Records[0].Err, record.ErrNoHeader) || ev.tags[0] != 1 {
		t.Errorf("%+v", ev)
	}
	if ev := got[1]; ev.Ms != 1250 || ev.Serial != 0 || ev.Records[0].Type != tables.Path || !errors.Is(ev.Records[0].Err, record.ErrBadSerial) {
		t.Errorf("%+v", ev)
	}
}

// TestEventsKeepTheirMemory: an event that was emitted is not touched by what
// comes after it.
func TestEventsKeepTheirMemory(t *testing.T) {
	var kept []*Event
	var want []string
	a := NewAssembler(Config{MaxEvents: 4}, func(ev *Event) {
		kept = append(kept, ev)
		want = append(want, fmt.Sprint(short(ev), ev.tags))
	})
	for i := range 500 {
		for _, typ := range []string{"SYSCALL", "CWD", "PATH", "PATH", "PATH", "PATH", "PATH", "PROCTITLE"}[i%5:] {
			var r record.Record
			if err := r.Parse(fmt.Appendf(nil, "node=n%d type=%s msg=audit(1.000:%d): a=1", i%7, typ, i/3)); err != nil {
				t.Fatal(err)
			}
			a.Add(&r, uint64(i), time.Time{})
		}
	}
	a.Flush()
	for i, ev := range kept {
		if got := fmt.Sprint(short(ev), ev.tags); got != want[i] {
			t.Fatalf("event %d was %s, now %s", i, want[i], got)
		}
	}
	if len(kept) < 100 {
		t.Errorf("%d events", len(kept))
	}
}

func readLog(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "record", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestStockGroups compares the events of a real log with those stock ausearch
// finds in it. Its default format prints them in order, each event's records
// backwards, below a line of dashes.
func TestStockGroups(t *testing.T) {
	tool := need.Stock(t, "ausearch")
	for _, name := range []string{"kernel-raw.log", "kernel-enriched.log"} {
		log := regexp.MustCompile("(?m)^.*type=LOGIN .*\n").ReplaceAll(readLog(t, name), nil) // 3.0.9 makes events of these
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "-if", path).Output()
		if err != nil {
			t.Fatalf("ausearch -if %s: %v", name, err)
		}
		var want [][]string
		for group := range strings.SplitSeq(string(out), "----\n") {
			var lines []string
			for line := range strings.Lines(group) {
				if !strings.HasPrefix(line, "time->") {
					raw, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\x1d")
					lines = append(lines, strings.TrimRight(raw, " "))
				}
			}
			slices.Reverse(lines)
			if lines != nil {
				want = append(want, lines)
			}
		}
		var events []*Event
		a := NewAssembler(Config{}, func(ev *Event) { events = append(events, ev) })
		for line := range bytes.Lines(log) {
			var r record.Record
			if err := r.Parse(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				t.Fatal(err)
			}
			a.Add(&r, 0, time.Time{})
		}
		a.Flush()
		slices.SortStableFunc(events, func(x, y *Event) int {
			if c := x.Ms - y.Ms; c != 0 {
				return int(c)
			}
			return int(x.Serial - y.Serial)
		})
		var got [][]string
		for _, ev := range events {
			var lines []string
			for i := range ev.Records {
				raw, _, _ := strings.Cut(string(ev.Records[i].Raw), "\x1d")
				lines = append(lines, strings.TrimRight(raw, " "))
			}
			got = append(got, lines)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-stock +got)\n%s", name, diff)
		}
		if len(got) < 40 {
			t.Errorf("%s: only %d events", name, len(got))
		}
	}
}

// FuzzAssembler: whatever the bytes, no record is lost, none comes twice.
func FuzzAssembler(f *testing.F) {
	f.Add(readLog(f, "samples.log"))
	f.Add(readLog(f, "kernel-raw.log")[:4000])
	f.Add([]byte("\n\nnode=a type=EOE msg=audit(1.1:1):\n\x1d\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		lines := bytes.Split(log, []byte("\n"))
		seen := map[uint64]bool{}
		a := NewAssembler(Config{MaxEvents: 5}, func(ev *Event) {
			if len(ev.Records) == 0 || len(ev.Records) != len(ev.tags) {
				t.Fatalf("%d records, %d tags", len(ev.Records), len(ev.tags))
			}
			for i, tag := range ev.tags {
				r := &ev.Records[i]
				if seen[tag] || !bytes.Equal(lines[tag], r.Raw) {
					t.Fatalf("line %d came as %q, again: %v", tag, r.Raw, seen[tag])
				}
				seen[tag] = true
				if r.Ms() != ev.Ms || r.Serial != ev.Serial || !bytes.Equal(r.Node, ev.Node) {
					t.Fatalf("%q is in the event %q %d %d", r.Raw, ev.Node, ev.Ms, ev.Serial)
				}
			}
		})
		for i, line := range lines {
			var r record.Record
			_ = r.Parse(line) // kept in r.Err: such a record is an event of its own
			a.Add(&r, uint64(i), time.Time{})
		}
		a.Flush()
		if len(seen) != len(lines) {
			t.Fatalf("%d of %d lines came", len(seen), len(lines))
		}
	})
}

// TestPool: with events that are used again the same ones come out, as long as
// each is looked at before it is put back.
func TestPool(t *testing.T) {
	for _, name := range []string{"kernel-enriched.log", "samples.log"} {
		var want, got []string
		pool := &Pool{}
		plain := NewAssembler(Config{}, func(ev *Event) { want = append(want, short(ev)) })
		pooled := NewAssembler(Config{Pool: pool}, func(ev *Event) {
			got = append(got, short(ev))
			pool.Put(ev)
		})
		var r record.Record
		for line := range bytes.Lines(readLog(t, name)) {
			_ = r.Parse(bytes.TrimRight(line, "\n")) // also what cannot be parsed
			plain.Add(&r, 1, time.Time{})
			pooled.Add(&r, 1, time.Time{})
		}
		plain.Flush()
		pooled.Flush()
		if len(want) < 10 || len(pool.free) == 0 {
			t.Errorf("%s: %d events, %d in the pool: the test shows little", name, len(want), len(pool.free))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
}
