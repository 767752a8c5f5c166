package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/collector/internal/retention"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/syslog"
	"github.com/auditfleet/auditfleet/proto/remote"
)

const mib = 1 << 20

// fakeDisk is what a disk says of itself.
type fakeDisk struct{ free atomic.Uint64 }

func (d *fakeDisk) space() (free, total uint64, err error) {
	return d.free.Load(), 1000 * mib, nil
}

// diskConfig is a collector on a disk of 1000 MiB with so many free.
func diskConfig(t *testing.T, free uint64) (Config, *fakeDisk) {
	d := &fakeDisk{}
	d.free.Store(free * mib)
	cfg := testConfig(shortDir(t))
	cfg.free = d.space
	cfg.Space.Reserve = 50 * mib
	cfg.Action.Syslog = func(syslog.Priority, []byte) error { return nil }
	return cfg, d
}

// ownText is all of the collector's own records.
func (r *running) ownText() string {
	return strings.Join(raws(r.t, scanner(r.client()), "collector.test"), "\n")
}

// setFree changes the disk and has it looked at.
func (r *running) setFree(d *fakeDisk, free uint64) {
	d.free.Store(free * mib)
	r.space.Admit(4 * mib)
}

// Low, full, and space again: each is told to the sender on the connection it
// has, and nobody has to do anything.
func TestSpaceOverTheWire(t *testing.T) {
	t.Parallel()
	cfg, disk := diskConfig(t, 900)
	cfg.Space.SpaceLeft = conf.Space{MiB: 200}
	r := start(t, cfg)
	c := r.dial()
	var got []string
	send := func(seq uint32) {
		f := sendOne(t, c, seq, []byte(userRecord("web1", int(seq))))
		got = append(got, strings.TrimSpace(fmt.Sprintf("%v %s", f.Type, f.Payload)))
	}
	send(1)
	r.setFree(disk, 150)
	send(2)
	r.setFree(disk, 40)
	send(3)
	code, body := get(t, r, "/readyz")
	if health, _ := get(t, r, "/healthz"); code != 503 || !strings.Contains(body, "the disk is full") || health != 200 {
		t.Errorf("with a full disk: readyz %d %q, healthz %d", code, body, health)
	}
	r.setFree(disk, 900)
	send(4)
	if diff := cmp.Diff([]string{"ACK", "DISKLOW", "DISKFULL disk full", "ACK"}, got); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}
	client := r.client()
	want := []string{userRecord("web1", 1), userRecord("web1", 2), userRecord("web1", 4)}
	eventually(t, "what was acknowledged is found", func() bool { return cmp.Equal(want, raws(t, scanner(client), "web1")) })
	eventually(t, "it is recorded", func() bool {
		return strings.Contains(r.ownText(), "type=DAEMON_ERR ") && strings.Contains(r.ownText(), "op=disk-full auid=-1 pid=-1 subj=? res=failed")
	})
	if code, _ := get(t, r, "/readyz"); code != 200 {
		t.Errorf("readyz with space again: %d", code)
	}
	_, body = get(t, r, "/metrics")
	for _, want := range []string{
		`auditfleet_collector_rejected_records_total{reply="diskfull"} 1`, `auditfleet_collector_space_actions_total{key="disk_full_action"} 1`,
		"auditfleet_collector_disk_full 0", "auditfleet_collector_disk_reserve_bytes 5.24288e+07",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

// Days that a cluster has are not dropped for the disk of a collector's folder, which gets no room by that: all would go.
func TestNoRoomByRemoteDays(t *testing.T) {
	t.Parallel()
	events := storetest.NewMemory()
	st := bolt.NewOutbox(openBolt(t), events)
	t.Cleanup(func() { _ = st.Close() })
	for id := uint64(1); id <= 3; id++ {
		tab := store.NewTable()
		storetest.Fill(tab, storetest.NewGenerator(id, storetest.Templates(t), 3, storetest.Start), 20)
		if err := st.Append(t.Context(), &store.Batch{ID: id, Day: store.DayOf(storetest.Start) + store.Day(id), Events: tab, LSN: id}); err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{store: st}
	s.retention = retention.New(retention.Config{Events: st, Now: time.Now, Log: hclog.NewNullLogger(), Metrics: metrics.New(), Record: func(string, ...any) {}})
	dropped, err := s.makeRoom(t.Context(), "disk_full_action")
	now, serr := events.Stats(t.Context())
	if dropped || err != nil || serr != nil || len(now.Parts) != 3 {
		t.Errorf("dropped: %v, %v; %d days are left, %v; want all 3", dropped, err, len(now.Parts), serr)
	}
}

// A collector whose cluster takes nothing is ready, and says what waits.
func TestSaysWhatWaits(t *testing.T) {
	t.Parallel()
	events := storetest.NewMemory()
	events.Fault = func(bool) error { return errors.New("it is\nread-only") }
	st := bolt.NewOutbox(openBolt(t), events)
	t.Cleanup(func() { _ = st.Close() })
	s := &Server{store: st}
	if lines := s.degraded(); len(lines) != 0 {
		t.Errorf("before anything waits: %q", lines)
	}
	tab := store.NewTable()
	storetest.Fill(tab, storetest.NewGenerator(1, storetest.Templates(t), 3, storetest.Start), 20)
	if err := st.Append(t.Context(), &store.Batch{ID: 1, Day: store.DayOf(storetest.Start), Events: tab, LSN: 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what waits is said", func() bool {
		lines := s.degraded()
		return len(lines) == 1 && strings.Contains(lines[0], "1 batches of 20 events") && strings.HasSuffix(lines[0], "it is; read-only")
	})
}

func openBolt(t *testing.T) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(bolt.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A suspension is the stock one: refused in its words until it is resumed, and
// not again for the same reason.
func TestSuspended(t *testing.T) {
	cfg, disk := diskConfig(t, 900)
	cfg.Space.SpaceLeft, cfg.Space.SpaceLeftAction = conf.Space{MiB: 200}, conf.Action{Do: conf.DoSuspend}
	r := start(t, cfg)
	c := r.dial()
	r.setFree(disk, 150)
	eventually(t, "suspended", func() bool { return r.space.Status().Suspended })
	f := sendOne(t, c, 1, []byte(userRecord("web1", 1)))
	if f.Type != remote.DiskError || string(f.Payload) != "remote logging suspended" {
		t.Errorf("while suspended: %v %q", f.Type, f.Payload)
	}
	if state := r.state(); !strings.Contains(state, "suspended") {
		t.Errorf("state %q", state)
	}
	if !r.Resume() {
		t.Error("Resume says that nothing was suspended")
	}
	if f := sendOne(t, c, 2, []byte(userRecord("web1", 2))); f.Type != remote.DiskLow {
		t.Errorf("after the resume: %v", f.Type)
	}
	eventually(t, "both are recorded", func() bool {
		own := r.ownText()
		return strings.Contains(own, "op=suspend-logging") && strings.Contains(own, "type=DAEMON_RESUME ") && strings.Contains(own, "op=resume-logging auid=-1 pid=-1 subj=? res=success")
	})
}

// Single and halt need a word on the command line; without it nothing starts.
func TestHaltMustBeAllowed(t *testing.T) {
	cfg, _ := diskConfig(t, 900)
	cfg.Space.DiskFullAction = conf.Action{Do: conf.DoHalt}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "disk_full_action = halt") || !strings.Contains(err.Error(), "--allow-halt") {
		t.Fatalf("Open: %v", err)
	}
	cfg.Action.AllowHalt, cfg.Action.Init = true, "/none" // it must not be done here
	r := start(t, cfg)
	bad := cfg
	bad.Action = action.Config{}
	bad.Space.SpaceLeftAction = conf.Action{Do: conf.DoEmail}
	if _, err := os.Stat(action.Sendmail); err != nil {
		if err := r.Reconfigure(bad); err == nil {
			t.Error("a mail that nothing can send was taken over")
		}
		eventually(t, "it is recorded", func() bool {
			return strings.Contains(r.ownText(), "op=reconfigure state=no-change auid=-1 pid=-1 subj=? res=failed")
		})
	}
}

// A real disk: records are refused before it is full, so that everything that was
// acknowledged goes into its partition, at the end and while it lasts.
func TestReserveOnARealDisk(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("fills a disk of 256 MiB")
	}
	disk := t.TempDir()
	need.Tmpfs(t, disk, "size=256m")
	cfg := testConfig(filepath.Join(disk, "store"))
	cfg.API = shortDir(t) + ".sock"
	cfg.Space.Reserve = 32 * mib
	r := start(t, cfg)
	c := r.dial()
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 96*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	// What does not compress takes most room.
	random, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	defer random.Close()
	acked := map[string]bool{}
	seq := uint32(0)
	next := func() remote.Type {
		seq++
		noise := make([]byte, 4000)
		if _, err := io.ReadFull(random, noise); err != nil {
			t.Fatal(err)
		}
		rec := fmt.Sprintf("node=web1 type=USER_LOGIN msg=audit(1700000000.001:%d): n=%X", seq, noise)
		f := sendOne(t, c, seq, []byte(rec))
		if f.Type == remote.Ack {
			acked[rec] = true
		}
		return f.Type
	}
	full := 0
	least := uint64(1 << 62)
	for i := 0; i < 40000 && full < 3; i++ {
		switch got := next(); got {
		case remote.Ack:
		case remote.DiskFull:
			full++
			time.Sleep(50 * time.Millisecond)
		default:
			t.Fatalf("record %d: %v", i, got)
		}
		free, _, err := fsys.OS.Space(disk)
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, free)
	}
	if full == 0 {
		t.Fatal("a disk with only its reserve left was never told")
	}
	if n := r.head.Stats().StoreFailures; n > 0 {
		t.Errorf("the store failed %d times: the reserve was not enough", n)
	}
	if least < 32*mib/8 {
		t.Errorf("only %d MiB were free at one time, of the 32 MiB kept", least>>20)
	}
	t.Logf("%d records of 8 KB acknowledged, least free %d MiB of the 32 MiB kept", len(acked), least>>20)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stored again", func() bool { return next() == remote.Ack })
	r.stop()
	files, err := OpenReadOnly(cfg.Store, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	for _, raw := range raws(t, files.Scan, "web1") {
		if !acked[raw] {
			t.Errorf("found once too often, or never acknowledged: %.90s", raw)
		}
		delete(acked, raw)
	}
	if len(acked) > 0 {
		t.Errorf("%d acknowledged records are not found", len(acked))
	}
}

// clock is a wall clock that can be moved.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// day moves the clock to so many days before today.
func (c *clock) day(before int) { c.ahead.Store(int64(-24*time.Hour) * int64(before)) }

// fourDays has stored a record on each of the last four days, today's the last.
func fourDays(t *testing.T, change func(*Config)) (*running, *clock) {
	var cl clock
	cl.day(3)
	cfg := testConfig(shortDir(t))
	cfg.Now = cl.now
	cfg.Limits = listen.Limits{MaxPerAddr: 10}
	cfg.Action.Syslog = func(syslog.Priority, []byte) error { return nil }
	if change != nil {
		change(&cfg)
	}
	r := start(t, cfg)
	c := r.dial()
	for before := 3; before >= 0; before-- {
		cl.day(before)
		exchange(t, c, uint32(10-before), userRecord("web1", 10-before))
		if err := r.head.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	return r, &cl
}

func (r *running) days() (days []string) {
	st, err := r.store.Stats(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range st.Parts {
		days = append(days, d.Part.String())
	}
	return days
}

func TestMaxDays(t *testing.T) {
	t.Parallel()
	r, cl := fourDays(t, nil)
	all := r.days()
	if len(all) != 4 {
		t.Fatalf("days %v", all)
	}
	cfg := r.cfg
	cfg.Retention.MaxDays = 2
	if err := r.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two days are left", func() bool { return cmp.Equal(all[2:], r.days()) })
	want := []string{userRecord("web1", 9), userRecord("web1", 10)}
	client := r.client()
	eventually(t, "their records are found, no others", func() bool { return cmp.Equal(want, raws(t, scanner(client), "web1")) })
	rec := regexp.MustCompile(`type=DAEMON_ROTATE msg=audit\([0-9.:]+\): op=drop-day day=` + all[0] + ` reason=max_days events=\d+ records=\d+ auid=-1 pid=-1 subj=\? res=success`)
	eventually(t, "it is recorded", func() bool { return rec.MatchString(r.ownText()) && strings.Contains(r.ownText(), "state=changed") })
	eventually(t, "both days are counted", func() bool { // the second one a moment later
		_, body := get(t, r, "/metrics")
		return strings.Contains(body, `auditfleet_collector_dropped_dates_total{reason="max_days"} 2`+"\n")
	})
	if n := strings.Count(r.log.String(), "dropped a day of events"); n != 2 {
		t.Errorf("logged %d times:\n%s", n, r.log)
	}
	// The day that is written stays, whatever the limit.
	cl.day(-400)
	r.retention.SetLimits(retention.Limits{MaxDays: 1, MaxBytes: 1})
	eventually(t, "one day is left", func() bool { return cmp.Equal(all[3:], r.days()) })
}

// A running collector whose clock jumps a year ahead drops nothing, says so, and
// goes on when it is put right.
func TestClockJumpWhileRunning(t *testing.T) {
	t.Parallel()
	r, cl := fourDays(t, func(c *Config) { c.Retention.MaxDays = 4 })
	all := r.days()
	c := r.dial()
	put := func(before, n int) {
		t.Helper()
		cl.day(before)
		exchange(t, c, uint32(n), userRecord("web1", n))
		if err := r.head.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		r.retention.Apply()
	}
	put(-365, 20)
	eventually(t, "the clock is doubted", r.retention.ClockDoubted)
	ahead := store.DayOf(cl.now()).String()
	if got := r.days(); !slices.Equal(got, append(slices.Clone(all), ahead)) {
		t.Errorf("a year ahead: %v are left of %v", got, all)
	}
	if _, body := get(t, r, "/metrics"); !strings.Contains(body, "auditfleet_collector_clock_doubted 1\n") {
		t.Error("the doubt is not to be seen from outside")
	}
	put(-1, 21)
	want := append(slices.Clone(all[1:]), store.DayOf(cl.now()).String(), ahead)
	eventually(t, "the oldest day is gone", func() bool { return slices.Equal(r.days(), want) && !r.retention.ClockDoubted() })
}

func TestMaxBytes(t *testing.T) {
	t.Parallel()
	r, _ := fourDays(t, nil)
	st, err := r.store.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r.retention.SetLimits(retention.Limits{MaxBytes: int64(st.DiskBytes) - 1})
	eventually(t, "the oldest day is gone", func() bool { return len(r.days()) == 3 })
}

// rotate = drop the oldest day, until there is space or no sealed day.
func TestRotateForSpace(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	free := uint64(900) // guarded by mu
	var r *running
	r, _ = fourDays(t, func(c *Config) {
		c.Space = space.Limits{SpaceLeft: conf.Space{MiB: 200}, SpaceLeftAction: conf.Action{Do: conf.DoRotate}}
		c.free = func() (_, total uint64, err error) {
			mu.Lock()
			defer mu.Unlock()
			return free * mib, 1000 * mib, nil
		}
	})
	mu.Lock()
	free = 150
	mu.Unlock()
	r.space.Admit(4 * mib)
	eventually(t, "only today is left", func() bool { return len(r.days()) == 1 })
	eventually(t, "it is said that nothing is left to drop", func() bool { return strings.Contains(r.log.String(), "no sealed day that may be dropped") })
	eventually(t, "it is recorded", func() bool { return strings.Count(r.ownText(), "reason=space_left_action") == 3 })
	exchangeLow(t, r.dial(), 99, userRecord("web1", 99))
}

// A start that finds no room for the journal's records drops days as the watcher of the disk would, which begins
// later; but none while anything is on hold.
func TestRoomForReplay(t *testing.T) {
	t.Parallel()
	d := &fakeDisk{}
	d.free.Store(900 * mib)
	r, _ := fourDays(t, func(c *Config) {
		c.Space = space.Limits{Reserve: 50 * mib, DiskFullAction: conf.Action{Do: conf.DoRotate}}
		c.free = d.space
	})
	r.hold(hold.Change{Add: []string{"other"}})
	cfg, all := r.cfg, r.days()
	r.stop()
	cfg.Listen, cfg.HTTP = []string{"127.0.0.1:0"}, "127.0.0.1:0"
	d.free.Store(10 * mib)
	s, err := Open(cfg) // its watcher of the disk does not run
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	left := func() []string { return (&running{Server: s, t: t}).days() }
	s.roomForReplay()
	if got := left(); !slices.Equal(got, all) {
		t.Errorf("with something on hold %v are left of %v", got, all)
	}
	if _, err := s.holds.set.Change(hold.Change{Remove: []string{"other"}}, cfg.Now()); err != nil {
		t.Fatal(err)
	}
	s.roomForReplay()
	if got := left(); !slices.Equal(got, all[1:]) {
		t.Errorf("%v are left of %v", got, all)
	}
}

// exchangeLow sends a record that is stored with a warning.
func exchangeLow(t *testing.T, c io.ReadWriter, seq uint32, rec string) {
	t.Helper()
	if _, err := c.Write(remote.Append(nil, remote.Message, seq, []byte(rec))); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, remote.HeaderSize)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if f, _, err := new(remote.Decoder).Decode(got); err != nil || f.Type != remote.DiskLow || f.Seq != seq {
		t.Errorf("reply %v, %v", f, err)
	}
}

// Rotation by signal has all that was acknowledged in the partition.
func TestRotateAndReport(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(shortDir(t)))
	exchange(t, r.dial(), 1, userRecord("web1", 1))
	if err := r.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	st, err := r.store.Stats(context.Background())
	if err != nil || st.Records == 0 {
		t.Errorf("stored after the rotation: %+v, %v", st, err)
	}
	eventually(t, "it is recorded", func() bool {
		return regexp.MustCompile(`type=DAEMON_ROTATE msg=audit\([0-9.:]+\): op=rotate-logs auid=-1 pid=-1 subj=\? res=success`).MatchString(r.ownText())
	})
	path, err := r.Report()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"collector version = test", "state = ok", "logging suspended = no", "space left on partition = yes",
		"listening for network connections = yes", "active connections = 1", "total connections = 1", "partitions stored = 2", "flush = sync",
	} {
		if !strings.Contains("\n"+string(text), "\n"+want+"\n") {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || path != filepath.Join(r.dir, StateFile) {
		t.Errorf("%s: %v, %v", path, info, err)
	}
}
