package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// tinyDisk is a real filesystem of so many KiB.
func tinyDisk(t *testing.T, kib int) string {
	t.Helper()
	dir := t.TempDir()
	need.Tmpfs(t, dir, fmt.Sprintf("size=%dk,mode=0700", kib))
	return dir
}

// A real disk that fills up: with rotate the oldest log makes room and nothing
// new is lost; the file holds whole lines only.
func TestFullDiskRotates(t *testing.T) {
	disk := tinyDisk(t, 512)
	k := fakekernel.New()
	s := startAgent(t, fake(k, Config{Log: locallog.Config{
		Path: disk + "/audit.log", NumLogs: 3, MaxSize: 1 << 30, Action: locallog.ActionRotate, DiskFullAction: conf.Action{Do: conf.DoRotate},
	}}))
	body := strings.Repeat("x", 1000)
	const n = 3000 // six disks full
	for i := range n {
		k.Emit(1300, fmt.Sprint(i, " ", body))
		if i%50 == 49 {
			wait(t, "it keeps up", func() bool { st := s.log.Load().Stats(); return st.Records+st.Dropped >= uint64(i) })
		}
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(disk + "/audit.log*")
	if err != nil || len(logs) > 3 {
		t.Errorf("%q %v", logs, err)
	}
	for _, l := range logs {
		for i, line := range fileLines(t, l) {
			if !strings.HasPrefix(line, "type=") || strings.HasPrefix(line, "type=SYSCALL") && !strings.HasSuffix(line, body) {
				t.Errorf("%s:%d: half a line: %.50q", l, i+1, line)
			}
		}
	}
	if st := s.log.Load().Stats(); st.Rotations < 5 || st.Dropped > 0 || st.Records < n {
		t.Errorf("%+v", st)
	}
	if last := fileLines(t, disk+"/audit.log"); !strings.Contains(last[len(last)-1], "DAEMON_END") {
		t.Errorf("ends with %.80q", last[len(last)-1])
	}
}

// exec runs the program while the log is let go of; the program makes room and
// resumes the log, as auditd.conf(5) tells it to.
func TestLowSpaceRunsTheProgram(t *testing.T) {
	t.Parallel()
	disk := tinyDisk(t, 4096)
	dir := t.TempDir()
	path := dir + "/archive.sh"
	if err := need.Program(path, fmt.Appendf(nil, "#!/bin/sh\nmv %s/audit.log %s/archived && touch %s/resume\n", disk, dir, dir), 0o700); err != nil {
		t.Fatal(err)
	}
	k := fakekernel.New()
	s := startAgent(t, fake(k, Config{
		Actions: action.Config{},
		Log: locallog.Config{
			Path: disk + "/audit.log", NumLogs: 3, SpaceLeft: conf.Space{Percent: 50}, SpaceLeftAction: conf.Action{Do: conf.DoExec, Exec: path},
		},
	}))
	body := strings.Repeat("x", 1000)
	emitted := 0
	for ; emitted < 20000 && !s.log.Load().Suspended(); emitted++ {
		k.Emit(1300, body)
		if emitted%50 == 49 {
			wait(t, "it keeps up", func() bool { st := s.log.Load().Stats(); return st.Records+st.Dropped >= uint64(emitted) })
		}
	}
	wait(t, "the program has run", func() bool { _, err := os.Stat(dir + "/resume"); return err == nil })
	s.Resume()
	k.Emit(1300, "after")
	wait(t, "the log goes on", func() bool {
		b, _ := os.ReadFile(disk + "/audit.log")
		return strings.Contains(string(b), ": after\n")
	})
	s.stop()
	if err := s.end(t); err != nil {
		t.Fatal(err)
	}
	// From half of the disk on, when it is looked at, and not when the disk is full.
	if archived := fileLines(t, dir+"/archived"); len(archived) < 1500 || len(archived) > 3800 {
		t.Errorf("%d records archived of %d", len(archived), emitted)
	}
	if got := fileLines(t, disk+"/audit.log"); !strings.Contains(got[0], "DAEMON_RESUME") {
		t.Errorf("begins with %.80q", got[0])
	}
}

// The disk of the local log is full and stays full: shipping goes on without a gap,
// and what the log does not have is counted, to the record.
func TestFullLogDiskCostsTheLogOnly(t *testing.T) {
	for _, do := range []conf.Do{conf.DoIgnore, conf.DoSyslog, conf.DoSuspend} {
		t.Run(string(do), func(t *testing.T) {
			disk := tinyDisk(t, 256)
			k := fakekernel.New()
			c := newCollector(t)
			var said said
			s := startAgent(t, fake(k, Config{
				Ship: shipTo(c.addr), Spool: spool.Options{Dir: t.TempDir() + "/spool"}, Actions: action.Config{Syslog: said.write},
				Log: locallog.Config{Path: disk + "/audit.log", DiskFullAction: conf.Action{Do: do}, DiskErrorAction: conf.Action{Do: do}},
			}))
			body := strings.Repeat("x", 1000)
			const n = 1000 // four disks full
			for i := range n {
				k.Emit(1300, fmt.Sprintf("n=%d %s", i, body))
				if i%50 == 49 {
					wait(t, "it keeps up", func() bool { return s.pump.records.Load() >= uint64(i) })
				}
			}
			s.stop()
			if err := s.end(t); err != nil {
				t.Fatal(err)
			}
			handed := int(s.pump.records.Load())
			if got := c.got(); len(got) != handed || handed < n {
				t.Errorf("%d of %d records handed on arrived, of %d", len(got), handed, n)
			}
			inLog, arrived := fileLines(t, disk+"/audit.log"), map[string]bool{}
			for _, l := range c.got() {
				arrived[l] = true
			}
			for _, l := range inLog {
				if !arrived[l] {
					t.Errorf("half a record, or one that was not sent, in the log: %.60q", l)
				}
			}
			if lost := int(s.losses()["local-log"]); lost == 0 || len(inLog)+lost != handed {
				t.Errorf("%d in the log and %d counted as missing there, of %d", len(inLog), lost, handed)
			}
			// With ignore too, as auditd.conf(5) has it.
			if told := len(said.lines); told == 0 || told > 20 {
				t.Errorf("syslog was told %d times: %q", told, said.lines)
			}
		})
	}
}
