package locallog

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// actor notes what it is to do.
type actor []string

func (a *actor) Do(do conf.Action, m action.Message) {
	*a = append(*a, m.Condition+" "+do.String())
}

func (a *actor) take() []string {
	was := *a
	*a = nil
	return was
}

func TestLowSpace(t *testing.T) {
	mib := func(n uint64) conf.Space { return conf.Space{MiB: n} }
	do := func(d conf.Do) conf.Action { return conf.Action{Do: d} }
	for _, c := range []struct {
		low, admin             conf.Space
		lowAction, adminAction conf.Action
		free                   []uint64 // MiB of 1000, tick by tick
		want                   []string // what was done at each tick
	}{
		{mib(75), mib(50), do(conf.DoSyslog), do(conf.DoSuspend), []uint64{100, 75, 74, 60, 50, 49, 30, 60, 80, 40},
			[]string{"", "", "space_left_action syslog", "", "", "admin_space_left_action suspend", "", "", "", "admin_space_left_action suspend,space_left_action syslog"}},
		{conf.Space{Percent: 25}, conf.Space{Percent: 1}, do(conf.DoEmail), do(conf.DoHalt), []uint64{250, 249, 9, 260, 249},
			[]string{"", "space_left_action email", "admin_space_left_action halt", "", "space_left_action email"}},
		{mib(75), mib(50), conf.Action{Do: conf.DoExec, Exec: "/x"}, do(conf.DoSingle), []uint64{70, 40}, []string{"space_left_action exec /x", "admin_space_left_action single"}},
		{mib(75), mib(50), do(conf.DoIgnore), conf.Action{}, []uint64{10}, []string{"admin_space_left_action ignore,space_left_action ignore"}},
		{mib(75), mib(50), do(conf.DoRotate), do(conf.DoIgnore), []uint64{70, 70, 90}, []string{"space_left_action rotate", "", ""}},
	} {
		fsx, did := &faults{FS: fsys.OS}, &actor{}
		l := open(t, Config{
			Path: t.TempDir() + "/audit.log", FS: fsx, Actor: did, NumLogs: 9, Action: ActionIgnore,
			SpaceLeft: c.low, AdminSpaceLeft: c.admin, SpaceLeftAction: c.lowAction, AdminSpaceLeftAction: c.adminAction,
		})
		var got []string
		rotations := uint64(0)
		for _, free := range c.free {
			fsx.space = func() (uint64, uint64) { return free << 20, 1000 << 20 }
			if l.Suspended() {
				if err := l.Resume(); err != nil {
					t.Fatal(err)
				}
			}
			write(l, "x")
			l.Flush()
			l.Tick()
			if c.lowAction.Do == conf.DoRotate && free < 75 {
				if rotations++; l.Stats().Rotations != rotations {
					t.Errorf("%d rotations, want one for each look at a low space", l.Stats().Rotations)
				}
			}
			got = append(got, strings.Join(did.take(), ","))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v, %v: %s", c.lowAction, c.adminAction, diff)
		}
	}
}

// Suspending closes the file, so that a program may move it; resuming while space
// is still low does not suspend again; nothing is lost without being counted.
func TestSuspendClosesAndResumes(t *testing.T) {
	for _, a := range []conf.Action{{Do: conf.DoSuspend}, {Do: conf.DoExec, Exec: "/x"}} {
		dir := t.TempDir()
		fsx := &faults{FS: fsys.OS, space: func() (uint64, uint64) { return 1 << 20, 1 << 30 }}
		l := open(t, Config{Path: dir + "/audit.log", FS: fsx, Actor: &actor{}, SpaceLeft: conf.Space{MiB: 10}, SpaceLeftAction: a, NumLogs: 3})
		write(l, "one")
		l.Flush()
		l.Tick()
		if !l.Suspended() || l.file != nil {
			t.Fatalf("%v: suspended %v, file %v", a, l.Suspended(), l.file)
		}
		write(l, "not written")
		l.Flush()
		if err := l.Rotate(); !errors.Is(err, ErrSuspended) {
			t.Errorf("Rotate: %v", err)
		}
		if err := os.Rename(dir+"/audit.log", dir+"/archive"); err != nil {
			t.Fatal(err)
		}
		if err := l.Resume(); err != nil {
			t.Fatal(err)
		}
		l.Tick()
		write(l, "two")
		l.Flush()
		l.Tick()
		if l.Suspended() {
			t.Errorf("%v: suspended again at once", a)
		}
		if diff := cmp.Diff([]string{"archive 600 one,", "audit.log 600 two,"}, files(t, dir)); diff != "" {
			t.Error(diff)
		}
		if st := l.Stats(); st.Dropped != 1 || st.Records != 2 {
			t.Errorf("%+v", st)
		}
	}
}

