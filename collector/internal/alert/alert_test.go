package alert

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Settings are read as they are written, and what is none is refused.
func TestSettings(t *testing.T) {
	for c := range NumConditions {
		if s, err := c.ParseSetting(c.Format(c.Default())); err != nil || s != c.Default() {
			t.Errorf("%s: %v, %v", c, s, err)
		}
		if c.Doc() == "" || c.String() == "" {
			t.Errorf("condition %d has no name or text", c)
		}
	}
	for text, want := range map[string]Setting{
		"1h": {Threshold: hour, Severity: Warning}, "critical": {Threshold: 15 * minute, Severity: Critical}, "info 90s": {Threshold: 90 * second, Severity: Info}, "OFF": {Off: true, Threshold: 15 * minute, Severity: Warning},
	} {
		if s, err := HostSilent.ParseSetting(text); err != nil || s != want {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "often", "0", "off 3m", "1h 2h", "info critical", "-1h", "warning info", "1h warning x", "999999h"} {
		if s, err := HostSilent.ParseSetting(text); err == nil {
			t.Errorf("%q is %v", text, s)
		}
	}
	for _, text := range []string{"0", "-1", "1m", "9999999999999"} {
		if s, err := Loss.ParseSetting(text); err == nil {
			t.Errorf("loss %q is %v", text, s)
		}
	}
	if s, err := CollectorError.ParseSetting("5"); err == nil {
		t.Errorf("collector-error 5 is %v", s)
	}
}

// rig is an evaluator of made-up hosts, for what takes no head.
type rig struct {
	*Evaluator
	now   time.Time
	list  []head.Vitals
	col   Collector
	told  []Group
	sync  error // what sinks say of their disks
	dir   string
	files fsys.FS
}

func newRig(t testing.TB, hosts int) *rig {
	r := &rig{now: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), dir: t.TempDir(), files: fsys.OS}
	for i := range hosts {
		r.list = append(r.list, head.Vitals{
			Host:   store.Host{Name: fmt.Sprintf("host%05d", i), Last: r.now, Live: true, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}},
			Vitals: ledger.Vitals{Speaks: true, Kernel: true, Registered: true, Enabled: true, Rules: "aaaa0000aaaa0000", Missing: []ledger.Total{{Cause: ledger.Kernel, N: 1}}},
		})
	}
	r.open(t)
	return r
}

