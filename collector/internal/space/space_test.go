package space

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// disk is a filesystem of 1000 MiB, with so many free and days to drop.
type disk struct {
	mu    sync.Mutex
	free  uint64 // guarded by mu; MiB
	err   error  // guarded by mu
	days  []uint64
	done  []string // guarded by mu: what was done, in order
	log   strings.Builder
	t     *testing.T
	w     *Watcher
	clear bool // guarded by mu: Relieve frees 300 MiB, once
}

func (d *disk) space() (free, total uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free * mib, 1000 * mib, d.err
}

func (d *disk) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, fmt.Sprintf(format, args...))
}

func (d *disk) drop(_ context.Context, reason string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.days) == 0 {
		return false, nil
	}
	d.free += d.days[0]
	d.done = append(d.done, fmt.Sprintf("drop %d %s", d.days[0], reason))
	d.days = d.days[1:]
	return true, nil
}

func newDisk(t *testing.T, l Limits, days ...uint64) *disk {
	d := &disk{t: t, free: 900, days: days}
	d.w = New(Config{
		Limits: l, Space: d.space, Calm: -1, Log: hclog.New(&hclog.LoggerOptions{Output: &d.log, DisableTime: true}),
		Do:         func(a conf.Action, m action.Message) { d.note("%s %s", m.Condition, a) },
		DropOldest: d.drop,
		Record:     func(op string) { d.note("record %s", op) },
		Relieve: func(context.Context) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.clear {
				d.clear = false
				d.free += 300
			}
		},
	})
	return d
}

// at has so many MiB free, looks and acts, and compares what was done.
func (d *disk) at(free uint64, want ...string) {
	d.t.Helper()
	d.mu.Lock()
	d.free, d.done = free, nil
	d.mu.Unlock()
	d.w.measure()
	d.w.act(context.Background())
	if diff := cmp.Diff(want, d.done); diff != "" {
		d.t.Errorf("at %d MiB free (-want +done):\n%s", free, diff)
	}
}

func do(d conf.Do) conf.Action { return conf.Action{Do: d} }

func TestActionsOnceForEachTime(t *testing.T) {
	d := newDisk(t, Limits{
		SpaceLeft: conf.Space{MiB: 200}, SpaceLeftAction: do(conf.DoEmail),
		AdminSpaceLeft: conf.Space{Percent: 10}, AdminSpaceLeftAction: do(conf.DoExec),
		Reserve: 50 * mib, DiskFullAction: do(conf.DoSyslog), DiskErrorAction: do(conf.DoSyslog),
	})
	admit := func(want error) {
		t.Helper()
		if err := d.w.Admit(10); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("Admit: %v, want %v", err, want)
		}
	}
	d.at(900)
	d.at(200)
	if d.w.IsLow() {
		t.Error("low at the limit itself")
	}
	d.at(199, "space_left_action email")
	if !d.w.IsLow() {
		t.Error("not low below the limit")
	}
	d.at(150)
	d.at(205) // within a sixteenth of the limit it has not passed
	if !d.w.IsLow() {
		t.Error("no longer low at the edge")
	}
	d.at(199)
	d.at(90, "admin_space_left_action exec ")
	admit(nil)
	d.at(49, "record disk-full", "disk_full_action syslog")
	admit(ErrFull)
	d.at(48)
	d.at(51)
	admit(ErrFull)
	d.at(54)
	admit(nil)
	d.at(900)
	d.at(40, "space_left_action email", "admin_space_left_action exec ", "record disk-full", "disk_full_action syslog")
	st := d.w.Status()
	if diff := cmp.Diff([numConditions]uint64{2, 2, 2, 0}, st.Actions); diff != "" || !st.Is[Full] || st.Reserve != 50*mib {
		t.Errorf("status %+v", st)
	}
}

