package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/syslog"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// every sets all actions to one.
func every(do conf.Do, exec string) RemoteActions {
	a := conf.Action{Do: do, Exec: exec}
	return RemoteActions{
		NetworkFailure: a, StartupFailure: a, RemoteEnding: a, DiskLow: a, DiskFull: a, DiskError: a,
		GenericError: a, GenericWarning: a, QueueError: a, Overflow: a, MaxTries: 3, MaxTime: time.Minute,
	}
}

// What each action comes to, for each condition: whether it is done the first
// time, again at once, and again after a record was stored, and what becomes of
// the record. The columns are those of audisp-remote.conf(5).
func TestActionsOfEachCondition(t *testing.T) {
	type row struct {
		first, again, later int // how often it was done in all
		decision            ship.Decision
	}
	rows := map[conf.Do]row{
		"":                      {0, 0, 0, ship.Retry},
		conf.DoIgnore:           {0, 0, 0, ship.Drop},
		conf.DoSyslog:           {1, 1, 1, ship.Drop}, // not more often than each repeatAfter
		conf.DoExec:             {1, 1, 1, ship.Drop},
		conf.DoWarnOnceContinue: {1, 1, 2, ship.Drop},
		conf.DoWarnOnce:         {1, 1, 2, ship.Retry},
		conf.DoReconnect:        {0, 0, 0, ship.Retry},
		conf.DoSuspend:          {1, 2, 3, ship.Suspend},
		conf.DoStop:             {1, 2, 3, ship.Suspend},
		conf.DoSingle:           {1, 1, 2, ship.Retry},
		conf.DoHalt:             {1, 1, 2, ship.Retry},
	}
	// Where nothing was refused there is nothing to give up.
	kept := map[string]bool{"startup_failure": true, "remote_ending": true, "queue_error": true, "spool_error": true, "overflow": true}
	// The spool meets its trouble with every batch, also while nothing is sent.
	often := map[string]bool{"queue_error": true, "spool_error": true, "overflow": true}
	conditions := map[string]func(*policy) ship.Decision{
		"network_failure": func(p *policy) ship.Decision {
			return p.report(ship.Report{Condition: ship.NetworkFailure, Attempts: 3, Since: time.Now(), Waiting: 1, Err: net.ErrClosed})
		},
		"startup_failure": func(p *policy) ship.Decision {
			return p.report(ship.Report{Condition: ship.StartupFailure, Err: net.ErrClosed})
		},
		"spool_error": func(p *policy) ship.Decision { return p.spool(errors.New("broken")) },
		"overflow":    func(p *policy) ship.Decision { return p.spool(fmt.Errorf("append: %w", spool.ErrFull)) },
	}
	for name, c := range map[string]ship.Condition{
		"remote_ending": ship.RemoteEnding, "queue_error": ship.QueueError, "disk_low": ship.DiskLow, "disk_full": ship.DiskFull,
		"disk_error": ship.DiskError, "generic_error": ship.GenericError, "generic_warning": ship.GenericWarning,
	} {
		conditions[name] = func(p *policy) ship.Decision {
			return p.report(ship.Report{Condition: c, Server: "s", Reply: remote.DiskFull.String(), Text: "no", Err: net.ErrClosed})
		}
	}
	for do, want := range rows {
		for name, happens := range conditions {
			done := 0
			p := newPolicy(func(a conf.Action, m action.Message) {
				if a.Do != do || !strings.HasPrefix(m.Condition, "audisp-remote ") || !strings.HasPrefix(m.Text, "auditfleet forwarder: ") {
					t.Errorf("%s %s: does %v: %+v", name, do, a, m)
				}
				done++
			}, every(do, "/bin/true"))
			decision := want.decision
			if decision == ship.Drop && kept[name] {
				decision = ship.Retry
			}
			want := want
			if decision == ship.Suspend && often[name] {
				want.again, want.later = 1, 1
			}
			var got row
			got.decision = happens(p)
			got.first = done
			happens(p)
			got.again = done
			p.report(ship.Report{Condition: ship.Recovered})
			happens(p)
			got.later = done
			if got != (row{want.first, want.again, want.later, decision}) {
				t.Errorf("%s = %s: %+v, want %+v, %d", name, do, got, want, decision)
			}
			if by := p.suspendedBy(); (by != "") != (decision == ship.Suspend) {
				t.Errorf("%s = %s: suspended by %q", name, do, by)
			}
		}
	}
}

