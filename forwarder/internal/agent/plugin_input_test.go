package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
)

// pluginOn is an agent fed by a dispatcher's pipe, and the dispatcher's end.
func pluginOn(t *testing.T, dir string, cfg Config) (Config, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	cfg.Source, cfg.Stdin, cfg.Plugin, cfg.Spool.Dir = SourceStdin, r, true, dir
	return cfg, w
}

// The dispatcher ends while the collector is away: the plugin leaves the spool at once,
// as a good end; the next one, which was started before that, waits for it, takes in
// what it was fed meanwhile, and all arrives when the collector is back.
func TestPluginHandsTheSpoolOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/spool"
	cfg, feed := pluginOn(t, dir, Config{Ship: shipTo("127.0.0.1:1"), DrainTimeout: time.Hour, ShutdownTimeout: time.Hour})
	first := startAgent(t, cfg)
	lines := sample(1, 300)
	fmt.Fprintln(feed, strings.Join(lines[:200], "\n"))
	wait(t, "the first has them", func() bool { return first.ship.spool.Left() == 200 })
	c := newCollector(t)
	cfg, feed2 := pluginOn(t, dir, Config{Ship: shipTo(c.addr)})
	second := make(chan *started, 1)
	failed := make(chan error, 1)
	go func() {
		a, err := Open(context.Background(), cfg)
		if err != nil {
			failed <- err
			return
		}
		s := &started{Agent: a, done: make(chan error, 1)}
		var soft, abort context.Context
		soft, s.stop = context.WithCancel(context.Background())
		abort, s.kill = context.WithCancel(context.Background())
		go func() { s.done <- a.Run(soft, abort) }()
		second <- s
	}()
	fmt.Fprintln(feed2, strings.Join(lines[200:], "\n"))
	select {
	case <-second:
		t.Fatal("two have the spool")
	case err := <-failed:
		t.Fatal("it did not wait for the spool: ", err)
	case <-time.After(200 * time.Millisecond):
	}
	feed.Close()
	if err := first.end(t); err != nil { // its timeouts are an hour
		t.Errorf("the end of a plugin's input: %v", err)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	case s := <-second:
		defer func() { feed2.Close(); s.end(t) }()
	}
	wait(t, "all arrives", func() bool { return len(c.got()) >= len(lines) })
	if diff := cmp.Diff(lines, c.got()); diff != "" {
		t.Error(diff)
	}
}

// A plugin's spool is full and set to make its input wait: it hears the end of the
// input, and being told to end, all the same, and counts what it can't keep.
func TestFullSpoolHearsTheEnd(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"end of input", "told"} {
		t.Run(how, func(t *testing.T) {
			cfg, feed := pluginOn(t, t.TempDir()+"/spool", Config{Ship: shipTo("127.0.0.1:1"), Spool: spool.Options{MaxBytes: 1 << 20}, DrainTimeout: time.Hour})
			s := startAgent(t, cfg)
			const n = 2500
			written := make(chan error, 1)
			go func() {
				_, err := io.WriteString(feed, strings.Repeat(sample(1, 1)[0]+strings.Repeat("x", 900)+"\n", n))
				written <- err
			}()
			wait(t, "the spool is full", func() bool { return s.ship.spool.Counts().Refused > 0 })
			if how == "told" {
				s.stop()
				if err := <-written; err != nil {
					t.Error(err)
				}
				feed.Close()
			} else {
				// What is on its way comes to the pipe first.
				wait(t, "the pipe is full", func() bool { return s.ship.spool.Counts().Refused > 10 })
				feed.Close()
				<-written // cut short
			}
			if err := s.end(t); err != nil {
				t.Error(err)
			}
			taken, lost := s.ship.spool.Left(), s.pump.spoolError.Load()
			if how == "told" && taken+lost != n || taken == 0 || lost == 0 {
				t.Errorf("%d taken and %d counted as lost of %d", taken, lost, n)
			}
		})
	}
}

// An address for metrics that somebody else has costs the metrics, until it is free.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newCollector(t)
	cfg, feed := pluginOn(t, t.TempDir()+"/spool", Config{Ship: shipTo(c.addr), HTTP: taken.Addr().String()})
	s := startAgent(t, cfg)
	fmt.Fprintln(feed, sample(1, 1)[0])
	wait(t, "a record arrives", func() bool { return len(c.got()) == 1 })
	if s.HTTPAddr() != "" {
		t.Error("it has the address")
	}
	taken.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	wait(t, "metrics once the address is free", func() bool {
		resp, err := client.Get("http://" + cfg.HTTP + "/metrics")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	cfg.HTTP = "nonsense"
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "--http") {
		t.Errorf("an address that is none: %v", err)
	}
}

// Told to end before all of a file is read, the agent does not say that all of it was acknowledged.
func TestToldBeforeTheEndOfAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeLines(t, dir+"/in", sample(1, 40_000))
	// Nobody takes them: the spool fills, and the file waits.
	s := startAgent(t, Config{Source: dir + "/in", Ship: shipTo("127.0.0.1:1"), Spool: spool.Options{Dir: dir + "/spool", MaxBytes: 1 << 20}, ShutdownTimeout: 10 * time.Millisecond})
	wait(t, "the spool is full", func() bool { return s.ship.spool.Counts().Refused > 0 })
	s.stop()
	if err := s.end(t); !errors.Is(err, ErrLeft) || !strings.Contains(err.Error(), "told to end before all of "+dir+"/in was read") || strings.Contains(err.Error(), "within") {
		t.Errorf("%v", err)
	}
}

// Told to end while it drains, a program says how long it really waited.
func TestLeftSaysTheTrueTime(t *testing.T) {
	dir := t.TempDir()
	writeLines(t, dir+"/in", sample(1, 10))
	s := startAgent(t, Config{Source: dir + "/in", Ship: shipTo("127.0.0.1:1"), Spool: spool.Options{Dir: dir + "/spool"}, DrainTimeout: time.Hour, ShutdownTimeout: 10 * time.Millisecond})
	wait(t, "all is read", func() bool { return s.ship.spool.Left() == 10 })
	wait(t, "the input is over", func() bool {
		select {
		case <-s.over:
			return true
		default:
			return false
		}
	})
	s.stop()
	if err := s.end(t); err == nil || strings.Contains(err.Error(), "1h") || !strings.Contains(err.Error(), "within ") {
		t.Errorf("%v", err)
	}
}