func TestFailedWrites(t *testing.T) {
	for _, c := range []struct {
		err       error
		full, bad conf.Action
		want      string
		written   uint64 // of three records, the first of which fails
		suspended bool
	}{
		{unix.ENOSPC, conf.Action{Do: conf.DoIgnore}, conf.Action{Do: conf.DoHalt}, "disk_full_action syslog", 2, false},
		{unix.ENOSPC, conf.Action{Do: conf.DoRotate}, conf.Action{}, "disk_full_action rotate", 3, false},
		{unix.EDQUOT, conf.Action{Do: conf.DoSuspend}, conf.Action{}, "disk_full_action suspend", 0, true},
		{unix.ENOSPC, conf.Action{Do: conf.DoHalt}, conf.Action{}, "disk_full_action halt", 2, false},
		{unix.EIO, conf.Action{Do: conf.DoHalt}, conf.Action{Do: conf.DoSyslog}, "disk_error_action syslog", 2, false},
		{unix.EIO, conf.Action{Do: conf.DoHalt}, conf.Action{Do: conf.DoExec, Exec: "/x"}, "disk_error_action exec /x", 0, true},
		{unix.EIO, conf.Action{Do: conf.DoHalt}, conf.Action{}, "disk_error_action ignore", 2, false},
	} {
		fsx, did := &faults{FS: fsys.OS}, &actor{}
		now := time.Unix(1700000000, 0)
		l := open(t, Config{Path: t.TempDir() + "/audit.log", FS: fsx, Actor: did, NumLogs: 3, DiskFullAction: c.full, DiskErrorAction: c.bad, Now: func() time.Time { return now }})
		for i := range 3 {
			fsx.write = nil
			if i == 0 {
				failed := false
				fsx.write = func(n int) (int, error) {
					if failed && c.full.Do == conf.DoRotate {
						return n, nil // it has made room
					}
					failed = true
					return 0, c.err
				}
			}
			write(l, "x")
			l.Flush()
			now = now.Add(retryEvery)
		}
		if got := strings.Join(did.take(), ","); got != c.want {
			t.Errorf("%v: did %q, want %q", c.err, got, c.want)
		}
		if st := l.Stats(); st.Records != c.written || st.Records+st.Dropped != 3 || l.Suspended() != c.suspended || (st.Rotations == 1) != (c.full.Do == conf.DoRotate) {
			t.Errorf("%v, %s: %+v, suspended %v", c.err, c.want, st, l.Suspended())
		}
		// The action was taken: that stays said, though writing works again, until the
		// administrator has it resumed.
		if got := l.State().Failing; got != errors.Is(c.err, unix.EIO) {
			t.Errorf("%s: disk error detected: %v", c.want, got)
		}
		fsx.write = nil
		if err := l.Resume(); err != nil || l.State().Failing {
			t.Errorf("%s: after Resume: %v, disk error detected: %v", c.want, err, l.State().Failing)
		}
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	for i := 1; i < 6; i++ {
		if err := os.WriteFile(fmt.Sprintf("%s/audit.log.%d", dir, i), []byte(fmt.Sprintln("old", i)), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{Path: dir + "/audit.log", NumLogs: 9}
	l := open(t, cfg)
	write(l, "one")
	bad := cfg
	bad.Path = dir + "/audit.log/x"
	if err := l.Reload(bad); err == nil {
		t.Error("a file in the folder's place was taken")
	}
	cfg.NumLogs, cfg.Flush, cfg.GID = 3, FlushData, 4
	if os.Geteuid() != 0 {
		cfg.GID = os.Getegid()
	}
	if err := l.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	write(l, "two")
	l.Flush()
	if diff := cmp.Diff([]string{"audit.log 640 one,two,", "audit.log.1 440 old 1,", "audit.log.2 440 old 2,"}, files(t, dir)); diff != "" {
		t.Error(diff)
	}
	cfg.Path, cfg.Flush = dir+"/other.log", FlushIncrementalAsync
	if err := l.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	l.suspend("test")
	if err := l.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	write(l, "suspended")
	l.Flush()
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	write(l, "three")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir+"/other.log"); got != "three\n" {
		t.Errorf("%q", got)
	}
	if st := l.Stats(); st.Records != 3 || st.Dropped != 1 {
		t.Errorf("%+v", st)
	}
}
