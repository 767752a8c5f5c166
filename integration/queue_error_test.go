package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// queueErrorSeen is what a sender does whose queue's disk has begun to fail.
type queueErrorSeen struct {
	Ends bool // by itself, with its input still open
	Exit int
	Runs int // of the program of exec
}

// queueErrorPlay has a sender deliver one record, makes every later write of its
// queue fail, and gives it four more. What is wanted of it is waited for; what is not has three seconds.
func queueErrorPlay(t *testing.T, dir, action string, ours bool, want queueErrorSeen) queueErrorSeen {
	t.Helper()
	c := startCollector(t, harness.CollectorOptions{})
	script := dir + "/script"
	if err := need.Program(script, fmt.Appendf(nil, "#!/bin/sh\necho ran >>%s/ran\n", dir), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "audisp-remote.conf")
	writeFile(t, conf, fmt.Sprintf("remote_server = 127.0.0.1\nport = %d\nmode = forward\nqueue_file = %s/queue\nqueue_depth = 200\nnetwork_failure_action = ignore\nqueue_error_action = %s\n",
		c.Port, dir, strings.Replace(action, "exec", "exec "+script, 1)))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	say := func(i int) { fmt.Fprintf(w, "node=q type=USER msg=audit(170000000%d.000:%d): n=%d\n", i, i, i) }
	strace := []string{"strace", "-f", "-qq", "-e", "trace=pwrite64", "-o", dir + "/strace"}
	var p, tracer *harness.Proc
	if ours {
		p = remoteForwarder(t, dir, conf, r)
	} else {
		// Its first three writes make the file and queue the first record.
		p, err = harness.Start(harness.Spec{
			Name: "stock audisp-remote", Args: append(strace, "-e", "inject=pwrite64:error=EIO:when=4+", "/sbin/audisp-remote"), In: r,
			Bind: [][2]string{{conf, "/etc/audit/audisp-remote.conf"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
	}
	say(1)
	if !harness.Poll(time.Minute, func() bool {
		n, err := c.Metric("auditfleet_collector_records_total")
		return err == nil && n >= 1 && len(found(t, c, "-n", "q")) == 1
	}) {
		t.Fatalf("the first record does not arrive:\n%s", p.Output())
	}
	if ours {
		tracer, err = harness.Start(harness.Spec{Name: "strace", Args: append(strace, "-e", "inject=pwrite64:error=EIO", "-p", fmt.Sprint(p.Pid()))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tracer.Kill)
		if !harness.Poll(time.Minute, func() bool { return traced(p.Pid()) }) {
			t.Fatalf("it is not traced: %s", tracer.Output())
		}
	}
	for i := 2; i <= 5; i++ {
		say(i)
		time.Sleep(100 * time.Millisecond)
	}
	limit := 3 * time.Second
	if want.Ends {
		limit = time.Minute
	}
	seen := queueErrorSeen{Ends: harness.Poll(limit, p.Exited)}
	if seen.Ends {
		seen.Exit = p.ExitCode()
	}
	harness.Poll(time.Minute, func() bool {
		if ran, err := os.ReadFile(dir + "/ran"); err == nil {
			seen.Runs = strings.Count(string(ran), "ran")
		}
		return seen.Runs >= want.Runs
	})
	if got := found(t, c, "-n", "q"); len(got) != 1 {
		t.Errorf("%s: delivered %q", action, got)
	}
	if says := strings.Contains(p.Output(), "audisp-remote queue_error_action"); ours && says == (action == "ignore") {
		t.Errorf("%s: the log tells of the action: %v\n%s", action, says, p.Output())
	}
	return seen
}

// traced reports whether each thread of a process is traced.
func traced(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(text), "TracerPid:\t0\n") {
			return false
		}
	}
	return err == nil && len(threads) > 0
}

// TestQueueErrorAction: a sender whose queue cannot be written any more, the stock
// one and ours, with each action of audisp-remote.conf(5) that a machine survives.
// The stock sender reads on and drops what it reads, but for stop. Ours keeps no
// record that it can't, so it ends and leaves its input to whoever feeds it, except
// that suspend stays, as the manual page has it.
func TestQueueErrorAction(t *testing.T) {
	stockPeers(t)
	need.Stock(t, "strace")
	ended := queueErrorSeen{Ends: true, Exit: 1}
	for action, want := range map[string]struct{ stock, ours queueErrorSeen }{
		"ignore":             {ours: ended},
		"syslog":             {ours: ended},
		"exec":               {stock: queueErrorSeen{Runs: 5}, ours: queueErrorSeen{Ends: true, Exit: 1, Runs: 1}},
		"warn_once":          {ours: ended},
		"warn_once_continue": {ours: ended},
		"suspend":            {},
		"stop":               {stock: queueErrorSeen{Ends: true}, ours: ended},
	} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			stock := queueErrorPlay(t, t.TempDir(), action, false, want.stock)
			ours := queueErrorPlay(t, t.TempDir(), action, true, want.ours)
			if diff := cmp.Diff(want.stock, stock); diff != "" {
				t.Errorf("the stock sender: %s", diff)
			}
			if diff := cmp.Diff(want.ours, ours); diff != "" {
				t.Errorf("ours: %s", diff)
			}
		})
	}
}
