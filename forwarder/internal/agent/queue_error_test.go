package agent

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys/faultfs"
)

const forGood = 1 << 40 // how often an operation fails from now on

// queueActions is every action that queue_error_action may have, and what is seen
// of it while the spool's disk fails: messages to syslog, runs of the program or of
// init, and whether sending stops.
var queueActions = map[conf.Do]struct {
	syslog, runs int
	suspends     bool
}{
	"":                      {},
	conf.DoIgnore:           {},
	conf.DoSyslog:           {syslog: 1},
	conf.DoExec:             {runs: 1},
	conf.DoWarnOnce:         {syslog: 1},
	conf.DoWarnOnceContinue: {syslog: 1},
	conf.DoSuspend:          {syslog: 1, suspends: true},
	conf.DoStop:             {syslog: 1, suspends: true},
	conf.DoSingle:           {syslog: 1, runs: 1},
	conf.DoHalt:             {syslog: 1, runs: 1},
}

// actionsTried are all of them; under -short none, one that runs a program, and one that
// suspends.
func actionsTried() []conf.Do {
	if testing.Short() {
		return []conf.Do{"", conf.DoExec, conf.DoSuspend}
	}
	return slices.Sorted(maps.Keys(queueActions))
}

// queueError is an agent whose queue_error_action is watched.
type queueError struct {
	t   *testing.T
	do  conf.Do
	dir string
	log said
	fs  *faultfs.FS
	c   *collector
}

func newQueueError(t *testing.T, do conf.Do) *queueError {
	q := &queueError{t: t, do: do, dir: t.TempDir(), fs: faultfs.New(1), c: newCollector(t)}
	if err := need.Program(q.dir+"/script", fmt.Appendf(nil, "#!/bin/sh\necho \"ran $*\" >>%s/ran\n", q.dir), 0o700); err != nil {
		t.Fatal(err)
	}
	return q
}

func (q *queueError) config(cfg Config) Config {
	cfg.Ship, cfg.ShutdownTimeout = shipTo(q.c.addr), time.Second
	cfg.actionPause = time.Hour // however slow this machine is, an action is done once
	cfg.Spool.FS, cfg.Spool.Dir = q.fs, "/spool"
	cfg.Remote = RemoteActions{QueueError: conf.Action{Do: q.do, Exec: q.dir + "/script"}}
	cfg.Actions = action.Config{Syslog: q.log.write, AllowHalt: true, Init: q.dir + "/script"}
	return cfg
}

