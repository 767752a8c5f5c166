package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// watched is a collector whose alerts are looked at once a minute of its clock, which a test
// moves on.
type watched struct {
	*Server
	t     *testing.T
	dir   string
	cfg   func(*Config)
	mu    sync.Mutex
	now   time.Time // the server's goroutines read it under mu
	free  atomic.Uint64
	put   uint64 // records since the start
	told  []alert.Group
	hosts []*audited
}

// audited is a host with a forwarder of ours, or, without a run, with a stock sender.
type audited struct {
	name, run, boot, rules string
	n, handed              int
	lost, unsent           int
	more                   string // of a statement, in place of registered=yes enabled=1
	serial                 int
	clock                  time.Duration // ahead of the collector's
	oldest                 time.Duration // since when the oldest unsent record waits
	from                   time.Time
	down                   bool // sends nothing
	said                   []string
}

const rulesA, rulesB = "aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000", "bbbb0000bbbb0000bbbb0000bbbb0000bbbb0000bbbb0000bbbb0000bbbb0000"

func watch(t *testing.T, change func(*Config)) *watched {
	t.Helper()
	w := &watched{t: t, dir: filepath.Join(t.TempDir(), "store"), cfg: change, now: time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)}
	w.free.Store(50 << 30)
	w.open()
	t.Cleanup(func() { _ = w.Server.Close() })
	return w
}

// pass has time go by. Only the test's goroutine writes now.
func (w *watched) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *watched) open() {
	w.t.Helper()
	short, err := os.MkdirTemp("", "fleet")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.RemoveAll(short) })
	cfg := testConfig(w.dir)
	cfg.HTTP, cfg.API, cfg.Log = "", filepath.Join(short, "api"), hclog.NewNullLogger()
	cfg.Alerts = alert.DefaultConfig()
	cfg.Alerts.Every, cfg.Alerts.Group = time.Minute, time.Minute
	cfg.Now = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}
	cfg.free = func() (uint64, uint64, error) { return w.free.Load(), 100 << 30, nil }
	cfg.alerted = func(g alert.Group) { w.told = append(w.told, g) }
	if w.cfg != nil {
		w.cfg(&cfg)
	}
	if w.Server, err = Open(cfg); err != nil {
		w.t.Fatal(err)
	}
	w.put = 0
}

// kill has what a kill -9 leaves taken over by another collector.
func (w *watched) kill() {
	w.t.Helper()
	to := filepath.Join(w.t.TempDir(), "store")
	if err := os.CopyFS(to, os.DirFS(w.dir)); err != nil {
		w.t.Fatal(err)
	}
	if err := w.Server.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.dir = to
	w.open()
}

// host adds a host with a forwarder.
func (w *watched) host(name string) *audited {
	h := &audited{name: name, boot: "boot1", rules: rulesA, serial: 1000}
	h.start(w.now)
	w.hosts = append(w.hosts, h)
	return h
}

func (h *audited) start(now time.Time) {
	h.run, h.n, h.handed, h.lost, h.from, h.down = fmt.Sprintf("%s-%d", h.name, now.UnixNano()), 0, 0, 0, now, false
}

func stampOf(at time.Time) string { return fmt.Sprintf("%d.%03d", at.Unix(), at.Nanosecond()/1e6) }

// batch is what a host sends in a minute.
func (h *audited) batch(i int, now time.Time) *journal.Batch {
	b := &journal.Batch{Sender: journal.Sender{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 999)}, Received: now}
	at := now.Add(h.clock)
	add := func(text string) {
		b.Records = append(b.Records, journal.Record{Raw: []byte("node=" + h.name + " " + text)})
		h.handed++
	}
	for _, text := range h.said {
		add(strings.ReplaceAll(text, "NOW", stampOf(at)))
	}
	h.said = nil
	h.serial++
	add(fmt.Sprintf("type=USER_LOGIN msg=audit(%s:%d): pid=1 uid=0 auid=0 ses=1 res=success", stampOf(at), h.serial))
	if h.run == "" {
		return b
	}
	h.n++
	more := h.more
	if more == "" {
		more = "registered=yes enabled=1"
	}
	if h.rules != "" {
		more += " rules=" + h.rules
	}
	if h.unsent > 0 {
		more += fmt.Sprintf(" unsent=%d oldest=%s", h.unsent, stampOf(at.Add(-h.oldest)))
	}
	add(fmt.Sprintf("type=DAEMON_RESUME msg=audit(%s:%d): op=alive run=%s n=%d first=%s last=%s boot=%s source=kernel found=1 records=%d dropped=0 lost=%d %s res=success",
		stampOf(at), h.n, h.run, h.n, stampOf(h.from.Add(h.clock)), stampOf(at), h.boot, h.handed, h.lost, more))
	h.from = now
	return b
}

