package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// reporter knows when the state report is due.
type reporter struct {
	mu      sync.Mutex // guards what follows
	every   time.Duration
	last    time.Time
	written bool
}

// setWritten returns what it was.
func (r *reporter) setWritten(now bool) (was bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, r.written = r.written, now
	return was
}

func (r *reporter) setEvery(d time.Duration) {
	r.mu.Lock()
	r.every = d
	r.mu.Unlock()
}

func (r *reporter) due(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.every <= 0 || now.Sub(r.last) < r.every {
		return false
	}
	r.last = now
	return true
}

// Report writes the state report, as SIGCONT asks. The pump writes it; any goroutine may
// call Report while Run runs.
func (a *Agent) Report() { a.do(a.writeReport) }

func (a *Agent) writeReport() {
	if a.cfg.Report == "" {
		return
	}
	if err := fsys.ReplaceShared(a.cfg.Report, a.state(), 0o640, false); err != nil {
		a.cfg.Logger.Error("the state report could not be written", "error", err)
		return
	}
	a.report.setWritten(true)
}

// removeReport takes the report away at the end, as the stock daemon does: what it
// says is over.
func (a *Agent) removeReport() error {
	if !a.report.setWritten(false) {
		return nil
	}
	if err := os.Remove(a.cfg.Report); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// state returns the report's text: the lines of the stock daemon's report with its names,
// then this program's. Only the pump calls it.
func (a *Agent) state() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("audit version = %s", a.cfg.Version)
	line("current time = %s", a.cfg.Now().Format("01/02/06 15:04:05"))
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil {
		line("process priority = %d", 20-nice) // the call returns 20 less the niceness
	}
	l := a.log.Load()
	line("writing to logs = %s", yesNo(l != nil))
	if l != nil {
		s := l.State()
		line("current log size = %d KB", s.Size>>10)
		line("max log size = %d KB", s.MaxSize>>10)
		line("logs detected last rotate/shift = %d", s.Rotated)
		line("space left on partition = %s", yesNo(s.Free > 0))
		line("Logging partition free space %d MB", s.Free>>20)
		line("space_left setting %d MB", s.SpaceLeft>>20)
		line("admin_space_left setting %d MB", s.Admin>>20)
		line("logging suspended = %s", yesNo(s.Suspended))
		line("file system space action performed = %s", yesNo(s.Low))
		line("admin space action performed = %s", yesNo(s.LowAdmin))
		line("disk error detected = %s", yesNo(s.Failing))
		line("log removed or renamed by another program, times = %d", l.Stats().Reopened)
		line("records in a removed log = %d", l.Stats().Nameless)
	}
	a.statePlugins(line)
	line("listening for network connections = no")
	line("records handed on = %d", a.pump.records.Load())
	lost := a.losses()
	for _, c := range kernel.Causes() {
		line("records lost, %s = %d", c, lost[c.String()])
	}
	line("records lost, local-log = %d", lost["local-log"])
	if a.ship != nil {
		line("of these in the spool or at the collector, where none of them is missing = %d", a.pump.shippedOnly.Load())
	}
	a.src.state(line)
	if a.ship != nil {
		s, m := a.ship.spool.Stats(), &a.ship.metrics
		line("connected to a collector = %s", yesNo(m.Connected.Load() > 0))
		line("remote logging suspended = %s", yesNo(m.Suspended.Load() > 0))
		line("records acknowledged = %d", m.Acked.Load())
		for _, by := range a.ship.sender.AckedBy() {
			line("acknowledged by %s", turn(&by))
		}
		if w := a.cfg.Witness; w != nil {
			c := w.Counts()
			line("collectors' logs witnessed = %d", c.Stores)
			line("findings about them that nobody has accepted = %d", c.Open)
		}
		line("spooled records = %d", s.Records)
		line("spool size = %d KB", s.Bytes>>10)
		line("oldest spooled record = %.0f s", s.Age.Seconds())
		line("spool removed or replaced by another program, times = %d", s.Moved)
		if s.Away != "" {
			line("spool in its place = no (%s)", s.Away)
		} else {
			line("spool in its place = yes")
		}
		for _, cause := range []string{"spool-full", "spool-error", "spool-damaged", "given-up", "collector-lost"} {
			line("records lost, %s = %d", cause, lost[cause])
		}
	}
	return b.Bytes()
}

func (a *Agent) statePlugins(line func(format string, args ...any)) {
	var stats []dispatch.Stats
	depth := 0
	if a.plugins != nil {
		stats, depth = a.plugins.Stats(), a.plugins.Depth()
	}
	var queued, most int
	var dropped, suspended bool
	for _, s := range stats {
		queued, most = max(queued, s.Queued), max(most, s.MostQueue)
		dropped, suspended = dropped || s.Dropped > 0, suspended || s.Suspended
	}
	line("Number of active plugins = %d", len(stats))
	line("current plugin queue depth = %d", queued)
	line("max plugin queue depth used = %d", most)
	line("plugin queue size = %d", depth)
	line("plugin queue overflow detected = %s", yesNo(dropped))
	line("plugin queueing suspended = %s", yesNo(suspended))
	for _, s := range stats {
		line("plugin %s: up = %s, pid = %d, queued = %d, delivered = %d, dropped = %d, restarts = %d", s.Name, yesNo(s.Up), s.PID, s.Queued, s.Delivered, s.Dropped, s.Restarts)
	}
}

// Status returns a line that says how far the agent has read a source that ends. Any
// goroutine may call it while Run runs.
func (a *Agent) Status() string {
	text := a.src.progress(a.pump.records.Load())
	if a.ship != nil {
		text += fmt.Sprintf(", %d acknowledged, %d left", a.ship.metrics.Acked.Load(), a.ship.spool.Left())
	}
	return text
}

// summary says what became of a source that has ended.
func (a *Agent) summary(begun time.Time) {
	took := a.cfg.Now().Sub(begun)
	n := a.pump.records.Load()
	words := []any{"source", a.cfg.Source, "records", n, "bytes", a.pump.bytes.Load()}
	if a.ship != nil {
		acked := a.ship.metrics.Acked.Load()
		words = append(words, "acknowledged", acked, "left", a.ship.spool.Left())
		n = max(n, acked)
	}
	rate := 0.0
	if took > 0 {
		rate = float64(n) / took.Seconds()
	}
	a.cfg.Logger.Info("done", append(words, "time", took.Round(time.Millisecond), "records_per_second", int64(rate))...)
}