func (q *queueError) runs() []string {
	b, err := os.ReadFile(q.dir + "/ran")
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// done waits for what the action does, and says so when it is more.
func (q *queueError) done(s *started) {
	q.t.Helper()
	want := queueActions[q.do]
	wait(q.t, "the action is done", func() bool {
		return q.log.with("auditfleet forwarder: ") >= want.syslog && len(q.runs()) >= want.runs && (s.ship.metrics.Suspended.Load() == 1) == want.suspends &&
			(!want.suspends || s.ship.metrics.Connected.Load() == 0)
	})
}

// notMore is called when all is over.
func (q *queueError) notMore() {
	q.t.Helper()
	want := queueActions[q.do]
	if n := q.log.with("auditfleet forwarder: "); n != want.syslog {
		q.t.Errorf("%d messages to syslog, want %d: %q", n, want.syslog, q.log.lines)
	}
	args := map[conf.Do]string{conf.DoExec: "ran ", conf.DoSingle: "ran 1", conf.DoHalt: "ran 0"}[q.do]
	if got := q.runs(); len(got) != want.runs || want.runs > 0 && got[0] != args {
		q.t.Errorf("programs that ran: %q, want %d of %q", got, want.runs, args)
	}
}

// numbers of the records ": n=…" of lines.
func numbers(t *testing.T, lines []string) (n []int) {
	t.Helper()
	for _, l := range lines {
		if _, what, ok := strings.Cut(l, ": n="); ok {
			i, err := strconv.Atoi(what)
			if err != nil {
				t.Fatal(err)
			}
			n = append(n, i)
		}
	}
	return n
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// The disk of the spool fails for good while the kernel's records come: what
// queue_error_action says is done, once however many records that meets, the local
// log has every record, and those the spool did not take are counted and said.
func TestQueueErrorOfTheKernelsRecords(t *testing.T) {
	t.Parallel()
	for _, op := range []faultfs.Op{faultfs.Write, faultfs.Sync} {
		for _, do := range actionsTried() {
			t.Run(fmt.Sprintf("%s %s", op, do), func(t *testing.T) {
				t.Parallel()
				q := newQueueError(t, do)
				k := fakekernel.New()
				start := func() *started {
					return startAgent(t, fake(k, q.config(Config{
						Spool: spool.Options{SyncInterval: 20 * time.Millisecond}, Log: locallog.Config{Path: q.dir + "/audit.log", NumLogs: 2},
					})))
				}
				s := start()
				n := 0
				emit := func(more int) {
					for ; more > 0; more-- {
						k.Emit(1300, fmt.Sprint("n=", n))
						wait(t, "it is handed on", func() bool { return slices.Contains(numbers(t, fileLines(t, q.dir+"/audit.log")), n) })
						n++
					}
				}
				emit(10)
				wait(t, "the first are there", func() bool { return len(numbers(t, q.c.got())) == 10 && s.ship.spool.Left() == 0 })
				q.fs.FailRange(op, 1, forGood, unix.EIO)
				wait(t, "the spool has failed", func() bool { emit(1); return s.losses()["spool-error"] > 0 })
				q.done(s)
				emit(20)
				// Two more are ours and the kernel's own of the start.
				wait(t, "each is taken or counted", func() bool { return s.ship.spool.Stats().Last+s.losses()["spool-error"] == uint64(n+2) })
				counted := int(s.losses()["spool-error"])
				q.fs.Heal() // too late for this spool, but it can be closed
				s.stop()
				if err := s.end(t); err != nil {
					t.Error(err)
				}
				q.notMore()
				inLog := fileLines(t, q.dir+"/audit.log")
				if diff := cmp.Diff(upTo(n), numbers(t, inLog)); diff != "" {
					t.Errorf("the local log: %s", diff)
				}
				if said := saidLost(t, inLog)["spool-error"]; said < counted || said > counted+1 { // audit off may be before or after it
					t.Errorf("%d counted, %d said in the local log", counted, said)
				}
				// What was taken and not sent goes out with the next start.
				s = start()
				wait(t, "the rest is sent", func() bool { return s.ship.spool.Left() == 0 })
				emit(1)
				wait(t, "what came after", func() bool { return slices.Contains(numbers(t, q.c.got()), n-1) })
				s.stop()
				if err := s.end(t); err != nil {
					t.Fatal(err)
				}
				arrived := numbers(t, q.c.got())
				slices.Sort(arrived)
				if len(slices.Compact(slices.Clone(arrived))) != len(arrived) {
					t.Errorf("some arrived twice: %v", arrived)
				}
				if gone := n - len(arrived); gone != counted {
					t.Errorf("%d did not arrive, %d are counted", gone, counted)
				}
			})
		}
	}
}

// A source of lines has its records still: the program does what
// queue_error_action says and ends, so that whoever feeds it starts it anew, with a
// spool that is opened anew. With suspend it stays. What was read is counted.
func TestQueueErrorOfLines(t *testing.T) {
	t.Parallel()
	for _, do := range actionsTried() {
		t.Run(string(do), func(t *testing.T) {
			t.Parallel()
			q := newQueueError(t, do)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			s := startAgent(t, q.config(Config{Source: SourceStdin, Stdin: r}))
			say := func(n int) { fmt.Fprintf(w, "type=USER msg=audit(1.000:1): n=%d\n", n) }
			say(0)
			wait(t, "the first is there", func() bool { return len(q.c.got()) == 1 && s.ship.spool.Left() == 0 })
			q.fs.FailRange(faultfs.Write, 1, forGood, unix.EIO)
			say(1)
			if do != conf.DoSuspend {
				err := <-s.done
				if err == nil || !strings.Contains(err.Error(), "spool") {
					t.Errorf("%v, want an error of the spool", err)
				}
				s.done <- err
				q.fs.Heal() // so that it can be closed
				_ = s.end(t)
			} else {
				q.done(s)
				say(2)
				time.Sleep(3 * retrySpool) // it tries again, and does not end
				select {
				case err := <-s.done:
					t.Fatalf("it has ended: %v", err)
				default:
				}
				q.fs.Heal()
				s.stop()
				if err := s.end(t); err != nil {
					t.Error(err)
				}
			}
			q.notMore()
			if n := s.losses()["spool-error"]; n < 1 || n > 2 {
				t.Errorf("%v counted", n)
			}
			if got := numbers(t, q.c.got()); len(got) != 1 {
				t.Errorf("arrived: %v", got)
			}
		})
	}
}

// The spool cannot be read: the action is done, nothing is given up, and with the
// disk back everything is sent, for suspend and stop after SIGUSR2.
func TestQueueErrorOfReading(t *testing.T) {
	t.Parallel()
	for _, do := range actionsTried() {
		want := queueActions[do]
		t.Run(string(do), func(t *testing.T) {
			t.Parallel()
			q := newQueueError(t, do)
			o := spool.Options{FS: q.fs, Dir: "/spool"}
			sp, _, err := spool.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				if err := sp.Append(nil, fmt.Appendf(nil, "type=USER msg=audit(1.000:%d): n=%d", i, i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := sp.Close(); err != nil {
				t.Fatal(err)
			}
			cfg := fake(fakekernel.New(), q.config(Config{}))
			open := cfg.OpenKernel
			cfg.OpenKernel = func(kc kernel.Config) (*kernel.Listener, error) {
				q.fs.FailRange(faultfs.Read, 1, forGood, unix.EIO) // the spool was opened before
				return open(kc)
			}
			s := startAgent(t, cfg)
			q.done(s)
			wait(t, "it was tried", func() bool { return s.ship.metrics.Connects.Load() > 0 })
			if got := numbers(t, q.c.got()); len(got) > 0 {
				t.Errorf("arrived: %v", got)
			}
			q.fs.Heal()
			if want.suspends {
				time.Sleep(50 * time.Millisecond)
				if got := q.c.got(); len(got) > 0 {
					t.Errorf("%d sent while suspended", len(got))
				}
				s.Resume()
			}
			wait(t, "everything is sent", func() bool { return len(numbers(t, q.c.got())) == 100 && s.ship.spool.Left() == 0 })
			s.stop()
			if err := s.end(t); err != nil {
				t.Fatal(err)
			}
			q.notMore()
			if diff := cmp.Diff(upTo(100), numbers(t, q.c.got())); diff != "" {
				t.Error(diff)
			}
		})
	}
}
