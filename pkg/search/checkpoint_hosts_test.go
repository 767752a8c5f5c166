package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/need"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// fleetModel is a store as a search sees it: complete events, in order of time.
type fleetModel struct {
	events []string // lines
	states map[string]HostState
}

func (f *fleetModel) Scan(_ context.Context, q *Query, _ uint64, fn func(*event.Event) error) error {
	lines := slices.Clone(f.events)
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(stampOf(a), stampOf(b)) })
	m := NewMatcher(q)
	for ev, err := range Read(ReadConfig{}, strings.NewReader(strings.Join(lines, ""))) {
		if err != nil {
			return err
		}
		if !m.Match(ev) {
			continue
		}
		if err := fn(ev); err != nil {
			if errors.Is(err, ErrStop) {
				return nil
			}
			return err
		}
	}
	return nil
}

func stampOf(line string) string {
	_, s, _ := strings.Cut(line, "audit(")
	s, _, _ = strings.Cut(s, ")")
	return s
}

func (f *fleetModel) hosts() []HostState {
	var all []HostState
	for _, h := range f.states {
		all = append(all, h)
	}
	return all
}

func fleetLine(node string, ms int64, serial int) string {
	if node != "" {
		node = "node=" + node + " "
	}
	return fmt.Sprintf("%stype=USER_AUTH msg=audit(%d.%03d:%d): pid=1 uid=0 auid=0 ses=1 msg='res=success'\n", node, ms/1000, ms%1000, serial)
}

// TestCheckpointOfStore lets hosts send at different speeds, late and mixed, and
// searches again and again: in the end every event was printed once.
func TestCheckpointOfStore(t *testing.T) {
	seed := need.Seed(t)
	for round := range 12 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		ck := filepath.Join(t.TempDir(), "ck")
		f := &fleetModel{states: map[string]HostState{}}
		now := time.Unix(1700001000, 0)
		type open struct {
			line  string
			ready time.Time
			host  string
			ms    int64
		}
		var pending []open
		var sent, printed []string
		clock := map[string]int64{}
		serial := 0
		for step := range 60 {
			now = now.Add(time.Duration(r.IntN(2500)) * time.Millisecond)
			if step < 40 {
				for range r.IntN(6) {
					host := oneOf(r, "web1", "web2", "db")
					if clock[host] == 0 {
						clock[host] = 1700000000000 - int64(r.IntN(100000))
					}
					clock[host] += int64(r.IntN(900))
					serial++
					line := fleetLine(host, clock[host], serial)
					sent = append(sent, line)
					// It is complete two seconds later, or when an event two seconds younger is there.
					pending = append(pending, open{line, now.Add(time.Duration(r.IntN(2000)) * time.Millisecond), host, clock[host]})
					f.states[host] = HostState{Name: host, Seen: now, LastEventMs: max(f.states[host].LastEventMs, clock[host])}
				}
			}
			pending = slices.DeleteFunc(pending, func(p open) bool {
				if p.ready.After(now) && f.states[p.host].LastEventMs < p.ms+2000 {
					return false
				}
				f.events = append(f.events, p.line)
				return true
			})
			printed = append(printed, findNew(t, &Options{Format: FormatRaw, Checkpoint: ck}, f, now)...)
		}
		slices.Sort(sent)
		slices.Sort(printed)
		if !slices.Equal(sent, printed) {
			t.Fatalf("round %d: %d events were sent, %d printed (AUDITFLEET_SEED=%d)", round, len(sent), len(printed), seed)
		}
	}
}

func findNew(t *testing.T, o *Options, f *fleetModel, now time.Time) []string {
	t.Helper()
	return findNewIn(t, o, f, f.hosts(), now)
}

func findNewIn(t *testing.T, o *Options, f Source, hosts []HostState, now time.Time) []string {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, o, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	n, err := FindNew(context.Background(), o, f, hosts, now, w)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(strings.Lines(out.String()))
	if int(n) != len(lines) {
		t.Errorf("%d found, %d printed", n, len(lines))
	}
	return lines
}