// A disk that is full, relieved and full again all the time has its action once; one that was well for a while, or that somebody has seen to, has it anew.
func TestHovering(t *testing.T) {
	d := newDisk(t, Limits{SpaceLeft: conf.Space{MiB: 100}, SpaceLeftAction: do(conf.DoEmail), Reserve: 50 * mib, DiskFullAction: do(conf.DoExec), DiskErrorAction: do(conf.DoSyslog)})
	d.w.cfg.Calm = time.Hour
	d.at(90, "space_left_action email")
	d.at(49, "record disk-full", "disk_full_action exec ")
	for range 5 {
		d.at(60)
		if err := d.w.Admit(1); err != nil {
			t.Errorf("relieved: %v", err)
		}
		d.at(49)
		if err := d.w.Admit(1); !errors.Is(err, ErrFull) {
			t.Errorf("full again: %v", err)
		}
		d.w.Outcome(unix.ENOSPC)
		d.w.Outcome(nil)
	}
	if st := d.w.Status(); st.Actions[Full] != 1 || st.Actions[Low] != 1 {
		t.Errorf("actions: %v", st.Actions)
	}
	d.at(60)
	if s := d.log.String(); strings.Contains(s, "no longer") {
		t.Errorf("it is over: %s", s)
	}
	d.w.mu.Lock()
	d.w.ended[Full] = time.Now().Add(-time.Hour) // it was so since
	d.w.mu.Unlock()
	d.at(60)
	if n := strings.Count(d.log.String(), "no longer: the audit disk is full"); n != 1 {
		t.Errorf("said %d times that it is over: %s", n, &d.log)
	}
	d.at(49, "record disk-full", "disk_full_action exec ")
	d.at(60)
	d.w.SetLimits(d.w.Status().Limits)
	d.at(60)
	d.at(49, "record disk-full", "disk_full_action exec ")
	d.at(60)
	d.w.Resume()
	d.at(60)
	d.at(49, "record disk-full", "disk_full_action exec ")
}

// Rotate goes on as long as the condition does, and says once that nothing is
// left to drop.
func TestRotate(t *testing.T) {
	d := newDisk(t, Limits{SpaceLeft: conf.Space{MiB: 200}, SpaceLeftAction: do(conf.DoRotate), Reserve: -1}, 10, 30, 500, 40)
	d.at(180, "space_left_action rotate", "drop 10 space_left_action", "drop 30 space_left_action")
	d.at(300)
	d.at(100, "space_left_action rotate", "drop 500 space_left_action")
	d.at(100, "drop 40 space_left_action")
	d.at(90)
	d.at(80)
	if n := strings.Count(d.log.String(), "no sealed day that may be dropped"); n != 1 {
		t.Errorf("said %d times that nothing is left:\n%s", n, &d.log)
	}
}

// Resumed, it does not suspend again for the same reason, as the stock daemon
// does; only for one that comes anew.
func TestSuspendAndResume(t *testing.T) {
	d := newDisk(t, Limits{SpaceLeft: conf.Space{MiB: 200}, SpaceLeftAction: do(conf.DoSuspend)})
	d.at(150, "record suspend-logging", "space_left_action suspend")
	if err := d.w.Admit(1); !errors.Is(err, ErrSuspended) {
		t.Errorf("Admit: %v", err)
	}
	d.at(900)
	if err := d.w.Admit(1); !errors.Is(err, ErrSuspended) {
		t.Errorf("Admit when there is space again: %v, want suspended until resumed", err)
	}
	d.at(150, "record suspend-logging", "space_left_action suspend")
	if !d.w.Resume() || d.w.Resume() {
		t.Error("Resume did not say whether it was suspended")
	}
	d.at(140)
	if err := d.w.Admit(1); err != nil {
		t.Errorf("Admit after Resume: %v", err)
	}
}

func TestFailedWrites(t *testing.T) {
	d := newDisk(t, Limits{DiskFullAction: do(conf.DoExec), DiskErrorAction: do(conf.DoSyslog)})
	d.w.Outcome(fmt.Errorf("write: %w", unix.EIO))
	d.at(900, "record disk-error", "disk_error_action syslog")
	d.w.Outcome(fmt.Errorf("write: %w", unix.EIO))
	d.at(900)
	if err := d.w.Admit(1); err != nil {
		t.Errorf("an error refuses records beforehand: %v", err)
	}
	d.w.Outcome(nil)
	d.at(900)
	d.w.Outcome(fmt.Errorf("write: %w", unix.EDQUOT))
	d.at(900, "record disk-full", "disk_full_action exec ")
	d.w.Outcome(ErrFull) // its own refusal is no news
	d.w.Outcome(nil)
	d.at(900)
	d.w.Outcome(unix.ENOSPC)
	d.at(900, "record disk-full", "disk_full_action exec ")
}

