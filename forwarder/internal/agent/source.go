package agent

import (
	"context"
	"time"

	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// source is where records come from. Each kind has its own file (kernel.go, lines.go,
// nowhere below), and no other code of the agent asks which kind it is. run, and the
// methods that it calls, run in the pump's goroutine; each other method says who calls it.
type source interface {
	// waits reports whether records stay where they come from while the spool takes none. A
	// source that can't wait loses them, counted. Any goroutine may ask.
	waits() bool
	// whenFull says, for the log, what becomes of records that a full spool refuses.
	whenFull() string
	// hungUp reports whether whoever writes to the source is gone, so that a full spool is
	// not to be waited for. Any goroutine may ask.
	hungUp() bool

	// resume is called by Open once the spool is there, where there is one: a source that can
	// be read again goes on behind the last record that the spool has.
	resume() error
	// open is the last thing Open does: records come from then on.
	open() error
	// run hands on records until the source is over or ctx ends, then what was still on its
	// way, and last what is to be said of the end. abort cuts short what it waits for.
	run(ctx, abort context.Context) error
	// lastWait is how long the spool may still be shipped once run has returned because the
	// end was asked for.
	lastWait() time.Duration
	// close is called after run or in its place, and may be called again.
	close() error

	// reload takes over what a changed configuration says of the source. Called by the pump.
	reload(Changed)

	// unready says why no record can come now, "" when they can. Any goroutine may ask once
	// Open has returned, as of all that follows.
	unready() string
	// condition is what a statement says of the kernel; the zero one of a source that is none.
	condition() condition
	// lost is how many records were lost on the way in, by kernel.Cause; nil: none can be.
	lost() map[string]uint64
	// state adds the source's lines to the state report. Called by the pump.
	state(line func(format string, args ...any))
	// register adds the source's metrics.
	register(*metrics.Registry)
	// turns counts the turns of the loop that takes records in. Any goroutine may ask.
	turns() uint64
	// ends reports whether the source ends by itself, and progress says how far it is, of
	// the records handed on.
	ends() bool
	progress(records uint64) string
}

// newSource makes the source that the configuration names, and opens what must be there
// before anything else is made.
func (a *Agent) newSource() (err error) {
	switch a.cfg.Source {
	case SourceKernel:
		a.daemon = newKernelSource(a)
		a.src = a.daemon
	case SourceMulticast:
		a.src = newKernelSource(a)
	case SourceNone:
		a.src = nowhere{a}
	default:
		var s *lineSource
		if s, err = openLines(a); err == nil {
			a.src = s
		}
	}
	return err
}

// nowhere is the source without records: only what the spool holds is shipped.
type nowhere struct{ a *Agent }

func (nowhere) waits() bool                                { return true }
func (nowhere) whenFull() string                           { return "reading waits" }
func (nowhere) hungUp() bool                               { return false }
func (nowhere) resume() error                              { return nil }
func (nowhere) open() error                                { return nil }
func (nowhere) run(context.Context, context.Context) error { return nil }
func (n nowhere) lastWait() time.Duration                  { return n.a.cfg.ShutdownTimeout }
func (nowhere) close() error                               { return nil }
func (nowhere) reload(Changed)                             {}
func (nowhere) unready() string                            { return "" }
func (nowhere) condition() condition                       { return condition{} }
func (nowhere) lost() map[string]uint64                    { return nil }
func (nowhere) state(func(string, ...any))                 {}
func (nowhere) register(*metrics.Registry)                 {}
func (n nowhere) turns() uint64                            { return n.a.pump.turned.Load() }
func (nowhere) ends() bool                                 { return true }
func (nowhere) progress(uint64) string                     { return "the spool" }
