package agent

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// ErrLeft is returned by Run when the server did not acknowledge all of an input that ends by itself:
// not in time (the spool keeps the rest), or Run was told to end before it was read.
var ErrLeft = errors.New("not everything was acknowledged")

// Agent is a wired forwarder. The caller calls Run once, then Close.
//
// Its state belongs to the pump, the goroutine of src.run: only it uses pump, stores log
// and appends to the spool. Another goroutine that needs the pump sends a function on cmds,
// and the pump runs it between two batches; once over is closed the pump runs none.
// What others read without it is atomic (log, badInput, gaps) or has its own lock (act,
// report, web, the parts that are wired). reloading makes reloads follow one another.
type Agent struct {
	cfg  Config
	src  source
	pump pump
	log  atomic.Pointer[locallog.Log] // changed by the pump
	ship *shipping                    // nil: records stay on this host
	own  *own
	// daemon is the source that makes this process the host's audit daemon: the stream then
	// has records of ours about it. nil: it is a listener, or fed by another daemon.
	daemon *kernelSource

	plugins *dispatch.Dispatcher
	act     actions
	report  reporter
	web     web
	boosted int

	reloading sync.Mutex // held by Reload
	reload    metrics.Config
	cmds      chan func()   // run by the pump
	over      chan struct{} // closed when the pump runs nothing more

	nameless uint64 // records in a removed log, as last said; the pump's
	alive    alive  // the pump's
	badInput atomic.Uint64
	gaps     atomic.Uint64
}

// Open acquires everything: files first, the kernel's registration last. A failed Open has
// released all of it. After ctx has ended, Open still succeeds but waits for others only
// a moment; Run must follow then, too, to read what the input of a plugin still holds.
func Open(ctx context.Context, cfg Config) (_ *Agent, err error) {
	cfg.defaults()
	a := &Agent{cfg: cfg, own: newOwn(cfg.Version, cfg.Now), cmds: make(chan func()), over: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	a.pump = pump{logger: cfg.Logger, now: cfg.Now}
	a.alive = newAlive(cfg.Now())
	if cfg.Node != "" {
		if err := checkNode(cfg.Node); err != nil {
			return nil, err
		}
		a.pump.prefix = []byte("node=" + cfg.Node + " ")
	}
	if err := a.newSource(); err != nil {
		return nil, err
	}
	if cfg.HTTP != "" {
		if err := a.openHTTP(); err != nil {
			return nil, err
		}
	}
	a.report.setEvery(cfg.ReportEvery)
	a.boost(cfg.PriorityBoost) // before plugins are started: they inherit it
	if err := a.setActions(cfg.Actions); err != nil {
		return nil, err
	}
	if cfg.Log.Path != "" {
		l, err := locallog.Open(a.logConfig(cfg.Log))
		if err != nil {
			return nil, err
		}
		a.setLog(l)
	}
	if cfg.Ship != nil {
		if err := a.openShipping(ctx); err != nil {
			return nil, err
		}
	}
	if cfg.Plugins != nil {
		pc := *cfg.Plugins
		a.completePlugins(&pc)
		if a.plugins, err = dispatch.Open(pc); err != nil {
			return nil, err
		}
		a.pump.plugins = a.plugins
	}
	if err := a.src.open(); err != nil {
		return nil, err
	}
	if err := a.writePID(); err != nil {
		return nil, err
	}
	a.reload.Read(nil, a.cfg.Now())
	a.register(cfg.Metrics)
	return a, nil
}

// Run works until ctx ends, the input ends, or another process takes over the kernel's
// records. When ctx ends, the pump hands on everything that was received, and shipping
// has ShutdownTimeout to finish; when abort ends too, Run does not wait for that.
func (a *Agent) Run(ctx, abort context.Context) error {
	sendCtx, stopSending := context.WithCancel(context.Background())
	defer stopSending()
	var sending sync.WaitGroup
	if a.ship != nil {
		sending.Go(func() { a.ship.sender.Run(sendCtx) })
	}
	if w := a.cfg.Witness; w != nil && a.ship != nil {
		sending.Go(func() { w.Run(sendCtx) })
	}
	if a.cfg.Renew != nil {
		sending.Go(func() { a.cfg.Renew(sendCtx) })
	}
	a.serve()
	begun := a.cfg.Now()
	err := a.src.run(ctx, abort)
	close(a.over)
	pluginsEnded := make(chan error, 1)
	go func() { pluginsEnded <- a.closePlugins() }()
	if a.ship != nil {
		err = errors.Join(err, a.finish(ctx, abort, err))
	}
	err = errors.Join(err, <-pluginsEnded)
	stopSending()
	sending.Wait()
	if a.src.ends() {
		a.summary(begun)
	}
	return err
}

// Turns counts the turns of the loop that takes records in, which no collector may hold up, nor
// a disk where the source is the kernel. It grows at least every ten seconds while Run runs.
func (a *Agent) Turns() uint64 { return a.src.turns() }

// emit hands on records of ours.
func (a *Agent) emit(records ...kernel.Record) {
	a.pump.reset()
	for _, r := range records {
		a.pump.record(r)
	}
	a.pump.commitOrCount()
}

// do has the pump run f, if it still runs.
func (a *Agent) do(f func()) {
	select {
	case a.cmds <- f:
	case <-a.over:
	}
}

// pumpLoop is the pump's goroutine: it hands what the source delivers to handle, which says
// when nothing more will come, runs what others ask for (do), and calls tick once a second.
// It ends when the source does.
func pumpLoop[T any](a *Agent, delivered <-chan T, handle func(T) (over bool), tick func()) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for over := false; !over; {
		a.pump.turned.Add(1)
		select {
		case x, ok := <-delivered:
			over = !ok || handle(x)
		case f := <-a.cmds:
			f()
		case <-t.C:
			tick()
			a.tick()
		}
	}
}

func (a *Agent) closePlugins() error {
	if a.plugins == nil {
		return nil
	}
	return a.plugins.Close()
}

// Close releases everything. It may be called again, and after a failed Open.
func (a *Agent) Close() error {
	var errs []error
	if a.src != nil {
		errs = append(errs, a.src.close())
	}
	errs = append(errs, a.closePlugins())
	if l := a.log.Load(); l != nil {
		errs = append(errs, l.Close())
	}
	errs = append(errs, a.act.close())
	if a.ship != nil {
		errs = append(errs, a.ship.close())
	}
	if a.cfg.Names != nil {
		a.cfg.Names.Close()
	}
	return errors.Join(append(errs, a.stopServing(), a.removeReport(), a.removePID())...)
}