// minutes lets some time go by.
func (w *watched) minutes(n int) {
	w.t.Helper()
	for range n {
		w.pass(time.Minute)
		stored := make(chan error, len(w.hosts))
		sent := 0
		for i, h := range w.hosts {
			if h.down {
				continue
			}
			b := h.batch(i, w.now)
			w.put += uint64(len(b.Records))
			if err := w.journal.Submit(w.t.Context(), b, func(err error) { stored <- err }); err != nil {
				w.t.Fatal(err)
			}
			sent++
		}
		for range sent {
			if err := <-stored; err != nil {
				w.t.Fatal(err)
			}
		}
		w.settle()
		w.alerts.Look(w.t.Context())
	}
}

// settle waits until the head has what was acknowledged.
func (w *watched) settle() {
	w.t.Helper()
	need.Wait(w.t, "the head has all", func() bool {
		w.head.Refresh(w.t.Context()) // a day has 1,440 waits
		st := w.head.Stats()
		return st.Records-st.Replayed >= w.put
	})
}

// state says which alerts fire, and which are over.
func (w *watched) state(of string) (out []string) {
	for _, l := range w.alerts.List() {
		if l.State == of {
			out = append(out, l.ID)
		}
	}
	slices.Sort(out)
	return out
}

func (w *watched) want(what, of string, ids ...string) {
	w.t.Helper()
	if got := w.state(of); !slices.Equal(got, ids) {
		w.t.Errorf("%s: %s are %q, want %q", what, of, got, ids)
	}
}