// A write that found no room costs a day, not all of them: whether there is room then, the next write tells.
func TestRotateForAWrite(t *testing.T) {
	d := newDisk(t, Limits{Reserve: 50 * mib, DiskFullAction: do(conf.DoRotate)}, 100, 100, 100)
	d.w.Outcome(unix.ENOSPC) // somebody else took the reserve, and gave it back
	d.at(900, "record disk-full", "disk_full_action rotate", "drop 100 disk_full_action")
	d.at(900)
	d.w.Outcome(unix.ENOSPC)
	d.at(10, "record disk-full", "disk_full_action rotate", "drop 100 disk_full_action")
	d.at(900)
}

// Nobody knows any more how much room there is: that costs a day, not all of them.
func TestRotateBlindly(t *testing.T) {
	d := newDisk(t, Limits{SpaceLeft: conf.Space{MiB: 200}, SpaceLeftAction: do(conf.DoRotate)}, 10, 10, 10)
	d.mu.Lock()
	d.free = 150
	d.mu.Unlock()
	d.w.measure()
	d.mu.Lock()
	d.err = unix.EIO
	d.mu.Unlock()
	for range 3 {
		d.w.act(t.Context())
	}
	if diff := cmp.Diff([]string{"space_left_action rotate", "drop 10 space_left_action"}, d.done); diff != "" {
		t.Error(diff)
	}
}

// A search that goes on keeps the files of the days that it reads: they count as gone, or all would be dropped for it.
func TestRotateWhatIsRead(t *testing.T) {
	d := newDisk(t, Limits{SpaceLeft: conf.Space{MiB: 200}, SpaceLeftAction: do(conf.DoRotate)}, 30, 30, 30, 30)
	lingering := uint64(0)
	d.w.cfg.Lingering = func() uint64 { return lingering }
	d.w.cfg.DropOldest = func(ctx context.Context, reason string) (bool, error) {
		ok, err := d.drop(ctx, reason)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.free -= 30
		lingering += 30 * mib
		return ok, err
	}
	d.at(150, "space_left_action rotate", "drop 30 space_left_action", "drop 30 space_left_action", "drop 30 space_left_action")
	d.at(150)
	lingering = 0
	d.at(240)
}

// Before Begin, room is made a day at a time, where that is the action of what is wrong.
func TestMakeRoom(t *testing.T) {
	d := newDisk(t, Limits{Reserve: 50 * mib, SpaceLeft: conf.Space{MiB: 60}, SpaceLeftAction: do(conf.DoSyslog), DiskFullAction: do(conf.DoRotate)}, 5, 5, 50, 50)
	for _, free := range []uint64{900, 55, 40, 45, 50} { // 50: over only with a sixteenth more
		d.mu.Lock()
		d.free = free
		d.mu.Unlock()
		d.w.MakeRoom(t.Context())
	}
	d.w.MakeRoom(t.Context()) // 100 are free now
	if diff := cmp.Diff([]string{"drop 5 disk_full_action", "drop 5 disk_full_action", "drop 50 disk_full_action"}, d.done); diff != "" {
		t.Error(diff)
	}
}

// Between two ticks, admitted bytes make it look by themselves.
func TestLooksWhileBytesCome(t *testing.T) {
	d := newDisk(t, Limits{Reserve: 50 * mib})
	d.mu.Lock()
	d.free = 10
	d.mu.Unlock()
	admitted := 0
	for d.w.Admit(100<<10) == nil {
		if admitted += 100 << 10; admitted > 2*recheck {
			t.Fatal("never looked")
		}
	}
	if admitted > recheck {
		t.Errorf("%d bytes were admitted to a full disk", admitted)
	}
}

// While full, it has the journal emptied, and goes on by itself.
func TestRelief(t *testing.T) {
	d := newDisk(t, Limits{Reserve: 50 * mib})
	d.clear = true
	d.at(10, "record disk-full", "disk_full_action ")
	if err := d.w.Admit(1); err != nil {
		t.Errorf("Admit after the relief: %v", err)
	}
}

func TestUnknownSpaceRefusesNothing(t *testing.T) {
	d := newDisk(t, Limits{Reserve: 50 * mib})
	d.err = unix.EIO
	d.at(0)
	d.at(0)
	if err := d.w.Admit(1); err != nil {
		t.Errorf("Admit: %v", err)
	}
	if n := strings.Count(d.log.String(), "not known"); n != 1 {
		t.Errorf("said %d times: %s", n, &d.log)
	}
}