// network_failure_action waits for max_tries_per_record or max_time_per_record,
// and for a record.
func TestTriesAndTimeOfARecord(t *testing.T) {
	for name, c := range map[string]struct {
		r    ship.Report
		want ship.Decision
	}{
		"early":      {ship.Report{Attempts: 2, Since: time.Now(), Waiting: 1}, ship.Retry},
		"tries":      {ship.Report{Attempts: 3, Since: time.Now(), Waiting: 1}, ship.Suspend},
		"time":       {ship.Report{Attempts: 1, Since: time.Now().Add(-2 * time.Minute), Waiting: 1}, ship.Suspend},
		"no records": {ship.Report{Attempts: 0, Waiting: 0}, ship.Retry},
	} {
		p := newPolicy(func(conf.Action, action.Message) {}, every(conf.DoStop, ""))
		c.r.Condition = ship.NetworkFailure
		if got := p.report(c.r); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// said collects what goes to syslog.
type said struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (s *said) write(_ syslog.Priority, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(text))
	return nil
}

func (s *said) with(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// A server that refuses one record, with each action that a file may say: what
// the server has in the end, what is counted and said in the stream, and that
// what is suspended goes on after Resume.
func TestRefusedRecordThroughTheAgent(t *testing.T) {
	t.Parallel()
	for _, reply := range []remote.Type{remote.DiskFull, remote.DiskError, 0x60000099} {
		for _, do := range []conf.Do{"", conf.DoIgnore, conf.DoSyslog, conf.DoExec, conf.DoWarnOnce, conf.DoWarnOnceContinue, conf.DoSuspend, conf.DoStop} {
			t.Run(fmt.Sprintf("%v %s", reply, do), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				script := dir + "/script"
				if err := need.Program(script, fmt.Appendf(nil, "#!/bin/sh\necho ran >%s/ran\n", dir), 0o700); err != nil {
					t.Fatal(err)
				}
				c := newCollector(t)
				c.answer(func(line string) remote.Type {
					if strings.Contains(line, `key="k2"`) {
						return reply
					}
					return remote.Ack
				})
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				var log said
				s := startAgent(t, Config{
					Source: SourceStdin, Stdin: r, Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"},
					Remote: every(do, script), Actions: action.Config{Syslog: log.write},
				})
				lines := sample(1, 3)
				fmt.Fprintln(w, strings.Join(lines, "\n"))
				gaveUp := do == conf.DoIgnore || do == conf.DoSyslog || do == conf.DoExec || do == conf.DoWarnOnceContinue
				want := lines
				if gaveUp {
					want = []string{lines[0], lines[2]}
					wait(t, "the loss is said in the stream", func() bool {
						got := c.got()
						return len(got) == 3 && strings.Contains(got[2], "op=lost-records cause=given-up records=1 ")
					})
				} else {
					wait(t, "the record was refused", func() bool {
						return s.ship.metrics.DiskFull.Load()+s.ship.metrics.DiskError.Load()+s.ship.metrics.OtherErrors.Load() > 0
					})
				}
				switch do {
				case conf.DoExec:
					wait(t, "the program ran", func() bool { _, err := os.Stat(dir + "/ran"); return err == nil })
				case conf.DoSuspend, conf.DoStop:
					wait(t, "it is suspended", func() bool {
						return s.ship.metrics.Suspended.Load() == 1 && s.ship.metrics.Connected.Load() == 0 && log.with("until SIGUSR2") == 1
					})
					c.answer(nil)
					s.Resume()
				case conf.DoWarnOnce, "":
					time.Sleep(50 * time.Millisecond)
					c.answer(nil)
				}
				w.Close()
				if err := s.end(t); err != nil {
					t.Fatal(err)
				}
				got := c.got()
				if gaveUp {
					got = got[:min(2, len(got))]
				}
				slices.Sort(got) // the third was in flight when the second was refused
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				lost := uint64(0)
				if gaveUp {
					lost = 1
				}
				if n := s.losses()["given-up"]; n != lost {
					t.Errorf("%v counted as given up", n)
				}
				tells := do == conf.DoSyslog || do == conf.DoWarnOnce || do == conf.DoWarnOnceContinue
				if n := log.with("answered"); tells && n != 1 || (do == conf.DoIgnore || do == "" || do == conf.DoExec) && n != 0 {
					t.Errorf("syslog has it %d times: %q", n, log.lines)
				}
			})
		}
	}
}

// stop and a source with an end: it is said at once what is left and why, and the
// next run has it.
func TestStoppedAtTheEndOfTheInput(t *testing.T) {
	dir := t.TempDir()
	writeLines(t, dir+"/in", sample(1, 10))
	c := newCollector(t)
	c.answer(func(string) remote.Type { return remote.DiskFull })
	cfg := Config{
		Source: dir + "/in", Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool"}, Remote: every(conf.DoStop, ""),
		Actions: action.Config{Syslog: new(said).write}, DrainTimeout: time.Hour,
	}
	err := startAgent(t, cfg).end(t)
	if !errors.Is(err, ErrLeft) || !strings.Contains(err.Error(), "disk_full_action = stop") || !strings.Contains(err.Error(), "10 records") {
		t.Fatalf("%v", err)
	}
	c.answer(nil)
	writeLines(t, dir+"/empty", nil)
	if err := os.Truncate(dir+"/empty", 0); err != nil {
		t.Fatal(err)
	}
	cfg.Source = dir + "/empty"
	if err := startAgent(t, cfg).end(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(1, 10), c.got()); diff != "" {
		t.Error(diff)
	}
}

// overflow_action = suspend with a source that waits for room: SIGUSR2 must reach
// the sender though the pump waits.
func TestOverflowSuspendsAndResumes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var lines []string
	for _, l := range sample(1, 4000) {
		lines = append(lines, l+strings.Repeat("x", 500))
	}
	writeLines(t, dir+"/in", lines)
	c := newCollector(t)
	c.answer(func(string) remote.Type { return remote.DiskFull })
	var log said
	cfg := Config{
		Source: dir + "/in", Ship: shipTo(c.addr), Spool: spool.Options{Dir: dir + "/spool", MaxBytes: 1 << 20},
		Remote: RemoteActions{Overflow: conf.Action{Do: conf.DoSuspend}}, Actions: action.Config{Syslog: log.write},
	}
	s := startAgent(t, cfg)
	wait(t, "it is suspended", func() bool { return s.ship.metrics.Suspended.Load() == 1 && log.with("overflow_action = suspend") == 1 })
	wait(t, "what was on its way is refused", c.idle)
	c.answer(nil)
	time.Sleep(20 * time.Millisecond) // what is sent all the same would come now
	if n := len(c.got()); n != 0 {
		t.Errorf("%d records were sent", n)
	}
	// As the signal has it: the pump may wait until the next one, and what Resume has for it as long.
	resume := func() { go s.Resume() }
	resume()
	// It is full again at once, and suspends again: the action is followed.
	for range 200 {
		if s.ship.spool.Left() == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
		resume()
	}
	wait(t, "all is sent, or its input has ended while it was suspended", func() bool {
		resume()
		return len(c.got()) >= len(lines) || len(s.done) > 0
	})
	if err := s.end(t); errors.Is(err, ErrLeft) { // what is left is the next run's
		writeLines(t, dir+"/empty", nil)
		if err := os.Truncate(dir+"/empty", 0); err != nil {
			t.Fatal(err)
		}
		cfg.Source = dir + "/empty"
		if err := startAgent(t, cfg).end(t); err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines, c.got()); diff != "" {
		t.Errorf("%d of %d", len(c.got()), len(lines))
	}
}