// TestCheckpointOfStoreAgain covers what is not in the model.
func TestCheckpointOfStoreAgain(t *testing.T) {
	ck := filepath.Join(t.TempDir(), "ck")
	quiet := time.Unix(1700000100, 0)
	f := &fleetModel{
		events: []string{fleetLine("a", 1700000000001, 1), fleetLine("b", 1700000000001, 2), fleetLine("", 1700000000002, 3), fleetLine("c", 5, 4)},
		states: map[string]HostState{
			"a": {"a", quiet, 1700000000001}, "b": {"b", quiet, 1700000000001}, "10.0.0.1": {"10.0.0.1", quiet, 1700000000002},
		},
	}
	now := quiet.Add(time.Minute)
	o := &Options{Format: FormatRaw, Checkpoint: ck}
	if got := findNew(t, o, f, now); len(got) != 3 { // not of c, which was unknown when the search began
		t.Fatalf("first: %q", got)
	}
	want := "hosts=1\noutput=- 1700000000.002:3 0x44C\noutput=a 1700000000.001:1 0x44C\noutput=b 1700000000.001:2 0x44C\n"
	if got := readFile(t, ck); got != want {
		t.Errorf("checkpoint %q, want %q", got, want)
	}
	if got := findNew(t, o, f, now); len(got) != 0 {
		t.Errorf("again: %q", got)
	}
	f.events = append(f.events, fleetLine("a", 1700000000001, 9))
	if got := findNew(t, o, f, now); len(got) != 1 {
		t.Errorf("a later serial of the same time: %q", got)
	}
	o.CheckpointTime = true
	if got := findNew(t, o, f, now); len(got) != 4 {
		t.Errorf("--start checkpoint: %q", got)
	}
	o = &Options{Format: FormatRaw, Checkpoint: filepath.Join(t.TempDir(), "ck"), JustOne: true}
	for i := range 3 {
		if got := findNew(t, o, f, now); len(got) != 1 || i > 0 && got[0] == f.events[0] {
			t.Errorf("--just-one, %d: %q", i, got)
		}
	}

	for _, text := range []string{"", "dev=0x1\ninode=2\noutput=- 0.000:0 0x0\n", hostsLine + "\nwhat\n", hostsLine + "\noutput=x\n"} {
		writeFile(t, ck, text)
		w, err := NewWriter(&bytes.Buffer{}, o, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		bad := (*CheckpointError)(nil)
		if _, err := FindNew(context.Background(), &Options{Checkpoint: ck}, f, f.hosts(), now, w); !errors.As(err, &bad) || bad.Code != 10 {
			t.Errorf("%q: %v", text, err)
		}
		if readFile(t, ck) != text {
			t.Errorf("%q was overwritten", text)
		}
	}
}

// TestCheckpointExamples reads the examples of CHECKPOINT.md.
func TestCheckpointExamples(t *testing.T) {
	parts := strings.Split(readFile(t, "CHECKPOINT.md"), "```")
	if len(parts) != 5 {
		t.Fatalf("CHECKPOINT.md has %d examples", len(parts)/2)
	}
	ck := filepath.Join(t.TempDir(), "ck")
	writeFile(t, ck, parts[1][1:])
	cp, err := loadCheckpoint(ck)
	want := checkpoint{0xfe00, 5309215, mark{sec: 1795338542, milli: 954, serial: 95423, typ: 1117}}
	if err != nil || *cp != want {
		t.Errorf("%+v, %v", cp, err)
	}
	if err := cp.save(ck); err != nil || readFile(t, ck) != parts[1][1:] {
		t.Errorf("came back as %q, %v", readFile(t, ck), err)
	}
	writeFile(t, ck, parts[3][1:])
	hosts, err := loadHostsCheckpoint(ck)
	if err != nil || len(hosts.place) != 2 || hosts.place["web1"] != (mark{"web1", true, 1795338540, 1, 7, 0x514}) {
		t.Fatalf("%+v, %v", hosts, err)
	}
	if err := hosts.save(ck); err != nil || readFile(t, ck) != parts[3][1:] {
		t.Errorf("came back as %q, %v", readFile(t, ck), err)
	}
}