func (r *rig) open(t testing.TB) {
	var err error
	r.Evaluator, err = Open(DefaultConfig(), Options{
		FS: r.files, Dir: r.dir, Log: hclog.NewNullLogger(), Now: func() time.Time { return r.now },
		Hosts: func(fn func(*head.Vitals)) {
			for i := range r.list {
				fn(&r.list[i])
			}
		},
		Collector: func() *Collector { c := r.col; return &c },
		Record:    func(Notice, int) {}, Deliver: func(g Group) { r.told = append(r.told, g) }, Sync: func(context.Context) error { return r.sync },
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) look(t testing.TB, n int) {
	for range n {
		r.now = r.now.Add(15 * time.Second)
		r.Look(t.Context())
	}
}

// What comes and goes is told less and less.
func TestFlapping(t *testing.T) {
	r := newRig(t, 1)
	r.look(t, 1)
	for i := range 240 { // an hour: a disk that fails every other minute
		r.col.Faults = nil
		if i/4%2 == 0 {
			r.col.Faults = []Fault{{Kind: "disk", Summary: "it fails"}}
		}
		r.look(t, 1)
	}
	n := 0
	for _, g := range r.told {
		n += len(g.Notices)
	}
	if n > 6 {
		t.Errorf("told %d times", n)
	}
}

// Two hosts stand for many: one for those beyond max_hosts, one for senders that may not use the names which they
// claim. What is told of one is not told again for the other's sake.
func TestTwoThatStandForMany(t *testing.T) {
	r := newRig(t, 2)
	r.list[0].Name, r.list[0].Mixed, r.list[0].Missing = "", true, []ledger.Total{{Cause: ledger.Kernel, N: 7}}
	r.list[1].Name, r.list[1].Mismatched, r.list[1].Missing = "(names of others)", 9, nil
	for i := range r.list { // new to the collector, so that it is told
		r.list[i].First = r.now.Add(time.Minute)
	}
	r.look(t, 20)
	for _, a := range r.List() {
		if a.Condition == Loss.String() && a.Value != "7 records" || a.Condition == NameMismatch.String() && a.Value != "9 records" {
			t.Errorf("%s of %s: %s", a.Condition, a.Labels["host"], a.Value)
		}
	}
	if n := len(r.List()); n != 2 {
		t.Errorf("%d alerts, want one of each", n)
	}
}

// A file that is damaged is set aside; a later version's is left alone.
func TestFile(t *testing.T) {
	r := newRig(t, 3)
	r.col.Faults = []Fault{{Kind: "disk", Summary: "it fails"}}
	r.list[1].Name = "b\xffd\nname"
	r.look(t, 8)
	path := filepath.Join(r.dir, FileName)
	whole, err := r.read()
	if err != nil {
		t.Fatal(err)
	}
	r.open(t)
	if l := r.List(); len(l) != 1 || l[0].State != Firing || len(r.hosts) != 3 || r.hosts["b\xffd\nname"] == nil {
		t.Errorf("%d alerts, %d hosts", len(l), len(r.hosts))
	}
	for i, b := range [][]byte{nil, []byte("something else\n"), whole[:len(whole)-1], append(append([]byte{}, whole...), 'x'), []byte("auditfleet-alerts 1 00000000\n{}"), []byte("auditfleet-alerts x\n")} {
		if err := fsys.Replace(path, b, 0o600, false); err != nil {
			t.Fatal(err)
		}
		r.open(t)
		if !r.fresh {
			t.Errorf("file %d was taken", i)
		}
		if _, err := fsys.OpenRegular(fmt.Sprintf("%s.corrupt-%d", path, i+1), 0, 0); err != nil {
			t.Errorf("file %d was not set aside: %v", i, err)
		}
		r.told = nil
		r.look(t, 8)
		if len(r.told) != 1 { // what fires, and no loss of before
			t.Errorf("file %d: told %d groups", i, len(r.told))
		}
	}
	if err := fsys.Replace(path, []byte("auditfleet-alerts 2 00000000\n{}"), 0o600, false); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(DefaultConfig(), r.o); !errors.Is(err, errVersion) {
		t.Errorf("a later version: %v", err)
	}
}

// The example of FORMAT.md and whatever else is a file or none: nothing panics, and what is read is written
// the same.
func FuzzFile(f *testing.F) {
	f.Add(encode(&saved{Up: 61000, Hosts: map[string]*seenHost{"web1": {Seen: 1, At: 46000}}, Alerts: []*alert{{Condition: "loss", State: Firing, Labels: map[string]string{"host": "x"}}}}))
	f.Add([]byte("auditfleet-alerts 1 00000000\nnull"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b)
		if err != nil {
			return
		}
		if again, err := decode(encode(s)); err != nil || again.Up != s.Up || len(again.Alerts) != len(s.Alerts) {
			t.Fatalf("%v", err)
		}
	})
}

// BenchmarkLook is what it costs to look at 10,000 hosts of which nothing is wrong, beside the head's
// part.
func BenchmarkLook(b *testing.B) {
	r := newRig(b, 10_000)
	r.look(b, 2)
	b.ReportAllocs()
	for b.Loop() {
		r.look(b, 1)
	}
}

// BenchmarkSave is what it costs to save what is remembered of 10,000 hosts.
func BenchmarkSave(b *testing.B) {
	r := newRig(b, 10_000)
	r.look(b, 2)
	for b.Loop() {
		r.save(0)
	}
}

// More alerts than there may be are counted, the file stays one that is read, and a disk that takes nothing
// keeps nobody from being told.
func TestTooMany(t *testing.T) {
	r := newRig(t, maxAlerts+500)
	c := DefaultConfig()
	c.Settings[HostSilent].Threshold = 30 * second
	if err := r.Reload(c); err != nil {
		t.Fatal(err)
	}
	r.look(t, 4)
	if l := r.List(); len(l) != maxAlerts+1 || r.beyond != 500 { // the collector's own word on it, too
		t.Errorf("%d alerts, %d beyond", len(l), r.beyond)
	}
	r.look(t, 4)
	if len(r.told) != 2 || r.told[0].Notices[0].ID != `collector-error kind="alerts"` || r.told[1].Total != maxAlerts || len(r.told[1].Notices) != MaxNotices {
		t.Fatalf("told %d groups", len(r.told))
	}
	r.open(t)
	if l := r.List(); len(l) != maxAlerts+1 {
		t.Errorf("%d alerts after a restart", len(l))
	}
}

// What sinks were told and have not on disk is told again after a kill, and not before it.
func TestToldAgain(t *testing.T) {
	r := newRig(t, 1)
	r.look(t, 1)
	r.sync = errors.New("the disk is full")
	r.col.Faults = []Fault{{Kind: "disk", Summary: "it fails"}}
	r.look(t, 12)
	if len(r.told) != 1 {
		t.Fatalf("told %d groups", len(r.told))
	}
	r.open(t) // it was killed
	r.look(t, 12)
	if len(r.told) != 2 || r.told[1].Notices[0].ID != r.told[0].Notices[0].ID || !r.told[1].Notices[0].Started.Equal(r.told[0].Notices[0].Started) {
		t.Fatalf("told %d groups", len(r.told))
	}
	r.sync = nil
	r.look(t, 1)
	r.open(t)
	r.look(t, 12)
	if len(r.told) != 2 {
		t.Errorf("told %d groups", len(r.told))
	}
}

// Whoever may send in clear text may invent hosts and what they lost: that neither takes the room
// of alerts about others nor hides them, and is said.
func TestFlood(t *testing.T) {
	r := newRig(t, 2)
	r.list[1].Verified = r.now
	evil := netip.MustParseAddr("192.0.2.66")
	for i := range 1024 {
		v := head.Vitals{Host: store.Host{Name: fmt.Sprintf("a%04d", i), Last: r.now, Live: true, Addrs: []netip.Addr{evil}}, Vitals: ledger.Vitals{Rules: "\xff\x1b[2J"}}
		for c := ledger.OtherLoss; c <= ledger.NotReceived; c++ {
			v.Missing = append(v.Missing, ledger.Total{Cause: c, N: 1})
		}
		r.list = append([]head.Vitals{v}, r.list...)
	}
	hosts := len(r.list)
	loses := func(list []head.Vitals) {
		for i := range list {
			list[i].Missing = slices.Clone(list[i].Missing)
			for j := range list[i].Missing {
				list[i].Missing[j].N += 5
			}
		}
	}
	r.look(t, 1)
	loses(r.list)
	r.col.Faults = []Fault{{Kind: "disk", Summary: "it fails\n\x1b[2J\xff"}}
	r.look(t, 1)
	r.now = r.now.Add(time.Minute)
	loses(r.list[hosts-2:])
	r.look(t, 8)
	firing := map[string]bool{}
	for _, l := range r.List() {
		firing[l.ID] = true
		if !utf8.ValidString(l.Summary+l.Value) || strings.ContainsAny(l.Summary+l.Value, "\n\x1b") {
			t.Errorf("%q %q", l.Summary, l.Value)
		}
	}
	for _, id := range []string{`loss cause="kernel" hop="kernel" host="host00000"`, `loss cause="kernel" hop="kernel" host="host00001"`, `collector-error kind="disk"`, `collector-error kind="alerts"`} {
		if !firing[id] {
			t.Errorf("%s does not fire among %d", id, len(firing))
		}
	}
	if len(firing) != maxOfAddress+4 {
		t.Errorf("%d alerts", len(firing))
	}
	first := map[string]bool{}
	for _, g := range r.told {
		for i, n := range g.Notices {
			if n.Condition == "loss" && i < 3 {
				first[n.Labels["host"]] = true
			}
		}
	}
	if !first["host00000"] || !first["host00001"] {
		t.Errorf("first are %v", first)
	}
}

func TestDiskThatTakesNothing(t *testing.T) {
	r := newRig(t, 1)
	r.dir = filepath.Join(r.dir, "none")
	r.open(t)
	r.look(t, 1)
	r.col.Faults = []Fault{{Kind: "disk", Summary: "it fails"}}
	r.look(t, 8)
	if len(r.told) != 1 || !r.dirty {
		t.Errorf("told %d groups", len(r.told))
	}
}

// A host calls itself what it likes: an alert is text, and the command in it does what it says.
func TestHostileNames(t *testing.T) {
	for name, want := range map[string]string{"web1": "web1", "a b": "'a b'", "$(reboot)": "'$(reboot)'", "x`id`'; rm": "'x?id??; rm'", "-f": "'-f'", "": "''"} {
		if got := shell(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"web1": "web1", "b\xff\nx": `b\xff\nx`, "\x1b[31m": `\x1b[31m`, "bücher": "bücher", "a\u202eb": `a\u202eb`} {
		if got := readable(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// Days that will be dropped sooner than wanted are said beforehand; those that retention means to drop are not.
func TestRetentionNear(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		keep  Keep
		fires bool
	}{
		"nothing is dropped":               {Keep{MaxDays: 90, Free: -1}, false},
		"no age is wanted":                 {Keep{MaxBytes: 21 * gib, Free: -1}, false},
		"a size that drops days early":     {Keep{MaxDays: 90, MaxBytes: 22 * gib, Free: -1}, true},
		"a size with room for months":      {Keep{MaxDays: 90, MaxBytes: 200 * gib, Free: -1}, false},
		"the disk drops days early":        {Keep{MaxDays: 90, Free: 3 * gib}, true},
		"a size that keeps what is wanted": {Keep{MaxDays: 20, MaxBytes: 22 * gib, Free: -1}, false},
		"a class that is over anyway":      {Keep{MaxDays: 90, MaxBytes: 22 * gib, Free: -1, Next: 20_014, NextDays: 7}, false},
		"a class that is kept for longer":  {Keep{MaxDays: 7, MaxBytes: 22 * gib, Free: -1, Next: 20_001, NextDays: 400}, true},
		"a class that is kept for ever":    {Keep{MaxDays: 90, MaxBytes: 22 * gib, Free: -1, Next: 20_001}, false},
		"a class's own size":               {Keep{Free: -1, Classes: []ClassKeep{{"db*", 18 * gib, 20 * gib, gib, 20_002, 90}}}, true},
		"a class's own size, with room":    {Keep{Free: -1, Classes: []ClassKeep{{"db*", 18 * gib, 200 * gib, gib, 20_002, 90}}}, false},
	} {
		r := newRig(t, 1)
		k := c.keep
		k.Today, k.Bytes = 20_020, 20*gib
		for d := range int64(20) {
			k.Days = append(k.Days, Day{20_001 + d, gib})
		}
		r.col.Keep = &k
		r.look(t, 2)
		l := r.List()
		if (len(l) == 1 && l[0].Condition == "retention-near") != c.fires || len(l) > 1 {
			t.Errorf("%s: %v", name, l)
		}
	}
}