// TestAlertConditions has each condition come and go by what hosts send, with no other alert.
func TestAlertConditions(t *testing.T) {
	for name, c := range map[string]struct {
		id     string
		setup  func(*Config)
		host   func(*audited)
		broken func(*watched, *audited)
		after  int // minutes until it fires at the latest
		mended func(*watched, *audited)
		over   int // minutes until it is over
	}{
		"silent": {id: `host-silent host="web1"`, broken: func(_ *watched, h *audited) { h.down = true }, after: 17, mended: func(_ *watched, h *audited) { h.down = false }, over: 2},
		"off": {id: `host-off host="web1"`, setup: func(c *Config) {
			c.Alerts.Settings[alert.HostOff] = alert.Setting{Threshold: 30 * 60_000, Severity: alert.Info}
		}, broken: func(w *watched, h *audited) {
			h.said = []string{"type=SYSTEM_SHUTDOWN msg=audit(NOW:900): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='comm=\"systemd-update-utmp\" res=success'"}
			h.run = ""
			w.minutes(1)
			h.down = true
		}, after: 32, mended: func(w *watched, h *audited) { h.start(w.now); h.boot = "boot2" }, over: 2},
		"loss": {id: `loss cause="kernel" hop="kernel" host="web1"`, broken: func(_ *watched, h *audited) {
			h.said, h.lost = []string{"type=DAEMON_ERR msg=audit(NOW:5): op=lost-records cause=kernel records=7 first=NOW last=NOW res=failed"}, 7
		}, after: 1, mended: func(*watched, *audited) {}, over: 62},
		"not received": {id: `loss cause="not-received" hop="transport" host="web1"`, broken: func(_ *watched, h *audited) { h.handed += 5 }, after: 1, mended: func(*watched, *audited) {}, over: 62},
		"gaps":         {id: `serial-gaps host="web1"`, host: func(h *audited) { h.run = "" }, broken: func(w *watched, h *audited) { h.serial += 150 }, after: 3, mended: func(*watched, *audited) {}, over: 62},
		"auditing off": {id: `auditing-off host="web1"`, broken: func(_ *watched, h *audited) { h.more = "registered=yes enabled=0" }, after: 2, mended: func(_ *watched, h *audited) { h.more = "" }, over: 2},
		"switched off, stock": {id: `auditing-off host="web1"`, host: func(h *audited) { h.run = "" }, broken: func(w *watched, h *audited) {
			h.serial++
			h.said = []string{fmt.Sprintf("type=CONFIG_CHANGE msg=audit(NOW:%d): op=set audit_enabled=0 old=1 auid=0 ses=1 res=1", h.serial)}
			h.serial--
			b := h.batch(0, w.now)
			b.Records = b.Records[:1]
			w.put++
			if err := w.journal.Submit(w.t.Context(), b, func(error) {}); err != nil {
				w.t.Fatal(err)
			}
			h.down = true
		}, after: 2, mended: func(_ *watched, h *audited) { h.down = false }, over: 2},
		"not registered": {id: `not-registered host="web1"`, broken: func(_ *watched, h *audited) { h.more = "registered=no enabled=1" }, after: 3, mended: func(_ *watched, h *audited) { h.more = "" }, over: 2},
		"rules changed":  {id: `rules-changed host="web1"`, broken: func(_ *watched, h *audited) { h.rules = rulesB }, after: 6, mended: func(*watched, *audited) {}, over: 62},
		"rules unexpected": {id: `rules-unexpected host="web1"`, setup: func(c *Config) {
			file := filepath.Join(filepath.Dir(c.Store), "expected")
			if err := os.WriteFile(file, []byte("# ours\nweb*,db1 "+rulesA+"\n"), 0o600); err != nil {
				panic(err)
			}
			c.Alerts.RulesFile = file
			c.Alerts.Settings[alert.RulesChanged].Off = true
		}, broken: func(_ *watched, h *audited) { h.rules = rulesB }, after: 6, mended: func(_ *watched, h *audited) { h.rules = rulesA }, over: 2},
		"mismatch": {id: `name-mismatch host="web1"`, broken: func(w *watched, _ *audited) {
			b := &journal.Batch{Sender: journal.Sender{Verified: "web1", Addr: netip.MustParseAddrPort("10.0.0.0:999")}, Received: w.now}
			b.Records = []journal.Record{{Raw: []byte("node=db1 type=USER_CMD msg=audit(" + stampOf(w.now) + ":5): pid=1 res=success")}}
			w.put++
			if err := w.journal.Submit(w.t.Context(), b, func(error) {}); err != nil {
				w.t.Fatal(err)
			}
			w.hosts[0].down = true // in clear text the name is another host's from now on
		}, after: 1, mended: func(*watched, *audited) {}, over: -1},
		"two hosts": {id: `two-hosts host="web1"`, broken: func(w *watched, h *audited) {
			for i := range 8 { // by turns
				b := &journal.Batch{Sender: journal.Sender{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 9, byte(i % 2)}), 999)}, Received: w.now.Add(time.Duration(i) * time.Second)}
				b.Records = []journal.Record{{Raw: fmt.Appendf(nil, "node=web1 type=USER_CMD msg=audit(%s:%d): pid=1 res=success", stampOf(w.now), h.serial)}}
				w.put++
				if err := w.journal.Submit(w.t.Context(), b, func(error) {}); err != nil {
					w.t.Fatal(err)
				}
			}
		}, after: 1, mended: func(*watched, *audited) {}, over: 62},
		"lag":              {id: `lag host="web1"`, host: func(h *audited) { h.run = "" }, broken: func(_ *watched, h *audited) { h.clock = -10 * time.Minute }, after: 17, mended: func(_ *watched, h *audited) { h.clock = 0 }, over: 2},
		"clock behind":     {id: `clock-off host="web1"`, broken: func(_ *watched, h *audited) { h.clock = -10 * time.Minute }, after: 4, mended: func(_ *watched, h *audited) { h.clock = 0 }, over: 4},
		"clock ahead":      {id: `clock-off host="web1"`, broken: func(_ *watched, h *audited) { h.clock = 40 * time.Second }, after: 4, mended: func(_ *watched, h *audited) { h.clock = 0 }, over: 4},
		"clock days ahead": {id: `clock-off host="web1"`, broken: func(_ *watched, h *audited) { h.clock = 72 * time.Hour }, after: 4, mended: func(w *watched, h *audited) { h.clock = 0; h.start(w.now) }, over: 4},
		"spool":            {id: `spool-filling host="web1"`, broken: func(_ *watched, h *audited) { h.unsent, h.oldest = 5000, 20*time.Minute }, after: 4, mended: func(_ *watched, h *audited) { h.unsent = 0 }, over: 2},
		"space": {id: `collector-space kind="very-low"`, setup: func(c *Config) { c.Space.AdminSpaceLeft.MiB = 1 << 10 }, broken: func(w *watched, _ *audited) {
			w.free.Store(500 << 20)
			_ = w.space.Admit(2 << 20) // the disk is asked
		}, after: 1, mended: func(w *watched, _ *audited) { w.free.Store(50 << 30); _ = w.space.Admit(2 << 20) }, over: 1},
		"suspended disk error": {id: `collector-error kind="disk"`, broken: func(w *watched, _ *audited) { w.space.Outcome(errors.New("I/O error")) }, after: 1,
			mended: func(w *watched, _ *audited) { w.space.Outcome(nil) }, over: 1},
		"compaction": {id: `collector-error kind="compaction"`, broken: func(w *watched, _ *audited) { w.compaction.store = stuck{times: alarmingTries} }, after: 1,
			mended: func(w *watched, _ *audited) { w.compaction.store = stuck{times: alarmingTries - 1} }, over: 1},
		"seal": {id: `seal host="web1" op="seal-fork"`, broken: func(_ *watched, h *audited) {
			h.said = []string{"type=DAEMON_ERR msg=audit(NOW:5): op=seal-fork store=0a0b server=hub1:6060 key=hub1+1a2b3c4d held=1200 given=1180 times=1 auid=4294967295 pid=77 res=failed"}
		}, after: 1, mended: func(*watched, *audited) {}, over: 62},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := watch(t, c.setup)
			h := w.host("web1")
			if c.host != nil {
				c.host(h)
			}
			w.minutes(5)
			w.want("before", alert.Firing)
			c.broken(w, h)
			w.minutes(c.after)
			w.want("broken", alert.Firing, c.id)
			if c.over < 0 {
				return
			}
			c.mended(w, h)
			w.minutes(c.over)
			w.want("mended", alert.Firing)
			w.want("mended", alert.Resolved, c.id)
			w.minutes(2)
			var states []string
			for _, g := range w.told {
				for _, n := range g.Notices {
					states = append(states, n.State+" "+n.ID)
				}
			}
			if want := []string{"firing " + c.id, "resolved " + c.id}; !slices.Equal(states, want) {
				t.Errorf("told %q, want %q", states, want)
			}
			if n := len(w.own0(t)); n != 2 {
				t.Errorf("%d records of the collector's own, want 2", n)
			}
		})
	}
}