func TestChangedLimits(t *testing.T) {
	d := newDisk(t, Limits{})
	d.at(150)
	d.w.SetLimits(Limits{SpaceLeft: conf.Space{Percent: 20}, SpaceLeftAction: do(conf.DoSyslog)})
	d.at(150, "space_left_action syslog")
	d.w.SetLimits(Limits{SpaceLeft: conf.Space{MiB: 160}, SpaceLeftAction: do(conf.DoEmail)})
	d.at(150)
	d.w.SetLimits(Limits{})
	d.at(150)
	if d.w.IsLow() {
		t.Error("low without a limit")
	}
}

func TestReserve(t *testing.T) {
	for _, c := range []struct {
		reserve     int64
		total, want uint64
	}{
		{0, 1 << 40, DefaultReserve},
		{0, 800 * mib, 100 * mib},
		{-1, 1 << 40, 0},
		{5, 1 << 40, 5},
		{1 << 40, 800 * mib, 100 * mib},
	} {
		l := Limits{Reserve: c.reserve}
		if got := l.reserve(c.total); got != c.want {
			t.Errorf("reserve %d of %d: %d, want %d", c.reserve, c.total, got, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	r := action.New(action.Config{Sendmail: "/none"})
	defer r.Close()
	l := Limits{AdminSpaceLeftAction: do(conf.DoSingle), SpaceLeftAction: do(conf.DoEmail), DiskFullAction: do(conf.DoSyslog)}
	err := l.Check(r)
	if !errors.Is(err, action.ErrHalt) || !errors.Is(err, action.ErrMail) || strings.Contains(err.Error(), "disk_full") {
		t.Errorf("Check: %v", err)
	}
	if err := (&Limits{}).Check(r); err != nil {
		t.Errorf("Check of none: %v", err)
	}
}

// Run acts without being asked, and on a real filesystem.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	did := make(chan string, 10)
	w := New(Config{
		Limits: Limits{SpaceLeft: conf.Space{Percent: 99}, SpaceLeftAction: do(conf.DoSyslog)},
		Space:  func() (free, total uint64, err error) { return fsys.OS.Space(dir) }, Every: time.Millisecond, Log: hclog.NewNullLogger(),
		Do: func(_ conf.Action, m action.Message) { did <- m.Text },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { w.Run(ctx); close(ended) }()
	u := w.Status().Usage
	if u.Total == 0 || u.Free > u.Total {
		t.Fatalf("the disk has %+v", u)
	}
	if u.Free < u.Total/100*99 {
		select {
		case <-did:
		case <-time.After(time.Minute):
			t.Error("nothing was done")
		}
	}
	cancel()
	<-ended
}

// A journal that has outgrown its table is no reason to drop days.
func TestExcessDropsNoDay(t *testing.T) {
	d := newDisk(t, Limits{Reserve: -1, SpaceLeft: conf.Space{MiB: 100}, SpaceLeftAction: do(conf.DoRotate)}, 60, 60)
	excess := uint64(200 * mib)
	d.w.cfg.Excess = func() uint64 { return excess }
	d.at(50, "space_left_action rotate")
	if text := d.log.String(); strings.Count(text, "no day is dropped: the journal has taken the space") != 1 {
		t.Errorf("logged\n%s", text)
	}
	d.at(50)
	// What the journal has does not explain it: days go.
	excess = 10 * mib
	d.at(50, "drop 60 space_left_action")
}

// The disk is asked once a second where records come or something is wrong, and seldom else.
func TestAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, free atomic.Uint64 // the watcher may look in the same moment
		free.Store(1000 * mib)
		w := New(Config{
			Space:  func() (uint64, uint64, error) { asked.Add(1); return free.Load(), 2000 * mib, nil },
			Limits: Limits{SpaceLeft: conf.Space{MiB: 100}, SpaceLeftAction: do(conf.DoIgnore)}, Log: hclog.NewNullLogger(), Do: func(conf.Action, action.Message) {},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); w.Run(ctx) }()
		minute := func(what string, least, most uint64) {
			t.Helper()
			synctest.Wait()
			before := asked.Load()
			for range 600 {
				time.Sleep(100 * time.Millisecond)
				if what == "records come" {
					if err := w.Admit(100); err != nil {
						t.Error(err)
					}
				}
			}
			synctest.Wait()
			if n := asked.Load() - before; n < least || n > most {
				t.Errorf("%s: asked %d times in a minute, want %d to %d", what, n, least, most)
			}
		}
		minute("nothing happens", 11, 13)
		minute("records come", 50, 75)
		minute("nothing happens any more", 11, 13)
		free.Store(50 * mib)
		time.Sleep(quiet * time.Second)
		minute("space is low", 58, 62)
		cancel()
		<-ended
	})
}