// own0 are the collector's own records of alerts.
func (w *watched) own0(t *testing.T) (out []string) {
	t.Helper()
	need.Wait(t, "the records", func() bool {
		out = nil
		q := &query.Query{Nodes: []string{"collector.test"}}
		if err := w.head.Scan(context.Background(), q, func(ev *event.Event) error {
			for i := range ev.Records {
				out = append(out, string(ev.Records[i].Raw))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		out = slices.DeleteFunc(out, func(s string) bool { return !strings.Contains(s, "op=alert ") })
		return len(out) >= 2
	})
	return out
}

// TestAlertsOverKills has alerts begin and end while the collector is killed, or stopped for hours,
// in between: each is told once.
func TestAlertsOverKills(t *testing.T) {
	t.Parallel()
	w := watch(t, nil)
	for i := range 4 {
		w.host(fmt.Sprintf("web%d", i))
	}
	w.minutes(5)
	w.hosts[0].down = true
	w.minutes(10)
	w.kill()
	w.want("while it is silent for less", alert.Firing)
	w.minutes(8)
	w.want("silence goes on over a kill", alert.Firing, `host-silent host="web0"`)
	w.kill() // perhaps before anybody was told
	w.minutes(2)
	w.kill()
	w.hosts[1].said, w.hosts[1].lost = []string{"type=DAEMON_ERR msg=audit(NOW:5): op=lost-records cause=kernel records=7 first=NOW last=NOW res=failed"}, 7
	w.minutes(1)
	w.kill()
	w.minutes(3)
	w.kill()
	w.pass(5 * time.Hour) // nobody was there to hear the hosts
	w.minutes(3)
	both := []string{`host-silent host="web0"`, `loss cause="kernel" hop="kernel" host="web1"`}
	w.want("after a long stop", alert.Firing, both...)
	w.hosts[0].down = false
	w.minutes(1)
	w.kill()
	w.minutes(70)
	w.want("in the end", alert.Resolved, both...)
	var told []string
	for _, g := range w.told {
		for _, n := range g.Notices {
			told = append(told, n.State+" "+n.ID)
		}
	}
	if want := []string{"firing " + both[0], "firing " + both[1], "resolved " + both[0], "resolved " + both[1]}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// TestManyAtOnce has a switch die: one notice, not hundreds. And what goes on is told again.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := watch(t, func(c *Config) { c.Alerts.Repeat = time.Hour })
	for i := range 520 {
		w.host(fmt.Sprintf("web%03d", i))
	}
	w.minutes(3)
	for _, h := range w.hosts[:500] {
		h.down = true
	}
	w.minutes(20)
	if len(w.told) != 1 || w.told[0].Total != 500 || len(w.told[0].Notices) != alert.MaxNotices || w.told[0].Key != "host-silent/warning/firing" {
		t.Fatalf("told %d groups", len(w.told))
	}
	w.hosts = w.hosts[500:]
	w.minutes(60)
	if len(w.told) != 2 || w.told[1].Total != 500 || !w.told[1].Notices[0].Started.Equal(w.told[0].Notices[0].Started) {
		t.Fatalf("told %d groups after an hour", len(w.told))
	}
}

// quietMinutes are those of an hour of TestQuietAlerts that lie between what happens: under the build tag soak
// it has whole hours.
var quietMinutes = 22

// TestQuietAlerts has a day of ordinary work: reboots with rules that are loaded late, a shutdown over
// night, a quiet stock host, rotation, a collector that is stopped for maintenance and one that is
// killed, a clock that is set. Nobody is told of anything.
func TestQuietAlerts(t *testing.T) {
	if testing.Short() {
		t.Skip("a day takes some seconds")
	}
	t.Parallel()
	w := watch(t, func(c *Config) { c.Flush = journal.FlushNone }) // a sync a minute takes long
	for i := range 6 {
		w.host(fmt.Sprintf("web%d", i))
	}
	stock := w.host("stock")
	stock.run, stock.rules = "", ""
	off := func(h *audited) {
		h.said = []string{"type=SYSTEM_SHUTDOWN msg=audit(NOW:900): pid=1 uid=0 auid=4294967295 ses=4294967295 msg='comm=\"systemd-update-utmp\" res=success'"}
		h.more = "registered=yes enabled=1 ends=yes"
		w.minutes(1)
		h.down, h.more = true, ""
	}
	on := func(h *audited) {
		h.boot += "x"
		h.serial = 10
		h.start(w.now)
		h.rules = "" // before they are loaded
		w.minutes(1)
		h.rules = rulesB // a part
		w.minutes(1)
		h.rules = rulesA
	}
	for hour := range 24 {
		switch {
		case hour%4 == 1: // a reboot
			off(w.hosts[hour%6])
			w.minutes(3)
			on(w.hosts[hour%6])
		case hour == 10:
			off(w.hosts[5])
		case hour == 20:
			on(w.hosts[5])
		case hour == 7:
			if err := w.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
		case hour == 8: // maintenance of the collector
			if err := w.Server.Close(); err != nil {
				t.Fatal(err)
			}
			w.pass(2 * time.Hour)
			w.open()
		case hour == 11:
			w.kill()
		case hour == 14: // a clock is set
			w.pass(3 * time.Hour)
		}
		stock.down = hour%3 != 0
		w.minutes(quietMinutes)
	}
	for _, g := range w.told {
		t.Errorf("%s: %+v", g.Key, g.Notices[0])
	}
}
